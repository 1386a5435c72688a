"""Vector search: a full scan or an index; recall of indexes; reading vectors; faulty vectors."""

from __future__ import annotations

import math
import re
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, cast

from dbctl import signals
from dbctl.engines.contract.database import Condition, Where
from dbctl.engines.contract.vectors import (
    Metric,
    Recall,
    VectorColumn,
    VectorFault,
    VectorIndex,
    VectorSearch,
)
from dbctl.errors.databases import RowNotFoundError
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError, ValueInvalidError
from dbctl.extensions.lancedb import catalog, values
from dbctl.extensions.lancedb.reader import LancePart
from dbctl.extensions.lancedb.rows import ROW_ID
from dbctl.extensions.lancedb.values import VECTOR_BATCH_ROWS, Row, decoded_type, to_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.index import IndexConfig
    from lancedb.query import LanceQueryBuilder, LanceVectorQueryBuilder
    from lancedb.table import IndexStatistics
    from lancedb.table import Table as LibraryTable


#: Reported rows per kind of fault.
MAX_EXAMPLES = 3
KINDS = ("empty", "zeros", "not-finite", "length")


def find_faults(batches: Iterable[pa.RecordBatch], column: str, key: Sequence[str]) -> list[VectorFault]:
    """Return the faults of all vectors; ``batches`` have the vector column and the columns of ``key``."""
    counts: Counter[str | int] = Counter()  # by kind, or by length
    examples: defaultdict[str | int, list[Row]] = defaultdict(list)
    for batch in batches:
        signals.raise_if_interrupted()
        for kind, indexes in _classify_vectors(batch.column(column)):
            counts[kind] += len(indexes)
            sampled = indexes[: MAX_EXAMPLES - len(examples[kind])]
            examples[kind] += to_rows(batch.take(sampled), key) if sampled else []
    lengths = [length for length in counts if isinstance(length, int)]
    usual_length = max(lengths, key=counts.__getitem__, default=0)
    for length in lengths:
        if length != usual_length:
            counts["length"] += counts[length]
            examples["length"] += examples[length][: MAX_EXAMPLES - len(examples["length"])]
    return [
        VectorFault(kind=kind, count=counts[kind], examples=examples[kind])  # type: ignore[arg-type]
        for kind in KINDS
        if counts[kind]
    ]


def _classify_vectors(column: pa.Array) -> Iterator[tuple[str | int, list[int]]]:
    """Yield each kind of fault, and each length if the column accepts several, with the positions of its rows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    numbers = column.flatten().to_numpy(zero_copy_only=False)  # of valid vectors; null is NaN
    is_filled, is_finite, is_zero = lengths > 0, np.ones(len(column), bool), np.ones(len(column), bool)
    starts = (np.cumsum(lengths) - lengths)[is_filled]
    is_finite[is_filled] = np.logical_and.reduceat(np.isfinite(numbers), starts)
    is_zero[is_filled] = np.logical_and.reduceat(numbers == 0, starts)
    yield "empty", np.flatnonzero(~is_filled).tolist()
    yield "not-finite", np.flatnonzero(~is_finite).tolist()
    yield "zeros", np.flatnonzero(is_filled & is_zero).tolist()
    if not pa.types.is_fixed_size_list(column.type):
        for length in dict.fromkeys(lengths[is_filled].tolist()):
            yield length, np.flatnonzero(lengths == length).tolist()


#: The library's name of the distance column.
DISTANCE = "_distance"
#: The index returns this multiple of ``limit``, which is sorted again by the stored vectors, because an index may quantize.
REFINE_FACTOR = 10
#: The factor by which the number of fetched rows grows while the last ones have equal distances.
TIE_GROWTH = 8
#: More partitions than any index has.
MAX_PARTITIONS = 1 << 20
#: The number of searched partitions in an analyzed plan.
PARTITION_COUNT = re.compile(r"partitions_(?:ranked|searched)=(\d+)")


class LanceVectors(LancePart, VectorSearch):
    def vector_columns(self, table: str) -> Sequence[VectorColumn]:
        return catalog.vector_columns(table, self._catalog.arrow_schema(table))

    def find_nearest(
        self,
        table: str,
        vector: Sequence[float],
        columns: Sequence[str],
        *,
        column: str,
        limit: int,
        where: Sequence[Where] = (),
        metric: Metric = "cosine",
        exact: bool = True,
    ) -> list[Row]:
        description = self.require_vector_column(table, column)
        self._catalog.require_columns(table, columns)
        refuse_vector(vector, description, metric)
        if limit < 1:
            return []
        predicate, key = self._rows.predicate(table, where), self._catalog.primary_key(table)
        with self._catalog.translate_errors():
            exact = exact or not self._has_index(table, column, metric)
            query = self._search(table, column, vector, metric, [*columns, *key, DISTANCE], exact=exact)
            if predicate:
                query = query.where(predicate, prefilter=True)
            neighbours = self._include_ties(query, limit)
        return self._sort_neighbours(neighbours, columns, key)[:limit]

    def _search(
        self,
        table: str,
        column: str,
        vector: Sequence[float],
        metric: Metric,
        columns: Sequence[str],
        *,
        exact: bool,
    ) -> LanceQueryBuilder:
        """Return the query of the nearest rows, with row IDs."""
        table_search = self._catalog.open_table(table).search
        query = table_search(_normalize(vector, metric), vector_column_name=column).distance_type(metric)
        query = query.bypass_vector_index() if exact else query.refine_factor(REFINE_FACTOR)
        return query.select(list(dict.fromkeys(columns))).with_row_id(True)  # noqa: FBT003 - the library's

    def _include_ties(self, query: LanceQueryBuilder, limit: int) -> pa.Table:
        """Return the nearest rows and all rows at the distance of the last one, because the library returns any of them."""
        fetch_count = limit
        while True:
            signals.raise_if_interrupted()
            batch = query.limit(fetch_count + 1).to_arrow()
            distances = batch.column(DISTANCE).sort().to_pylist()
            if len(distances) <= fetch_count or distances[limit - 1] != distances[fetch_count]:
                return batch
            fetch_count *= TIE_GROWTH

    def _sort_neighbours(self, batch: pa.Table, columns: Sequence[str], key: Sequence[str]) -> list[Row]:
        import pyarrow as pa
        import pyarrow.compute as pc

        batch = batch.cast(pa.schema([field.with_type(decoded_type(field.type)) for field in batch.schema]))
        sort_keys = [(name, "ascending") for name in (DISTANCE, *key, ROW_ID)]
        sorted_batch = batch.take(pc.sort_indices(batch, sort_keys=sort_keys))
        return values.to_rows(sorted_batch, [*columns, DISTANCE])

    def _has_index(self, table: str, column: str, metric: Metric) -> bool:
        """Whether a column has an index for this metric; an index always uses its own metric."""
        for index in self._catalog.open_table(table).list_indices():
            if list(index.columns) == [column]:
                statistics = self._catalog.open_table(table).index_stats(index.name)
                return statistics is not None and (statistics.distance_type or "").lower() == metric
        return False

    def read_vector(self, table: str, key: Mapping[str, object], column: str) -> array[float] | None:
        self.require_vector_column(table, column)
        conditions = [Condition(name, "=", value) for name, value in key.items()]
        with self._catalog.translate_errors():
            batch = self._rows.scan(table, [column], conditions, limit=1).read_all()
        if not batch.num_rows:
            key_text = " ".join(str(value) for value in key.values())
            raise RowNotFoundError(table=table, target=self._target, key=ascii(key_text))
        return next(iter(to_arrays(batch.column(column).combine_chunks())))

    def stream_vectors(
        self, table: str, columns: Sequence[str], *, batch_size: int = 1000
    ) -> Iterator[list[Row]]:
        self._catalog.require_columns(table, columns)
        vectors = {column.column for column in self.vector_columns(table)}
        with self._catalog.translate_errors():
            for batch in self._rows.scan(table, list(columns), batch_rows=batch_size):
                signals.raise_if_interrupted()
                column_values = [
                    to_arrays(batch.column(name)) if name in vectors else values.to_python(batch.column(name))
                    for name in columns
                ]
                yield list(zip(*column_values, strict=True))

    def find_vector_faults(self, table: str, column: str, key: Sequence[str]) -> Sequence[VectorFault]:
        self.require_vector_column(table, column)
        self._catalog.require_columns(table, key)
        with self._catalog.translate_errors():
            batches = self._rows.scan(
                table, list(dict.fromkeys([*key, column])), batch_rows=VECTOR_BATCH_ROWS
            )
            return find_faults(batches, column, key)

    def vector_indexes(self, table: str) -> Sequence[VectorIndex]:
        vectors = {column.column for column in self.vector_columns(table)}
        with self._catalog.translate_errors():
            return [
                self._describe_index(table, index)
                for index in self._catalog.open_table(table).list_indices()
                if len(index.columns) == 1 and index.columns[0] in vectors
            ]

    def _describe_index(self, table: str, index: IndexConfig) -> VectorIndex:
        statistics = self._catalog.open_table(table).index_stats(index.name)
        return VectorIndex(
            name=index.name,
            column=index.columns[0],
            kind=statistics.index_type if statistics else index.index_type,
            metric=((statistics.distance_type if statistics else "") or "").lower(),
            rows=statistics.num_indexed_rows if statistics else 0,
            unindexed_rows=statistics.num_unindexed_rows if statistics else 0,
            partitions=self._count_partitions(table, index.columns[0], statistics) if statistics else None,
            bytes=index.size_bytes,
        )

    def _count_partitions(self, table: str, column: str, statistics: IndexStatistics) -> int | None:
        """Return the number of partitions, from the plan of a query that searches all of them."""
        dimension = next(
            description.dimension
            for description in self.vector_columns(table)
            if description.column == column
        )
        if not (dimension and statistics.num_indexed_rows):
            return None
        query = search_all_partitions(self._catalog.open_table(table), column, dimension, statistics)
        counts = PARTITION_COUNT.findall(query.analyze_plan())
        return max(map(int, counts)) if counts else None

    def measure_recall(
        self, table: str, column: str, *, query_count: int = 100, limit: int = 10, metric: Metric = "cosine"
    ) -> Recall:
        self.require_vector_column(table, column)
        if not self._has_index(table, column, metric):
            raise SchemaMismatchError(
                target=self._target, missing=f"an index of {table}.{column} for {metric}", purpose="comparing"
            )
        exact_s, index_s, hits, expected = list[float](), list[float](), 0, 0
        vectors = self._sample_vectors(table, column, query_count, metric)
        for vector in vectors:
            signals.raise_if_interrupted()
            nearest, seconds = self._search_row_ids(table, column, vector, limit, metric, exact=True)
            exact_s.append(seconds)
            indexed, seconds = self._search_row_ids(table, column, vector, limit, metric, exact=False)
            index_s.append(seconds)
            hits, expected = hits + len(nearest & indexed), expected + min(limit, len(nearest))
        return Recall(
            queries=len(vectors),
            limit=limit,
            share=hits / expected if expected else 1.0,
            exact_ms=round(median(exact_s or [0]) * 1000, 3),
            index_ms=round(median(index_s or [0]) * 1000, 3),
        )

    def _sample_vectors(self, table: str, column: str, count: int, metric: Metric) -> list[array[float]]:
        """Return valid query vectors of rows that are spread evenly over the table."""
        with self._catalog.translate_errors():
            rows = self._rows.scan(table, {"c": "1"}, [Condition(column, "!=", None)]).read_all()
            row_ids = rows.column(ROW_ID).to_pylist()
            sampled_ids = row_ids[:: max(1, len(row_ids) // max(1, count))][:count]
            if not sampled_ids:
                return []
            sampled = self._catalog.open_table(table).take_row_ids(sampled_ids).select([column]).to_arrow()
        vectors = to_arrays(sampled.column(column).combine_chunks())
        return [
            vector
            for vector in vectors
            if vector is not None and all(map(math.isfinite, vector)) and (metric != "cosine" or any(vector))
        ]

    def _search_row_ids(
        self, table: str, column: str, vector: array[float], limit: int, metric: Metric, *, exact: bool
    ) -> tuple[set[int], float]:
        """Return the IDs of the nearest rows and the seconds of the query; an exact result includes ties of the last row."""
        started = time.perf_counter()
        with self._catalog.translate_errors():
            query = self._search(table, column, vector, metric, [DISTANCE], exact=exact)
            batch = query.limit(limit).to_arrow()
            seconds = time.perf_counter() - started
            if exact:
                batch = self._include_ties(query, limit)
        return set(batch.column(ROW_ID).to_pylist()), seconds

    def require_vector_column(self, table: str, column: str) -> VectorColumn:
        """Return the description of a vector column.

        Raises:
            SchemaMismatchError: the column has no vectors.
        """
        self._catalog.require_column(table, column)
        for description in self.vector_columns(table):
            if description.column == column:
                return description
        raise SchemaMismatchError(
            target=self._target, missing=f"vectors in {table}.{column}", purpose="a vector search"
        )


def search_all_partitions(
    table: LibraryTable, column: str, dimension: int, statistics: IndexStatistics | None
) -> LanceQueryBuilder:
    """Return a query of one row that reads each partition of an index."""
    metric = (statistics and statistics.distance_type) or "l2"
    query = cast("LanceVectorQueryBuilder", table.search([1.0] * dimension, vector_column_name=column))
    return query.distance_type(metric).nprobes(MAX_PARTITIONS).limit(1)


def to_arrays(column: pa.Array) -> list[array[float] | None]:
    """Return the vector of each row, or None for null; a component that is null is NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    code, number_type = (
        ("d", pa.float64()) if pa.types.is_float64(column.type.value_type) else ("f", pa.float32())
    )
    numbers = memoryview(column.flatten().cast(number_type).to_numpy(zero_copy_only=False))
    vectors: list[array[float] | None] = []
    start = 0
    for length in pc.list_value_length(column).to_pylist():
        end = start + (length or 0)
        vectors.append(None if length is None else array(code, numbers[start:end].tobytes()))
        start = end
    return vectors


def _normalize(vector: Sequence[float], metric: Metric) -> list[float]:
    """Return the query vector for the library, for cosine scaled so that its squared length fits into a 32-bit float.

    The factor is a power of two, so no component is rounded.
    """
    if metric != "cosine":
        return list(vector)
    _, exponent = math.frexp(max(map(abs, vector)))
    return [math.ldexp(number, -exponent) for number in vector]


def refuse_vector(vector: Sequence[float], column: VectorColumn, metric: Metric) -> None:
    """Refuse query vectors for which the library returns no rows or a misleading error.

    Raises:
        NotSupportedError: the column accepts vectors of any length.
        ValueInvalidError: wrong length, not finite, or all zeros with the cosine metric.
    """
    name = f"{column.table}.{column.column}"
    if column.dimension is None:
        raise NotSupportedError(
            feature=f"a search in {name}, whose vectors have no fixed length",
            subject="LanceDB",
            hint="Let the app recreate the column with a fixed length.",
        )
    if len(vector) != column.dimension:
        raise ValueInvalidError(
            name="vector",
            value=f"of {len(vector)} numbers",
            reason=f"the vectors of {name} have {column.dimension}",
        )
    if not all(map(math.isfinite, vector)):
        raise ValueInvalidError(name="vector", value="query", reason="not all numbers are finite")
    if metric == "cosine" and not any(vector):
        raise ValueInvalidError(
            name="vector", value="of zeros", reason="it has no direction, which the cosine metric requires"
        )
