"""The new database: its tables, the insertion of rows, the rejected rows, its other objects, and its verification."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import total_ordering
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract.checks import EngineFinding
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sqlite.checks import SQLiteChecks
from dbctl.engines.sqlite.database import SQLiteWriter
from dbctl.engines.sqlite.dialect import find_rowid_name
from dbctl.engines.sqlite.errors import get_error_name
from dbctl.engines.sqlite.values import RawText, find_affinity
from dbctl.errors.base import DbctlError
from dbctl.extensions.salvage.sqlite.btree import KeyFunction
from dbctl.extensions.salvage.sqlite.schema import Entry
from dbctl.files.atomic import create_empty
from dbctl.model import format_count

#: Values of ``hidden`` in ``table_xinfo`` for generated columns.
VIRTUAL, STORED = 2, 3
#: Columns that precede those of a rejected row.
REJECTED_COLUMNS = ("recovered_reason", "recovered_rowid")

#: SQLite's collations, as functions that are applied before bytes are compared.
COLLATIONS: Mapping[str, Callable[[bytes], bytes]] = {
    "BINARY": bytes,
    "NOCASE": bytes.lower,
    "RTRIM": lambda text: text.rstrip(b" "),
}

Fields = list[object]


def create_database(path: Path) -> sqlite3.Connection:
    """Create an empty database with mode 0600; the caller syncs it when it is complete."""
    create_empty(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.set_progress_handler(lambda: signals.received_signal() is not None, 20_000)
    for pragma in (
        "locking_mode = exclusive",
        "journal_mode = memory",
        "synchronous = off",
        "foreign_keys = off",
    ):
        db.execute(f"pragma {pragma}")
    return db


class Table:
    """A table of the new file; converts records of the old file into its rows."""

    def __init__(self, db: sqlite3.Connection, name: str, encoding: str) -> None:
        """Read the columns of a table of the new file; ``encoding`` is Python's name of that of its texts."""
        self.name, self._db = name, db
        # sqlite-utils reports no generated columns, whose values an old row contains
        definitions = db.execute(f"pragma table_xinfo({ident(name)})").fetchall()
        stored = [column for column in definitions if column[6] != VIRTUAL]
        key_indexes = [
            str(row[1]) for row in db.execute(f"pragma index_list({ident(name)})") if row[3] == "pk"
        ]
        key = db.execute(f"pragma index_xinfo({ident(key_indexes[0])})").fetchall() if key_indexes else []
        self.has_rowid = not key or any(row[1] < 0 for row in key)
        self.rowid_name = find_rowid_name(str(column[1]) for column in definitions) if self.has_rowid else ""
        self.key_function: KeyFunction | None = None
        if not self.has_rowid:  # its records are ordered by the key
            by_position = {column[0]: column for column in stored}
            stored = [by_position[row[1]] for row in key if row[1] in by_position]
            self.key_function = _key_function([(row[3], row[4]) for row in key if row[5]], encoding)
        self.stored_columns = [str(column[1]) for column in stored]
        key_columns = [column for column in definitions if column[5]]
        self.rowid_alias = (
            self.stored_columns.index(str(key_columns[0][1]))
            if self.has_rowid and len(key_columns) == 1 and not key_indexes
            else None
        )
        self._inserted = [index for index, column in enumerate(stored) if column[6] != STORED]
        self._defaults = [column[4] for column in stored]
        #: whether SQLite never stores numbers in the column
        self._text_flags = [find_affinity(str(column[2])) == "TEXT" for column in stored]
        self._required = [bool(column[3]) for column in stored]
        self._default_values = dict[int, object]()
        columns = [self.stored_columns[index] for index in self._inserted]
        if self.has_rowid and self.rowid_alias is None and self.rowid_name:
            columns = [self.rowid_name, *columns]
        self.columns = columns

    def fits(self, _key: int, fields: Fields) -> bool:
        """Whether a record can be a row: not more fields than columns, and NULL for the rowid alias."""
        return 0 < len(fields) <= len(self.stored_columns) and (
            self.rowid_alias is None or self.rowid_alias >= len(fields) or fields[self.rowid_alias] is None
        )

    def fits_strictly(self, key: int, fields: Fields) -> bool:
        """Whether a record of a page without a parent can be a row of this table."""
        return (
            self.fits(key, fields)
            and all(
                not (is_text and isinstance(value, int | float))
                for value, is_text in zip(fields, self._text_flags, strict=False)
            )
            and all(
                value is not None or not is_required or index == self.rowid_alias
                for index, (value, is_required) in enumerate(zip(fields, self._required, strict=False))
            )
        )

    def build_row(self, key: int, fields: Fields) -> Fields:
        """Return the values of ``columns``."""
        if len(fields) < len(self.stored_columns):  # rows from before ADD COLUMN have the default
            fields = [
                *fields,
                *(self._read_default(index) for index in range(len(fields), len(self.stored_columns))),
            ]
        if self.rowid_alias is not None:
            fields[self.rowid_alias] = key
        if len(self._inserted) < len(fields):
            fields = [fields[index] for index in self._inserted]
        return [key, *fields] if len(self.columns) > len(fields) else fields

    def _read_default(self, index: int) -> object:
        if index not in self._default_values:
            default = self._defaults[index]
            try:
                self._default_values[index] = self._db.execute(f"select {default or 'null'}").fetchone()[0]
            except sqlite3.Error as error:
                raise_if_fatal(error)
                self._default_values[index] = default  # SQLite reads a word without quotes as text
        return self._default_values[index]


def _key_function(key: Sequence[tuple[bool, str]], encoding: str) -> KeyFunction | None:
    """Return the sort key function for records; None if a collation is not one of SQLite's.

    ``key`` has for each key field whether it is descending, and its collation; the bytes of texts, in ``encoding``, are compared.
    """
    if any(collation.upper() not in COLLATIONS for _, collation in key):
        return None
    folds = [(descends, COLLATIONS[collation.upper()]) for descends, collation in key]

    def build_key(fields: Fields) -> tuple[object, ...]:
        return tuple(
            _Descending(_rank(value, fold, encoding)) if descends else _rank(value, fold, encoding)
            for value, (descends, fold) in zip(fields, folds, strict=False)
        )

    return build_key


def _rank(value: object, fold: Callable[[bytes], bytes], encoding: str) -> tuple[int, object]:
    if value is None:
        return 0, 0
    if isinstance(value, int | float):
        return 1, value
    if isinstance(value, str | RawText):
        return 2, fold(value.encode(encoding) if isinstance(value, str) else bytes(value))
    return 3, value


@total_ordering
class _Descending:
    def __init__(self, rank: tuple[int, object]) -> None:
        self._rank = rank

    def __lt__(self, other: _Descending) -> bool:
        return other._rank < self._rank

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self._rank == other._rank

    __hash__ = None  # type: ignore[assignment]  # not used in sets


class Inserter:
    """Writer of the rows of one table, which returns rejected rows.

    sqlite-utils would reject all rows of a statement with the first one, and writes no temporary tables.
    """

    def __init__(
        self, db: sqlite3.Connection, table: str, columns: Sequence[str], *, schema: str = "main"
    ) -> None:
        self._db, self._table = db, f"{schema}.{ident(table)}"
        self._raw_table = ""
        self._columns = ", ".join(ident(name) for name in columns)
        placeholders = ", ".join("?" for _ in columns)
        self._sql = f"insert into {self._table} ({self._columns}) values ({placeholders})"
        self.saved = 0

    def insert(self, rows: Sequence[Fields]) -> Iterator[tuple[int, str]]:
        """Insert rows; yield position and reason of each rejected row."""
        position = 0
        while position < len(rows):
            raw_rows = (index for index in range(position, len(rows)) if RawText in map(type, rows[index]))
            end, reason, changes = next(raw_rows, len(rows)), "", self._db.total_changes
            try:
                self._db.executemany(self._sql, rows[position:end])
            except (sqlite3.IntegrityError, sqlite3.DataError) as error:
                reason = str(error)
            inserted = self._db.total_changes - changes
            position += inserted
            self.saved += inserted
            if not reason and position < len(rows):
                reason = self._insert_raw(rows[position])
                position += not reason
            if reason:
                yield position, reason
                position += 1

    def _insert_raw(self, row: Fields) -> str:
        """Insert a row with text that is invalid in its encoding; return the reason if it is rejected.

        The row is copied through a temporary table, because SQLite would read a parameter as UTF-8.
        """
        names = [f"v{index}" for index in range(len(row))]
        if not self._raw_table:
            self._raw_table = f"temp.{ident(f'raw {self._table}')}"
            # that of the entries of an earlier index has its columns
            self._db.execute(f"drop table if exists {self._raw_table}")
            self._db.execute(
                f"create temp table {self._raw_table.removeprefix('temp.')} ({', '.join(names)})"
            )
        values = [bytes(value) if type(value) is RawText else value for value in row]
        placeholders = ", ".join("?" for _ in row)
        self._db.execute(f"insert into {self._raw_table} values ({placeholders})", values)
        selected = ", ".join(
            f"cast({name} as text)" if type(value) is RawText else name
            for name, value in zip(names, row, strict=True)
        )
        try:
            self._db.execute(
                f"insert into {self._table} ({self._columns}) select {selected} from {self._raw_table}"
            )
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            return str(error)
        finally:
            self._db.execute(f"delete from {self._raw_table}")
        self.saved += 1
        return ""


class RejectedRows:
    """The database of rejected rows, which is created with the first row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        self._inserters = dict[str, Inserter]()

    @property
    def has_rows(self) -> bool:
        return self._db is not None

    def add(self, table: str, columns: Sequence[str], reason: str, key: int | None, fields: Fields) -> None:
        """Store a row unchanged."""
        if self._db is None:
            self._db = create_database(self.path)
            self._db.execute("begin")
        if table not in self._inserters:
            all_columns = [*REJECTED_COLUMNS, *columns]
            # without types, as values of a typed column would be converted; sqlite-utils declares one for each column
            listed = ", ".join(ident(name) for name in all_columns)
            self._db.execute(f"create table {ident(table)} ({listed})")
            self._inserters[table] = Inserter(self._db, table, all_columns)
        filled = [*fields, *([None] * (len(columns) - len(fields)))][: len(columns)]
        list(self._inserters[table].insert([[reason, key, *filled]]))

    def close(self) -> None:
        """Commit and close the database."""
        if self._db is not None:
            if self._db.in_transaction:
                self._db.execute("commit")
            self._db.close()


#: A full-text index without stored text and without a content table, which cannot be rebuilt.
CONTENTLESS = re.compile(r"""content\s*=\s*(''|"")""", re.IGNORECASE)
#: Errors that do not concern a single statement.
FATAL = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOMEM")


def create_entries(
    db: sqlite3.Connection, entries: Sequence[Entry], kind: str
) -> Iterator[tuple[Entry, Exception]]:
    """Create the objects of one kind; yield those that could not be created."""
    for entry in entries:
        if entry.kind == kind and entry.sql:
            try:
                db.execute(entry.sql)
            except sqlite3.DatabaseError as error:
                raise_if_fatal(error)
                yield entry, error


def raise_if_fatal(error: sqlite3.Error) -> None:
    """Raise an error that does not concern a single statement, or the interruption that caused it."""
    signals.raise_if_interrupted()
    if get_error_name(error).startswith(FATAL):
        raise error


def create_objects(db: sqlite3.Connection, entries: Sequence[Entry]) -> Iterator[EngineFinding]:
    """Create views, triggers and virtual tables; yield the objects that could not be created."""
    for kind in ("view", "trigger"):
        for entry, error in create_entries(db, entries, kind):
            message = f"{kind} {entry.name} could not be created: {error}"
            yield EngineFinding(severity="error", code="not-created", message=message)
    if any(entry.name == "sqlite_stat1" for entry in entries):
        db.execute("analyze")
    # The shadow tables are already filled, so only the catalog entry of the virtual table is written.
    db.execute("pragma writable_schema = on")
    for entry in entries:
        if entry.is_virtual:
            db.execute(
                "insert into sqlite_master (type, name, tbl_name, rootpage, sql) values ('table', ?, ?, 0, ?)",
                [entry.name, entry.name, entry.sql],
            )


def verify_and_repair(path: Path, target: str, entries: Sequence[Entry]) -> Iterator[EngineFinding]:
    """Rebuild full-text indexes that differ from their rows; yield the problems of the new file."""
    with closing(SQLiteWriter(path, target)) as db:
        checks = SQLiteChecks(db)
        for name in checks.list_text_indexes():
            entry = next(entry for entry in entries if entry.name == name)
            yield from _repair_text_index(path, checks, entry)
        for orphans in checks.find_checkable_orphans():
            yield EngineFinding(
                severity="warning",
                code="foreign-key-orphans",
                message=f"{format_count(orphans.count, 'row')} of {orphans.table} ({', '.join(orphans.columns)}) refer to missing rows of {orphans.referenced_table}",
            )
        for line in checks.find_damage():
            yield EngineFinding(
                severity="error", code="corrupt-after-rebuild", message=f"the new file: {line}"
            )


def _repair_text_index(path: Path, checks: SQLiteChecks, entry: Entry) -> Iterator[EngineFinding]:
    reason = _read_damage(checks, entry.name)
    if not reason:
        return
    label = f"{entry.name} (full-text index)"
    if CONTENTLESS.search(entry.sql or ""):
        message = f"{label} is damaged and stores no text to rebuild it from: {reason}"
        yield EngineFinding(severity="error", code="text-index-damaged", message=message)
        return
    try:
        _rebuild_text_index(path, entry)
        reason = _read_damage(checks, entry.name)
    except sqlite3.Error as error:
        raise_if_fatal(error)
        reason = str(error)
    if reason:
        yield EngineFinding(
            severity="error", code="text-index-damaged", message=f"{label} could not be rebuilt: {reason}"
        )
    else:
        yield EngineFinding(
            severity="info", code="text-index-rebuilt", message=f"{label} was rebuilt from its rows"
        )


def _read_damage(checks: SQLiteChecks, name: str) -> str:
    try:
        return checks.check_text_index(name)
    except DbctlError as error:
        return str(error)


def _rebuild_text_index(path: Path, entry: Entry) -> None:
    """Replace the shadow tables of a full-text index, except its text, with empty ones, and rebuild it."""
    with (
        closing(sqlite3.connect(":memory:")) as empty,
        closing(sqlite3.connect(path, isolation_level=None)) as db,
    ):
        empty.execute(entry.sql or "")
        tables = empty.execute(
            "select name from sqlite_master where type = 'table' and rootpage > 0"
        ).fetchall()
        db.execute("begin")
        for (table,) in tables:
            if table.lower() == f"{entry.name}_content".lower():
                continue
            db.execute(f"delete from {ident(table)}")
            for row in empty.execute(f"select * from {ident(table)}"):
                placeholders = ", ".join("?" for _ in row)
                db.execute(f"insert into {ident(table)} values ({placeholders})", row)
        # rebuild_fts of sqlite-utils searches for the index with LIKE, which may return another one
        db.execute(f"insert into {ident(entry.name)} ({ident(entry.name)}) values ('rebuild')")
        db.execute("commit")
