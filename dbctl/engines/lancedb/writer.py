"""The writer of a LanceDB: each statement creates one version of one table, and a rollback undoes statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain
from typing import ClassVar

from dbctl.engines.contract.database import Merge, Where
from dbctl.engines.lancedb import write_values
from dbctl.engines.lancedb.reader import LanceReader, sql_error
from dbctl.engines.lancedb.transaction import Transactions
from dbctl.engines.lancedb.write_access import acquire_lock
from dbctl.errors.base import DbctlError
from dbctl.url import Url


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
        self.insert_many(table, list(values), [list(values.values())])
        return values.get(returning) if returning else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        self.catalog.require_columns(table, columns)
        self._transactions.require_open()
        schema, key = self.catalog.arrow_schema(table), self.catalog.primary_key(table)
        find_existing = partial(self._transactions.existing_keys, table, key)
        checked = write_values.CheckedBatches(table, key, find_existing, self.target)
        batches = checked.check(write_values.to_batches(schema, columns, rows, self.target))
        if (first_batch := next(batches, None)) is not None:
            import pyarrow as pa

            reader = pa.RecordBatchReader.from_batches(schema, chain([first_batch], batches))
            try:
                self._transactions.write(
                    table, "insert", lambda handle: handle.add(reader), inserted_keys=checked.keys
                )
            except DbctlError as error:
                raise checked.error or error from error
        return checked.row_count

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
            changes_key = set(values) & set(self.catalog.primary_key(table))
            self._transactions.write(
                table,
                "keys" if changes_key else "update",
                lambda handle: handle.update(where=predicate, values_sql=expressions),
                predicate=predicate,
            )
        return row_count

    def delete(self, table: str, where: Sequence[Where]) -> int:
        predicate = self.rows.predicate(table, where) or "true"
        self._transactions.require_open()
        row_count = self.count(table, where)
        if row_count:  # otherwise the library would create an empty version
            self._transactions.write(
                table, "delete", lambda handle: handle.delete(predicate), predicate=predicate
            )
        return row_count

    def merge(self, merge: Merge) -> int:
        self.catalog.require_table(merge.table)
        raise sql_error(self.target)

    def advance_sequences(self, table: str) -> None:
        self.catalog.require_table(table)  # the database generates no keys

    def defer_references(self) -> None:
        """Do nothing: there are no foreign keys."""

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        return acquire_lock(self.location, purpose)
