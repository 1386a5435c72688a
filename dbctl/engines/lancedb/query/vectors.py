"""Vectors: which are near, looked for among all of them or through an index."""

from __future__ import annotations

import math
import re
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract import (
    Condition,
    Metric,
    Recall,
    Row,
    VectorColumn,
    VectorFault,
    VectorIndex,
    Where,
)
from dbctl.engines.lancedb import schema, values
from dbctl.engines.lancedb.connection import LanceConnection
from dbctl.engines.lancedb.query import vector_checks
from dbctl.engines.lancedb.query.ordering import ROW
from dbctl.engines.lancedb.values import decoded
from dbctl.errors import RowAbsentError, SchemaLacksError, ValueInvalidError

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.index import IndexConfig
    from lancedb.query import LanceQueryBuilder
    from lancedb.table import IndexStatistics

#: What the library calls the distance of a row.
DISTANCE = "_distance"
#: Rows of a batch with vectors.
BATCH = 1024
#: So many times as many rows as are wanted are measured by their own vectors, where an index keeps less of them.
REFINED = 10
#: So many times as many rows are looked at where there are more that are equally far.
EQUALS = 8
#: More parts than any index has.
MOST_PARTITIONS = 1 << 20
#: How a plan that was run tells into how many parts of an index it looked.
PARTITIONS = re.compile(r"partitions_(?:ranked|searched)=(\d+)")


class LanceVectors(LanceConnection):
    """Capability.VECTORS."""

    def vector_columns(self, table: str) -> Sequence[VectorColumn]:
        return schema.vector_columns(table, self._arrow(table))

    def nearest(
        self,
        table: str,
        vector: Sequence[float],
        columns: Sequence[str],
        *,
        column: str,
        top: int,
        where: Sequence[Where] = (),
        metric: Metric = "cosine",
        exact: bool = True,
    ) -> list[Row]:
        told = self._vectors(table, column)
        for name in columns:
            self._described(table, name)
        refuse_vector(vector, told, metric)
        if top < 1:
            return []
        asked = self.predicate(table, where)
        with self._told():
            query = self._handle(table).search(_sought(vector, metric), vector_column_name=column)
            query = query.distance_type(metric)
            if asked:
                query = query.where(asked, prefilter=True)
            if exact or not self._indexed(table, column, metric):
                query = query.bypass_vector_index()
            else:
                query = query.refine_factor(REFINED)
            query = query.select(list(dict.fromkeys([*columns, *self.key(table), DISTANCE])))
            found = self._with_equals(query.with_row_id(True), top)  # noqa: FBT003 - the library's
        return self._ordered(found, columns, self.key(table))[:top]

    def _with_equals(self, query: LanceQueryBuilder, top: int) -> pa.Table:
        """Return the nearest rows, and all that are as far as the last of them: the library picks any of those."""
        number = top
        while True:
            signals.check()
            found = query.limit(number + 1).to_arrow()
            far = found.column(DISTANCE).sort().to_pylist()
            if len(far) <= number or far[top - 1] != far[number]:
                return found
            number *= EQUALS

    def _ordered(self, found: pa.Table, columns: Sequence[str], key: Sequence[str]) -> list[Row]:
        import pyarrow as pa
        import pyarrow.compute as pc

        found = found.cast(pa.schema([one.with_type(decoded(one.type)) for one in found.schema]))
        by = [(name, "ascending") for name in (DISTANCE, *key, ROW)]
        told = found.take(pc.sort_indices(found, sort_keys=by))
        return values.rows(told, [*columns, DISTANCE])

    def _indexed(self, table: str, column: str, metric: Metric) -> bool:
        """Whether an index answers for a metric; one that was made for another would answer for its own."""
        for one in self._handle(table).list_indices():
            if list(one.columns) == [column]:
                told = self._handle(table).index_stats(one.name)
                return told is not None and (told.distance_type or "").lower() == metric
        return False

    def vector_of(self, table: str, key: Mapping[str, object], column: str) -> array[float] | None:
        self._vectors(table, column)
        asked = [Condition(name, "=", value) for name, value in key.items()]
        with self._told():
            found = self._scan(table, [column], asked, limit=1).read_all()
        if not found.num_rows:
            words = " ".join(str(value) for value in key.values())
            raise RowAbsentError(table=table, target=self.target, key=ascii(words))
        return next(iter(arrays(found.column(column).combine_chunks())))

    def vector_stream(
        self, table: str, columns: Sequence[str], *, where: Sequence[Where] = (), batch: int = 1000
    ) -> Iterator[list[Row]]:
        for name in columns:
            self._described(table, name)
        vectors = {one.column for one in self.vector_columns(table)}
        with self._told():
            for found in self._scan(table, list(columns), where, batch=batch):
                signals.check()
                told = [
                    arrays(found.column(name)) if name in vectors else values.values(found.column(name))
                    for name in columns
                ]
                yield list(zip(*told, strict=True))

    def vector_faults(self, table: str, column: str, key: Sequence[str]) -> Sequence[VectorFault]:
        self._vectors(table, column)
        for name in key:
            self._described(table, name)
        with self._told():
            batches = self._scan(table, list(dict.fromkeys([*key, column])), batch=BATCH)
            return vector_checks.vector_faults(_heeded(batches), column, key)

    def twins(self, table: str, key: Sequence[str]) -> tuple[int, str]:
        """Return how many rows have the key of another that comes before them, and one such key."""
        numbers: Counter[Row] = Counter()
        with self._told():
            for batch in self._scan(table, list(key)):
                numbers.update(values.rows(batch, key))
        twice = [one for one, number in numbers.items() if number > 1]
        first = " ".join(str(value) for value in twice[0]) if twice else ""
        return sum(numbers[one] - 1 for one in twice), first

    def vector_indexes(self, table: str) -> Sequence[VectorIndex]:
        vectors = {one.column for one in self.vector_columns(table)}
        with self._told():
            return [
                self._index(table, one)
                for one in self._handle(table).list_indices()
                if len(one.columns) == 1 and one.columns[0] in vectors
            ]

    def _index(self, table: str, one: IndexConfig) -> VectorIndex:
        told = self._handle(table).index_stats(one.name)
        return VectorIndex(
            name=one.name,
            column=one.columns[0],
            kind=told.index_type if told else one.index_type,
            metric=((told.distance_type if told else "") or "").lower(),
            rows=told.num_indexed_rows if told else 0,
            beside=told.num_unindexed_rows if told else 0,
            partitions=self._partitions(table, one.columns[0], told) if told else None,
            bytes=one.size_bytes,
        )

    def _partitions(self, table: str, column: str, told: IndexStatistics) -> int | None:
        """Return into how many parts an index puts rows: what a question that looks into all of them says."""
        dimension = next(one.dimension for one in self.vector_columns(table) if one.column == column)
        if not (dimension and told.num_indexed_rows):
            return None
        query = self._handle(table).search([1.0] * dimension, vector_column_name=column)
        query = query.distance_type(told.distance_type or "l2").nprobes(MOST_PARTITIONS).limit(1)
        found = PARTITIONS.findall(query.analyze_plan())
        return max(map(int, found)) if found else None

    def vector_recall(
        self, table: str, column: str, *, asked: int = 100, top: int = 10, metric: Metric = "cosine"
    ) -> Recall:
        self._vectors(table, column)
        if not self._indexed(table, column, metric):
            raise SchemaLacksError(
                target=self.target, what=f"an index of {table}.{column} for {metric}", purpose="comparing"
            )
        exact_s, index_s, found, wanted = list[float](), list[float](), 0, 0
        questions = self._spread(table, column, asked, metric)
        for vector in questions:
            signals.check()
            true, seconds = self._places(table, column, vector, top, metric, exact=True)
            exact_s.append(seconds)
            told, seconds = self._places(table, column, vector, top, metric, exact=False)
            index_s.append(seconds)
            found, wanted = found + len(true & told), wanted + min(top, len(true))
        return Recall(
            asked=len(questions),
            top=top,
            found=found / wanted if wanted else 1.0,
            exact_ms=round(median(exact_s or [0]) * 1000, 3),
            index_ms=round(median(index_s or [0]) * 1000, 3),
        )

    def _spread(self, table: str, column: str, asked: int, metric: Metric) -> list[array[float]]:
        """Return the vectors of rows from all over the table that may be asked for."""
        with self._told():
            places = (
                self._scan(table, {"c": "1"}, [Condition(column, "!=", None)])
                .read_all()
                .column(ROW)
                .to_pylist()
            )
            some = places[:: max(1, len(places) // max(1, asked))][:asked]
            if not some:
                return []
            told = self._handle(table).take_row_ids(some).select([column]).to_arrow().column(column)
        found = [
            one for one in arrays(told.combine_chunks()) if one is not None and all(map(math.isfinite, one))
        ]
        return [one for one in found if metric != "cosine" or any(one)]

    def _places(
        self, table: str, column: str, vector: array[float], top: int, metric: Metric, *, exact: bool
    ) -> tuple[set[int], float]:
        """Return where the nearest rows are, and the seconds that it took; of the true ones all that are as far as the last."""
        began = time.perf_counter()
        with self._told():
            query = self._handle(table).search(_sought(vector, metric), vector_column_name=column)
            query = query.distance_type(metric).select([DISTANCE]).with_row_id(True)  # noqa: FBT003 - the library's
            query = query.bypass_vector_index() if exact else query.refine_factor(REFINED)
            told = query.limit(top).to_arrow()
            seconds = time.perf_counter() - began
            if exact:
                told = self._with_equals(query, top)
        return set(told.column(ROW).to_pylist()), seconds

    def _vectors(self, table: str, column: str) -> VectorColumn:
        """Return what is known of a column of vectors.

        Raises:
            SchemaLacksError: it holds none.
        """
        self._described(table, column)
        for one in self.vector_columns(table):
            if one.column == column:
                return one
        raise SchemaLacksError(
            target=self.target, what=f"vectors in {table}.{column}", purpose="a search for what is near"
        )


def _heeded(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield batches, and hear signals between two."""
    for batch in batches:
        signals.check()
        yield batch


def arrays(column: pa.Array) -> list[array[float] | None]:
    """Return vectors, one for each row."""
    from pyarrow import types

    code = {"float": "f", "double": "d"}.get(str(column.type.value_type), "f")
    flat = (
        column.cast(_floats(column.type))
        if code == "f" and str(column.type.value_type) != "float"
        else column
    )
    if types.is_fixed_size_list(flat.type) and not flat.null_count:
        size = flat.type.list_size
        numbers = flat.flatten()
        if not numbers.null_count:
            plain = memoryview(numbers.to_numpy(zero_copy_only=False))
            return [array(code, plain[at * size : (at + 1) * size].tobytes()) for at in range(len(flat))]
    return [_array(code, one.as_py()) for one in flat]


def _array(code: str, numbers: Sequence[float | None] | None) -> array[float] | None:
    if numbers is None:
        return None
    return array(code, [math.nan if one is None else one for one in numbers])


def _floats(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    size = kind.list_size if pa.types.is_fixed_size_list(kind) else -1
    return pa.list_(pa.float32(), size)


def _sought(vector: Sequence[float], metric: Metric) -> list[float]:
    """Return what the library is asked for: where direction alone counts, of a length whose square 32-bit numbers hold.

    It is scaled by a power of two, which rounds nothing.
    """
    if metric != "cosine":
        return list(vector)
    _, exponent = math.frexp(max(map(abs, vector)))
    return [math.ldexp(one, -exponent) for one in vector]


def refuse_vector(vector: Sequence[float], told: VectorColumn, metric: Metric) -> None:
    """Refuse what would be answered with nothing, or with an error that says something else.

    Raises:
        ValueInvalidError: it is of another length, not finite, or all zeros where only its direction counts.
    """
    name = f"{told.table}.{told.column}"
    if told.dimension is not None and len(vector) != told.dimension:
        raise ValueInvalidError(
            what="vector", value=f"of {len(vector)} numbers", reason=f"those of {name} have {told.dimension}"
        )
    if not all(map(math.isfinite, vector)):
        raise ValueInvalidError(what="vector", value="given", reason="not every number of it is finite")
    if metric == "cosine" and not any(vector):
        raise ValueInvalidError(
            what="vector", value="of zeros", reason="it has no direction, so nothing is near it by cosine"
        )
