"""Read rows of tables: scans with conditions, and rows by their ID."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract import Where
from dbctl.engines.lancedb.catalog import Catalog
from dbctl.engines.lancedb.query.predicates import PredicateCompiler
from dbctl.engines.lancedb.values import Row, to_rows

if TYPE_CHECKING:
    import pyarrow as pa

#: The library's name of the row ID.
ROW_ID = "_rowid"
#: Rows per batch, without vectors.
BATCH_ROWS = 8192
#: Rows per query by row ID.
ROWS_PER_READ = 10_000


class RowReader:
    """Reads rows of the tables of a catalog, in stored order."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._compiler = PredicateCompiler(catalog, self.read)

    def predicate(self, table: str, where: Sequence[Where]) -> str | None:
        """Return the conjunction of the conditions for the library, or None without conditions."""
        return self._compiler.predicate(table, where)

    def scan(
        self,
        table: str,
        columns: Sequence[str] | Mapping[str, str],
        where: Sequence[Where] = (),
        *,
        limit: int | None = None,
        batch_rows: int = BATCH_ROWS,
        time_limit: timedelta | None = None,
    ) -> pa.RecordBatchReader:
        """Return batches; with row IDs if ``columns`` is empty or maps names to expressions.

        The caller translates errors of the library (``Catalog.translate_errors``).
        """
        predicate = self.predicate(table, where)
        query = (
            self.catalog.open_table(table)
            .search(None)
            .select(dict(columns) if isinstance(columns, Mapping) else list(columns))
        )
        if predicate:
            query = query.where(predicate)
        if limit is not None:
            query = query.limit(limit)
        if not columns or isinstance(columns, Mapping):
            query = query.with_row_id(True)  # noqa: FBT003 - the library's
        timeout = None if time_limit is None else max(time_limit, timedelta(milliseconds=1))
        return query.to_batches(batch_rows, timeout=timeout)

    def read(self, table: str, columns: Sequence[str], where: Sequence[Where]) -> list[Row]:
        """Return the rows that meet all conditions.

        Raises:
            SchemaMismatchError: the table or a column does not exist.
        """
        self.catalog.require_columns(table, columns)
        with self.catalog.translate_errors():
            return [row for batch in self.scan(table, columns, where) for row in to_rows(batch, columns)]

    def read_by_id(self, table: str, columns: Sequence[str], row_ids: Sequence[int]) -> list[Row]:
        """Return the rows with these row IDs, in this order."""
        result: list[Row] = []
        selected = list(dict.fromkeys(columns))
        with self.catalog.translate_errors():
            for start in range(0, len(row_ids), ROWS_PER_READ):
                signals.raise_if_interrupted()
                batch_ids = list(row_ids[start : start + ROWS_PER_READ])
                query = self.catalog.open_table(table).take_row_ids(batch_ids)
                batch = query.select(selected).with_row_id().to_arrow()
                rows_by_id = dict(zip(batch.column(ROW_ID).to_pylist(), to_rows(batch, columns), strict=True))
                result += [rows_by_id[row_id] for row_id in batch_ids]
        return result
