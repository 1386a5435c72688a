"""Write rows with sqlite-utils, on a connection that is already in a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import isnan
from types import NoneType

from dbctl import signals
from dbctl.engines.sqlite.values import RawText
from dbctl.errors.usage import ValueInvalidError
from dbctl.sqlite_library import SQLITE_MAX_VARS, Database, Table

#: Maximum number of rows in a statement, and about the bytes of their values, because SQLite copies each value that it binds.
BATCH_ROWS, BATCH_BYTES = 100, 1 << 20
#: Errors of a single row.
REFUSALS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeError,
    ValueInvalidError,
)
#: Types that SQLite stores; sqlite-utils would write others as JSON or text.
STORABLE = (int, float, str, bytes, bytearray, memoryview, NoneType)
#: Those of which each value can be stored.
PLAIN = frozenset({int, bool, str, bytes, NoneType})


class RowWriter:
    """Rows written through the ``Database`` of sqlite-utils.

    Every method runs inside the transaction of the caller, and sqlite-utils adds a savepoint to it. Its errors are those of
    ``sqlite3``, which the caller translates.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        # Recursive triggers would change what the app's triggers do; a plugin of another program may do anything.
        self.database = Database(connection, recursive_triggers=False, execute_plugins=False)
        self.refused_row: int | None = None  #: number of the row, from 1, with which ``insert_all`` failed
        self._schema_version: object = None
        self._tables: dict[str, Table] = {}  #: tables that exist in this version of the schema
        self._self_references: dict[str, bool] = {}  #: whether they have a foreign key to themselves

    def forget(self) -> None:
        """Forget the tables: after a rollback, another schema may get the same version."""
        self._schema_version = None

    def insert(self, table: str, values: Mapping[str, object]) -> None:
        """Insert one row; without values, a row of defaults."""
        _require_storable(values, values.values())
        self._table(table).insert(dict(values), conversions=_cast_texts(values, values.values()))

    def insert_all(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        """Insert rows from an iterator, in bounded memory; return their number.

        A row may refer to a later row of the same table. After an error, ``refused_row`` is the number of the row that
        caused it.
        """
        self.refused_row = None
        writer, inserted, before = self._table(table), 0, 0
        if table not in self._self_references:
            keys = writer.foreign_keys
            self._self_references[table] = any(key.other_table.lower() == table.lower() for key in keys)
        if self._self_references[table]:
            self.defer_references()
        for batch in split_batches(rows, max(1, min(BATCH_ROWS, SQLITE_MAX_VARS // len(columns)))):
            signals.raise_if_interrupted()
            try:
                inserted += self._insert_batch(writer, columns, batch)
            except REFUSALS:
                if not self.database.conn.in_transaction:  # each row would be a transaction
                    raise
                for self.refused_row, row in enumerate(batch, before + 1):
                    inserted += self._insert_batch(writer, columns, [row])
                self.refused_row = None
            before += len(batch)
        return inserted

    def _insert_batch(self, table: Table, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        for row in rows:
            if len(row) != len(columns):  # sqlite-utils would fill or cut the row
                raise sqlite3.ProgrammingError(f"a row has {len(row)} values for {len(columns)} columns")
            _require_storable(columns, row)
        casts = _cast_texts(columns, rows[0])
        table.insert_all([columns, *rows], conversions=casts, batch_size=len(rows))
        return self._count_changes()

    def defer_references(self) -> None:
        """Check foreign keys at the end of the transaction."""
        self.database.execute("pragma defer_foreign_keys = 1")

    def delete_where(self, table: str, where: str, parameters: Mapping[str, object]) -> int:
        """Delete the rows that meet a condition, in which the name of the table qualifies its columns; return their number."""
        self._table(table).delete_where(where or None, dict(parameters))
        return self._count_changes()

    def _table(self, name: str) -> Table:
        """Return an existing table: sqlite-utils creates a missing table for an insert, and deletes nothing from it."""
        version = self.database.execute("pragma schema_version").fetchone()
        if version != self._schema_version:
            self._tables, self._self_references, self._schema_version = {}, {}, version
        if name not in self._tables:
            table = Table(self.database, name)
            if not table.exists():
                raise sqlite3.OperationalError(f"no such table, or a view: {name}")
            self._tables[name] = table
        return self._tables[name]

    def _count_changes(self) -> int:
        """Return the number of rows of the last statement, without those that triggers and foreign keys changed."""
        return int(self.database.execute("select changes()").fetchone()[0])


def split_batches(rows: Iterable[Sequence[object]], limit: int) -> Iterator[list[Sequence[object]]]:
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


def _cast_texts(columns: Iterable[str], values: Iterable[object]) -> dict[str, str]:
    """Return the SQL of each value that is text in bytes, which a column of any type would store as a BLOB."""
    return {
        name: "cast(? as text)" for name, value in zip(columns, values, strict=True) if type(value) is RawText
    }


def _require_storable(columns: Iterable[str], values: Collection[object]) -> None:
    if PLAIN.issuperset(map(type, values)):
        return
    for name, value in zip(columns, values, strict=True):
        if not isinstance(value, STORABLE):
            raise sqlite3.ProgrammingError(f"{name}: the type {type(value).__name__} is not supported")
        if isinstance(value, float) and isnan(value):
            raise ValueInvalidError(name=name, value="NaN", reason="SQLite would store it as NULL")
