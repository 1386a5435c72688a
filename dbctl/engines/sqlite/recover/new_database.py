"""The new file: tables as they were declared, and rows, of which none is dropped without a word."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import total_ordering
from pathlib import Path

from dbctl import signals
from dbctl.engines.sql import ident
from dbctl.engines.sqlite.files import SIDE_FILES
from dbctl.engines.sqlite.recover.btree import Order
from dbctl.engines.sqlite.recover.records import RawText

#: Names by which SQLite knows the key of a table that declares none.
ROWIDS = ("rowid", "_rowid_", "oid")
#: Kinds of hidden columns that ``table_xinfo`` tells: computed when they are read, and computed when they are written.
VIRTUAL, STORED = 2, 3
#: Columns that are put before those of a row that stays aside.
ASIDE = ("recovered_why", "recovered_rowid")

#: What SQLite's own collations do to a text before they compare its bytes.
FOLDS: Mapping[str, Callable[[bytes], bytes]] = {
    "BINARY": bytes,
    "NOCASE": bytes.lower,
    "RTRIM": lambda text: text.rstrip(b" "),
}
#: SQLite's words for encodings, and Python's.
ENCODINGS = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}

Fields = list[object]


def create(path: Path) -> sqlite3.Connection:
    """Make an empty database that nobody else may read; until it is whole nothing of it is synced."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    db = sqlite3.connect(path, isolation_level=None)
    db.set_progress_handler(lambda: signals.received() is not None, 20_000)
    for pragma in (
        "locking_mode = exclusive",
        "journal_mode = memory",
        "synchronous = off",
        "foreign_keys = off",
    ):
        db.execute(f"pragma {pragma}")
    return db


def remove(path: Path) -> None:
    """Remove a database and what SQLite put beside it."""
    for suffix in ("", *SIDE_FILES):
        with suppress(OSError):
            Path(f"{path}{suffix}").unlink()


class Table:
    """A table of the new file, and how a record of the old one becomes a row of it."""

    def __init__(self, db: sqlite3.Connection, name: str) -> None:
        self.name, self._db = name, db
        told = db.execute(f"pragma table_xinfo({ident(name)})").fetchall()
        stored = [one for one in told if one[6] != VIRTUAL]
        own = [str(row[1]) for row in db.execute(f"pragma index_list({ident(name)})") if row[3] == "pk"]
        key = db.execute(f"pragma index_xinfo({ident(own[0])})").fetchall() if own else []
        self.has_rowid = not key or any(row[1] < 0 for row in key)
        self.rowid = self._rowid(told) if self.has_rowid else ""
        self.order: Order | None = None
        if not self.has_rowid:  # its records stand in the order of its key
            numbers = {one[0]: one for one in stored}
            stored = [numbers[row[1]] for row in key if row[1] in numbers]
            encoding = str(db.execute("pragma encoding").fetchone()[0])
            self.order = _order([(row[3], row[4]) for row in key if row[5]], ENCODINGS[encoding])
        self.stored = [str(one[1]) for one in stored]
        primary = [one for one in told if one[5]]
        self.alias = (
            self.stored.index(str(primary[0][1]))
            if self.has_rowid and len(primary) == 1 and not own
            else None
        )
        self._taken = [at for at, one in enumerate(stored) if one[6] != STORED]
        self._defaults = [one[4] for one in stored]
        self._texts = [_is_text(str(one[2])) for one in stored]
        self._needed = [bool(one[3]) for one in stored]
        self._filled = dict[int, object]()
        columns = [self.stored[at] for at in self._taken]
        if self.has_rowid and self.alias is None and self.rowid:
            columns = [self.rowid, *columns]
        self.columns = columns

    def _rowid(self, told: Iterable[tuple[object, ...]]) -> str:
        taken = {str(one[1]).lower() for one in told}
        return next((name for name in ROWIDS if name not in taken), "")

    def fits(self, _key: int, fields: Fields) -> bool:
        """Whether a record can be a row: it has no more fields, and none where its key stands for one."""
        return 0 < len(fields) <= len(self.stored) and (
            self.alias is None or self.alias >= len(fields) or fields[self.alias] is None
        )

    def fits_closely(self, key: int, fields: Fields) -> bool:
        """Whether a record that nothing leads to may well be a row of this table."""
        return (
            self.fits(key, fields)
            and all(
                not (text and isinstance(value, int | float))
                for value, text in zip(fields, self._texts, strict=False)
            )
            and all(
                value is not None or not needed or at == self.alias
                for at, (value, needed) in enumerate(zip(fields, self._needed, strict=False))
            )
        )

    def row(self, key: int, fields: Fields) -> Fields:
        """Return the values of ``columns``."""
        if len(fields) < len(self.stored):  # columns came later, and old rows have their defaults
            fields = [*fields, *(self._default(at) for at in range(len(fields), len(self.stored)))]
        if self.alias is not None:
            fields[self.alias] = key
        if len(self._taken) < len(fields):
            fields = [fields[at] for at in self._taken]
        return [key, *fields] if len(self.columns) > len(fields) else fields

    def _default(self, at: int) -> object:
        if at not in self._filled:
            self._filled[at] = None
            if self._defaults[at] is not None:
                with suppress(sqlite3.Error):
                    self._filled[at] = self._db.execute(f"select {self._defaults[at]}").fetchone()[0]
        return self._filled[at]


def _order(key: Sequence[tuple[bool, str]], encoding: str) -> Order | None:
    """Return how SQLite orders records by their first fields; None where it takes a collation that is not its own.

    Args:
        key: of each of these fields, whether it descends, and its collation.
        encoding: of texts, by which they are compared.
    """
    if any(collation.upper() not in FOLDS for _, collation in key):
        return None
    folds = [(descends, FOLDS[collation.upper()]) for descends, collation in key]

    def ordered(fields: Fields) -> tuple[object, ...]:
        return tuple(
            _Descending(_rank(value, fold, encoding)) if descends else _rank(value, fold, encoding)
            for value, (descends, fold) in zip(fields, folds, strict=False)
        )

    return ordered


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

    __hash__ = None  # type: ignore[assignment]  # nothing keeps it in a set


def _is_text(declared: str) -> bool:
    """Whether SQLite gives a column of that type the affinity TEXT, so that no number is ever stored there."""
    upper = declared.upper()
    return "INT" not in upper and any(word in upper for word in ("CHAR", "CLOB", "TEXT"))


class Inserter:
    """Writes rows into one table; a row that it does not take is handed back."""

    def __init__(
        self, db: sqlite3.Connection, table: str, columns: Sequence[str], *, schema: str = "main"
    ) -> None:
        self._db, self._table = db, f"{schema}.{ident(table)}"
        self._raw_table = ""
        self._columns = ", ".join(ident(one) for one in columns)
        self._sql = self._statement("?" for _ in columns)
        self.saved = 0

    def _statement(self, values: Iterable[str]) -> str:
        return f"insert into {self._table} ({self._columns}) values ({', '.join(values)})"  # noqa: S608 - the names are quoted

    def insert(self, rows: Sequence[Fields]) -> Iterator[tuple[int, str]]:
        """Insert rows; yield the place of each that is refused, and why."""
        at = 0
        while at < len(rows):
            taken = 0

            def remaining(begin: int) -> Iterator[Fields]:
                nonlocal taken
                for row in rows[begin:]:
                    if RawText in map(type, row):
                        return
                    taken += 1
                    yield row

            try:
                self._db.executemany(self._sql, remaining(at))
            except (sqlite3.IntegrityError, sqlite3.DataError) as error:
                self.saved += taken - 1
                at += taken
                yield at - 1, str(error)
                continue
            self.saved += taken
            at += taken
            if at < len(rows):
                if reason := self._raw(rows[at]):
                    yield at, reason
                at += 1

    def _raw(self, row: Fields) -> str:
        """Insert a row with text that is none of its encoding; return why it is refused.

        It goes through a table, from which SQLite takes such bytes as they are; a parameter it would take for UTF-8.
        """
        names = [f"v{at}" for at in range(len(row))]
        if not self._raw_table:
            self._raw_table = f"temp.{ident(f'raw {self._table}')}"
            self._db.execute(
                f"create temp table {self._raw_table.removeprefix('temp.')} ({', '.join(names)})"
            )
        values = [bytes(value) if type(value) is RawText else value for value in row]
        marks = ", ".join("?" for _ in row)
        self._db.execute(f"insert into {self._raw_table} values ({marks})", values)  # noqa: S608 - the name is quoted
        taken = ", ".join(
            f"cast({name} as text)" if type(value) is RawText else name
            for name, value in zip(names, row, strict=True)
        )
        try:
            self._db.execute(
                f"insert into {self._table} ({self._columns}) select {taken} from {self._raw_table}"  # noqa: S608 - as above
            )
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            return str(error)
        finally:
            self._db.execute(f"delete from {self._raw_table}")  # noqa: S608 - as above
        self.saved += 1
        return ""


class Aside:
    """A database of rows that the new one does not take; it is made when there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        self._inserters = dict[str, Inserter]()

    @property
    def made(self) -> bool:
        """Whether there is any such row."""
        return self._db is not None

    def add(self, table: str, columns: Sequence[str], why: str, key: int | None, fields: Fields) -> None:
        """Keep a row as it was read."""
        if self._db is None:
            self._db = create(self.path)
            self._db.execute("begin")
        if table not in self._inserters:
            all_columns = [*ASIDE, *columns]
            listed = ", ".join(ident(one) for one in all_columns)
            self._db.execute(f"create table {ident(table)} ({listed})")
            self._inserters[table] = Inserter(self._db, table, all_columns)
        filled = [*fields, *([None] * (len(columns) - len(fields)))][: len(columns)]
        list(self._inserters[table].insert([[why, key, *filled]]))

    def close(self) -> None:
        """End it; what it holds is written."""
        if self._db is not None:
            if self._db.in_transaction:
                self._db.execute("commit")
            self._db.close()
