"""The writer of a LanceDB: each statement creates one version of one table, and a rollback undoes statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from dbctl.engines.contract import MergeRule, Where
from dbctl.engines.lancedb import maintenance, write_values
from dbctl.engines.lancedb.connection import sql_error
from dbctl.engines.lancedb.transaction import LanceTransactions
from dbctl.engines.lancedb.values import Row, to_rows
from dbctl.errors import ConstraintError, DbctlError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")


class LanceWriter(LanceTransactions):
    """A LanceDB opened for writing.

    The library has no transactions of several statements. Each statement is atomic: it creates one version of one table,
    which readers see immediately. So other processes see the statements of an open ``transaction``. If the transaction
    fails, further statements undo its statements, and writes of other processes remain. If another process changed the same
    rows, the statement is not undone, and PartialWriteError is raised. If dbctl is killed, executed statements remain.
    """

    read_only = False

    # Statements --------------------------------------------------------------------------------------------

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        self._insert(table, list(values), [list(values.values())])
        return values.get(returning) if returning else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        return self._insert(table, columns, rows)

    def _insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        for column in columns:
            self._require_column(table, column)
        self._require_transaction()
        schema, counter, keys = self._arrow_schema(table), write_values.RowCounter(rows), list[Row]()
        captured = write_values.CapturedErrors(
            self._refuse_duplicates(
                table, write_values.to_batches(schema, columns, counter, self.target), keys
            )
        )
        first_batch = next(iter(captured), None)
        if first_batch is not None:
            try:
                batches = write_values.create_reader(schema, chain([first_batch], captured))
                self._write(table, lambda handle: handle.add(batches), self._undo_insert(keys))
            except DbctlError as error:
                raise captured.error or error from error
        return counter.count

    def _refuse_duplicates(
        self, table: str, batches: Iterator[pa.RecordBatch], seen_keys: list[Row]
    ) -> Iterator[pa.RecordBatch]:
        """Yield the batches, and refuse duplicate keys, which the library would accept.

        Args:
            table: the name of the table.
            batches: the rows to insert.
            seen_keys: receives the keys of the yielded rows.

        Raises:
            ConstraintError: a key exists already, or occurs twice.
        """
        key, yielded, row_offset = self.key_columns(table), set[Row](), 0
        for batch in batches:
            keys = to_rows(batch, key) if key else []
            existing_keys = self._existing_keys(table, key, keys) if keys else set()
            for number, row in enumerate(keys, row_offset + 1):
                if row in yielded or row in existing_keys:
                    reason = f"duplicate {', '.join(key)} in {table}"
                    raise ConstraintError(target=self.target, reason=reason, row=number)
                yielded.add(row)
            seen_keys += keys
            row_offset += batch.num_rows
            yield batch

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        for column in values:
            self._require_column(table, column)
        schema, predicate = self._arrow_schema(table), self.predicate(table, where)
        expressions = {
            name: write_values.set_expression(schema.field(name), value, self.target)
            for name, value in values.items()
        }
        self._require_transaction()
        row_count = self.count(table, where)
        if row_count and expressions:
            undo = (
                self._restore_version
                if set(values) & set(self.key_columns(table))
                else self._undo_update(predicate)
            )
            self._write(table, lambda handle: handle.update(where=predicate, values_sql=expressions), undo)
        return row_count

    def delete(self, table: str, where: Sequence[Where]) -> int:
        predicate = self.predicate(table, where) or "true"
        self._require_transaction()
        row_count = self.count(table, where)
        if row_count:  # otherwise the library would create an empty version
            self._write(table, lambda handle: handle.delete(predicate), self._undo_delete(predicate))
        return row_count

    def merge(
        self,
        table: str,
        select: str,
        parameters: Mapping[str, object],
        *,
        key: Sequence[str],
        columns: Mapping[str, MergeRule],
    ) -> int:
        del select, parameters, key, columns
        self._require_table(table)
        raise sql_error(self.target)

    def advance_sequences(self, table: str) -> None:
        self._require_table(table)  # the database generates no keys

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        return maintenance.lock(self._location, purpose)
