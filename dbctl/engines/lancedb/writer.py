"""The writer of a LanceDB: each statement creates one version of one table, and a rollback undoes statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import TYPE_CHECKING, ClassVar

from dbctl.engines.contract import MergeRule, Where
from dbctl.engines.lancedb import write_values
from dbctl.engines.lancedb.reader import LanceReader, sql_error
from dbctl.engines.lancedb.transaction import Transactions
from dbctl.engines.lancedb.values import Row, to_rows
from dbctl.engines.lancedb.write_access import acquire_lock
from dbctl.errors import ConstraintError, DbctlError
from dbctl.url import Url

if TYPE_CHECKING:
    import pyarrow as pa


class LanceWriter(LanceReader):
    """A LanceDB opened for writing.

    The library has no transactions of several statements. Each statement is atomic: it creates one version of one table,
    which readers see immediately. So other processes see the statements of an open ``transaction``. If the transaction
    fails, further statements undo its statements, and writes of other processes remain. If another process changed the same
    rows, the statement is not undone, and PartialWriteError is raised. If dbctl is killed, executed statements remain.
    """

    PARTS: ClassVar[Mapping[str, str]] = {
        **LanceReader.PARTS,
        "VectorIndexes": "dbctl.engines.lancedb.admin.vector_indexes:LanceVectorIndexes",
    }

    read_only = False

    def __init__(
        self, url: Url, target: str, *, timeout: float, keys: Mapping[str, Sequence[str]] = {}
    ) -> None:
        """Check that the database exists, as ``LanceReader`` does."""
        super().__init__(url, target, timeout=timeout, keys=keys)
        self._transactions = Transactions(self.rows)

    def transaction(self) -> AbstractContextManager[None]:
        return self._transactions.begin()

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        self._insert(table, list(values), [list(values.values())])
        return values.get(returning) if returning else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        return self._insert(table, columns, rows)

    def _insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        self.catalog.require_columns(table, columns)
        self._transactions.require_open()
        schema, counter, keys = self.catalog.arrow_schema(table), write_values.RowCounter(rows), list[Row]()
        captured = write_values.CapturedErrors(
            self._refuse_duplicates(
                table, write_values.to_batches(schema, columns, counter, self.target), keys
            )
        )
        first_batch = next(iter(captured), None)
        if first_batch is not None:
            try:
                batches = write_values.create_reader(schema, chain([first_batch], captured))
                self._transactions.write(
                    table, lambda handle: handle.add(batches), self._transactions.undo_insert(keys)
                )
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
        key, yielded, row_offset = self.catalog.key_columns(table), set[Row](), 0
        for batch in batches:
            keys = to_rows(batch, key) if key else []
            existing_keys = self._transactions.existing_keys(table, key, keys) if keys else set()
            for number, row in enumerate(keys, row_offset + 1):
                if row in yielded or row in existing_keys:
                    reason = f"duplicate {', '.join(key)} in {table}"
                    raise ConstraintError(target=self.target, reason=reason, row=number)
                yielded.add(row)
            seen_keys += keys
            row_offset += batch.num_rows
            yield batch

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        self.catalog.require_columns(table, list(values))
        schema, predicate = self.catalog.arrow_schema(table), self.rows.predicate(table, where)
        expressions = {
            name: write_values.set_expression(schema.field(name), value, self.target)
            for name, value in values.items()
        }
        self._transactions.require_open()
        row_count = self.count(table, where)
        if row_count and expressions:
            undo = (
                self._transactions.restore_version
                if set(values) & set(self.catalog.key_columns(table))
                else self._transactions.undo_update(predicate)
            )
            self._transactions.write(
                table, lambda handle: handle.update(where=predicate, values_sql=expressions), undo
            )
        return row_count

    def delete(self, table: str, where: Sequence[Where]) -> int:
        predicate = self.rows.predicate(table, where) or "true"
        self._transactions.require_open()
        row_count = self.count(table, where)
        if row_count:  # otherwise the library would create an empty version
            self._transactions.write(
                table, lambda handle: handle.delete(predicate), self._transactions.undo_delete(predicate)
            )
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
        self.catalog.require_table(table)
        raise sql_error(self.target)

    def advance_sequences(self, table: str) -> None:
        self.catalog.require_table(table)  # the database generates no keys

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        return acquire_lock(self.location, purpose)
