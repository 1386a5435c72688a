"""Write rows with sqlite-utils, on dbctl's connection and in its transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import isnan
from sqlite3 import Cursor
from types import NoneType
from typing import TYPE_CHECKING, Any

from dbctl import signals
from dbctl.engines.sqlite.values import RawText
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError, QueryFailedError, RowSkippedError
from dbctl.errors.usage import ValueInvalidError
from dbctl.sqlite_library import SQLITE_MAX_VARS, Database, Table

if TYPE_CHECKING:
    from dbctl.engines.sqlite.write_connection import WriteConnection

#: Maximum number of rows in a statement, and about the bytes of their values, because SQLite copies each value that it binds.
BATCH_ROWS, BATCH_BYTES = 100, 1 << 20
#: Types that SQLite stores; sqlite-utils would write others as JSON or text.
STORABLE = (int, float, str, bytes, bytearray, memoryview, NoneType)
#: Those of which each value can be stored.
PLAIN = frozenset({int, bool, str, bytes, NoneType})


class GuardedDatabase(Database):
    """sqlite-utils on dbctl's connection, which waits for locks, ends at signals, and translates errors."""

    supports_on_conflict = True  # since SQLite 3.24; sqlite-utils would try it with a table in the file

    def __init__(self, connection: WriteConnection) -> None:
        # Recursive triggers would change what the app's triggers do; a plugin of another program may do anything.
        super().__init__(connection.driver, recursive_triggers=False, execute_plugins=False)
        self.connection = connection
        #: rows of the last statement, without those that triggers and foreign keys changed
        self.row_count = 0

    def execute(self, sql: str, parameters: Sequence[object] | dict[str, Any] | None = None) -> Cursor:
        cursor = self.connection.retry_while_locked(partial(super().execute, sql, parameters))
        self.row_count = cursor.rowcount
        return cursor

    @contextmanager
    def atomic(self) -> Iterator[GuardedDatabase]:
        """Begin neither a transaction nor a savepoint, because each write is part of a transaction of dbctl."""
        self.connection.require_transaction()
        yield self

    def known_table(self, name: str, resolution_clause: str = "") -> KnownTable:
        """Return a table of the catalog; ``resolution_clause`` follows INSERT."""
        if not resolution_clause:
            return KnownTable(self, name)
        table = ReplacingTable(self, name)
        table.resolution_clause = resolution_clause
        return table


class KnownTable(Table):
    """A table of the catalog: sqlite-utils does not ask whether it exists, and would not create a missing one.

    Each method runs inside a transaction of the connection.
    """

    db: GuardedDatabase

    def exists(self) -> bool:
        return True

    def insert_row(self, values: Mapping[str, object]) -> int | None:
        """Insert one row, without values a row of defaults; return its rowid.

        Raises:
            RowSkippedError: a trigger or a conflict clause skips it.
        """
        self.insert(dict(values), conversions=self._list_conversions(values, values.values()))
        if not self.db.row_count:
            raise RowSkippedError(target=self.db.connection.target, table=self.name)
        return self.last_rowid

    def insert_rows(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        """Insert rows from an iterator, in bounded memory; return their number.

        The context of an error has the number of the row, from 1, that caused it, unless SQLite retained earlier rows of its
        batch (``on conflict fail``).
        """
        driver, inserted, before = self.db.connection.driver, 0, 0
        for batch in split_rows(rows, max(1, min(BATCH_ROWS, SQLITE_MAX_VARS // len(columns)))):
            signals.raise_if_interrupted()
            changes = driver.total_changes
            try:
                inserted += self._insert_batch(columns, batch)
            except (ConstraintError, QueryFailedError, ValueInvalidError):
                if not driver.in_transaction:  # each row would be a transaction
                    raise
                # The total includes what triggers changed before they were rolled back, and changes() is of an earlier
                # statement if this one did not run.
                if driver.total_changes > changes and self.db.execute("select changes()").fetchone()[0]:
                    raise
                inserted += self._insert_singly(columns, batch, before)
            before += len(batch)
        return inserted

    def _insert_singly(self, columns: Sequence[str], rows: Sequence[Sequence[object]], before: int) -> int:
        inserted = 0
        for number, row in enumerate(rows, before + 1):
            try:
                inserted += self._insert_batch(columns, [row])
            except DbctlError as error:
                error.context["row"] = number
                raise
        return inserted

    def _insert_batch(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        conversions = dict[str, str]()
        for row in rows:
            if len(row) != len(columns):  # sqlite-utils would fill or cut the row
                raise self._refuse(f"a row has {len(row)} values for {len(columns)} columns")
            conversions = self._list_conversions(columns, row)  # a row that has any is alone in its batch
        self.insert_all([columns, *rows], conversions=conversions, batch_size=len(rows))
        return self.db.row_count

    def delete_rows(self, where: str, parameters: Mapping[str, object]) -> int:
        """Delete the rows that meet a condition, in which the name of the table qualifies its columns; return their number."""
        self.delete_where(where or None, dict(parameters))
        return self.db.row_count

    def _list_conversions(self, columns: Iterable[str], values: Collection[object]) -> dict[str, str]:
        """Return the SQL of each value that is text in bytes, which a column of any type would store as a BLOB.

        Raises:
            QueryFailedError, ValueInvalidError: SQLite cannot store one of the values as it is.
        """
        conversions = dict[str, str]()
        if PLAIN.issuperset(map(type, values)):
            return conversions
        for name, value in zip(columns, values, strict=True):
            if not isinstance(value, STORABLE):
                raise self._refuse(f"{name}: the type {type(value).__name__} is not supported")
            if isinstance(value, float) and isnan(value):
                raise ValueInvalidError(name=name, value="NaN", reason="SQLite would store it as NULL")
            if type(value) is RawText:
                conversions[name] = "cast(? as text)"
        return conversions

    def _refuse(self, reason: str) -> QueryFailedError:
        return QueryFailedError(target=self.db.connection.target, reason=reason)


class ReplacingTable(KnownTable):
    """A table with a constraint that would delete rows whose key a new row has."""

    resolution_clause: str

    def build_insert_queries_and_params(self, *arguments: Any, **options: Any) -> list[tuple[str, list[Any]]]:
        statements = super().build_insert_queries_and_params(*arguments, **options)  # type: ignore[no-untyped-call]
        return [
            (sql.replace("INSERT", f"INSERT{self.resolution_clause}", 1), values)
            for sql, values in statements
        ]


def split_rows(rows: Iterable[Sequence[object]], limit: int) -> Iterator[list[Sequence[object]]]:
    """Yield batches of rows; a row with text that is not UTF-8 is a batch of its own."""
    batch, size = list[Sequence[object]](), 0
    for row in rows:
        is_raw = RawText in map(type, row)
        if batch and (is_raw or size > BATCH_BYTES or len(batch) == limit):
            yield batch
            batch, size = [], 0
        if is_raw:
            yield [row]
        else:
            batch.append(row)
            size += sum([len(value) for value in row if type(value) is str or type(value) is bytes])  # noqa: C419 - faster than a generator
    if batch:
        yield batch
