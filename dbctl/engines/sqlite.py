"""SQLite: what is meant for reading is never opened for writing, and every write is one immediate transaction."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from dbctl import interrupt
from dbctl.durable import sync_directory
from dbctl.engines import sqlite_script
from dbctl.engines.base import Capability, Column, Explanation, Order, Reference, Script, Table, Where
from dbctl.engines.locks import holder_of, write_lock
from dbctl.engines.sql import Row, SqlReader, Statement, ident, like_literal
from dbctl.errors import (
    BusyError,
    ConstraintError,
    CorruptError,
    DatabaseMissingError,
    DbctlError,
    DiskFullError,
    NotADatabaseError,
    QueryFailedError,
    ReadOnlyError,
    UnreachableError,
    ValueInvalidError,
)

if TYPE_CHECKING:
    from sqlite_utils import Database

T = TypeVar("T")

#: One wait of SQLite's own for a lock; between two waits signals are heard and the deadline is looked at.
WAIT_SECONDS = 0.1
#: Virtual-machine steps between two looks for a signal, about a millisecond of work.
STEPS_BETWEEN_LOOKS = 20_000
#: How often an unlocked read of a file that changed under it is tried again before locks are taken.
UNLOCKED_TRIES = 5
#: Two changes of a file within one tick of the kernel's clock leave the same mtime.
CLOCK_TICK_NS = 20_000_000

#: Kibibytes of page cache, negative as SQLite wants it: 64 MB. The file is never mapped into memory: another process
#: that cuts a mapped file short kills its reader with SIGBUS.
CACHE = ("cache_size", "-64000")

READ_ONLY_PLACE = "In WAL mode even reading needs a writable directory: copy the file together with its -wal elsewhere and read it there."

_text = partial(str, encoding="utf-8", errors="surrogateescape")


class SQLiteReader(SqlReader):
    """A SQLite file opened for reading only, without a trace left beside it.

    A file that nobody is writing (no ``-journal``, no ``-wal`` with content) is read without locks
    (``immutable=1``), because a plain read-only open of a WAL file leaves ``-wal`` and ``-shm`` behind. Each answer
    is then checked against the file's identity, size and time: if the file changed meanwhile the answer is thrown
    away and read again, at last the shared way. A file that was replaced is noticed and opened anew.
    """

    capabilities = frozenset({Capability.EXPLAIN})
    natives: frozenset[str] = frozenset()

    def __init__(self, path: Path, target: str, *, timeout: float = 5.0) -> None:
        """Open ``path``, waiting at most ``timeout`` seconds whenever somebody else holds a lock."""
        self.target = target
        self.path = Path(
            os.path.realpath(path)
        )  # side files stand beside the real file, not beside a link to it
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = None
        self._tables: dict[str, Table] | None = None
        self._unlocked = False
        self._opened_as: tuple[int, ...] = ()
        self._open(unlocked=self._quiet())
        self._fetch("select count(*) from sqlite_master", {})  # SQLite reads nothing of the file before this

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def tables(self) -> Mapping[str, Table]:
        if self._tables is None:
            names = self._fetch("select name, type from sqlite_master where type in ('table', 'view')", {})
            found = {}
            for name, kind in names:
                columns = self._columns(str(name), view=kind == "view")
                if columns and not str(name).startswith("sqlite_"):
                    found[str(name)] = Table(name=str(name), columns=columns)
            self._tables = found
        return self._tables

    def references(self, table: str) -> Sequence[Reference]:
        found = []
        for name in self.tables():
            for key in self.utils.table(name).foreign_keys:
                if key.other_table.lower() == table.lower():
                    action = cast("Literal['CASCADE']", key.on_delete)
                    found.append(
                        Reference(table=name, columns=key.columns, to=key.other_columns, on_delete=action)
                    )
        return found

    def explain(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> Explanation:
        statement = Statement()
        sql = self._select_sql(statement, table, columns, where, order_by, limit, offset)
        steps = self._fetch(f"explain query plan {sql}", statement.parameters)
        depth: dict[object, int] = {}
        plan, scans = [], []
        for step, parent, _unused, detail in steps:
            depth[step] = depth.get(parent, -1) + 1
            plan.append("  " * depth[step] + str(detail))
            words = str(detail).split()
            if words[:1] == ["SCAN"] and "INDEX" not in words and "json_each" not in words:
                scans.append(words[1])
        return Explanation(
            sql=sql, parameters=tuple(statement.parameters.values()), plan=plan, full_scans=scans
        )

    @property
    def utils(self) -> Database:
        """The same connection as sqlite-utils sees it; imported here because that alone costs 50 ms."""
        import sqlite_utils  # noqa: PLC0415

        return sqlite_utils.Database(self._current(), recursive_triggers=False, execute_plugins=False)

    # How SQLite says it ------------------------------------------------------------------------------------

    def _milliseconds(self, column: str) -> str:
        # Numbers below 10^11 are seconds: as milliseconds they would all lie before March 1973.
        return (
            f"case when typeof({column}) in ('integer', 'real')"
            f" then case when abs({column}) < 100000000000 then {column} * 1000 else {column} end"
            f" else cast(round((julianday({column}) - 2440587.5) * 86400000) as integer) end"
        )

    def _folded(self, value: str) -> str:
        return f"{value} collate nocase"

    def _text_test(self, column: str, op: str, statement: Statement, text: str) -> str:
        if op == "same":
            return f"{column} = {statement.bind(text)} collate nocase"
        pattern = like_literal(text) + "%"
        return f"{column} like {statement.bind(pattern if op == 'starts' else '%' + pattern)} escape '!'"

    def _among(self, column: str, statement: Statement, values: Sequence[object]) -> str:
        return f"{column} in (select value from json_each({statement.bind(json.dumps(list(values)))}))"

    def _columns(self, table: str, *, view: bool) -> dict[str, Column]:
        try:
            rows = self._fetch(f"pragma table_xinfo({ident(table)})", {})
        except QueryFailedError:
            if view:  # a view over a table that is gone: it cannot be read, so it is not there
                return {}
            raise
        alone = sum(1 for row in rows if row[5]) == 1
        columns = {}
        for _position, name, declared, not_null, default, key, hidden in rows:
            kind = str(declared or "").upper()
            rowid = bool(key) and alone and kind == "INTEGER"
            if hidden != 1:
                columns[str(name)] = Column(
                    name=str(name),
                    type=kind,
                    nullable=not (not_null or rowid),
                    required=bool(not_null) and default is None and not rowid and hidden == 0,
                    key=bool(key),
                )
        return columns

    # Opening, and running one statement ----------------------------------------------------------------------

    def _current(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError(f"{self.target} is closed")
        return self._connection

    def _quiet(self) -> bool:
        """Whether nobody has left anything to be read, or rolled back, beside the file."""
        wal, journal = (Path(f"{self.path}{suffix}") for suffix in ("-wal", "-journal"))
        try:
            return not journal.exists() and (not wal.exists() or wal.stat().st_size == 0)
        except OSError:
            return False

    def _identity(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            raise DatabaseMissingError(target=self.target, path=self.path) from None
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _unreachable(self, reason: str) -> UnreachableError:
        return UnreachableError(
            target=self.target,
            reason=reason,
            instead=f"Check owner and mode of {self.path} and of its directory.",
        )

    def _open(self, *, unlocked: bool) -> None:
        self.close()
        self._tables = None
        self._opened_as = self._identity()
        if self.path.is_dir():
            raise self._unreachable(f"{self.path} is a directory")
        if unlocked and 0 <= time.time_ns() - self._opened_as[3] < CLOCK_TICK_NS:
            time.sleep(CLOCK_TICK_NS / 1e9)
            self._opened_as = self._identity()
        self._unlocked = unlocked
        self._connect("mode=ro&immutable=1" if unlocked else "mode=ro")
        self._pragma("query_only", "1")
        self._pragma(*CACHE)

    def _connect(self, parameters: str) -> None:
        quoted = str(self.path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        try:
            self._connection = sqlite3.connect(
                f"file:{quoted}?{parameters}", uri=True, isolation_level=None, timeout=WAIT_SECONDS
            )
        except sqlite3.Error as error:
            raise self._translated(error) from error
        self._connection.text_factory = _text
        self._connection.set_progress_handler(lambda: interrupt.received() is not None, STEPS_BETWEEN_LOOKS)

    def _pragma(self, name: str, value: str) -> None:
        self._run(f"pragma {name} = {value}", {})

    def _fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        deadline = time.monotonic() + self._timeout
        tries = 0
        while True:
            if self._replaced():
                self._open(unlocked=self._quiet())
            try:
                rows = self._run(sql, parameters)
            except DbctlError:
                if not self._disturbed():
                    raise
            else:
                if not self._disturbed():
                    return rows
            tries += 1
            if time.monotonic() > deadline and not self._unlocked:
                raise self._busy()
            self._open(unlocked=self._quiet() and tries < UNLOCKED_TRIES)

    def _replaced(self) -> bool:
        """Whether the file at the path is another one, or (read without locks) no longer as it was opened."""
        now = self._identity()
        return now != self._opened_as if self._unlocked else now[:2] != self._opened_as[:2]

    def _disturbed(self) -> bool:
        return self._unlocked and self._identity() != self._opened_as

    def _run(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        return self._patiently(lambda: self._current().execute(sql, parameters).fetchall())

    def _patiently(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, trying again up to the deadline while somebody holds a lock."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return call()
            except sqlite3.Error as error:
                interrupt.check()
                name = _name(error)
                if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) and time.monotonic() < deadline:
                    continue
                raise self._translated(error) from error
            except (OverflowError, UnicodeEncodeError, ValueError) as error:
                raise ValueInvalidError(what="a value", value="given", reason=str(error)) from error

    def _busy(self) -> BusyError:
        return BusyError(target=self.target, holder=holder_of(self.path), waited=f"{self._timeout:g}")

    def _translated(self, error: sqlite3.Error) -> DbctlError:
        name, reason = _name(error), str(error)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return self._busy()
        if name.startswith("SQLITE_NOTADB"):
            return NotADatabaseError(target=self.target, path=self.path, engine="SQLite")
        if name.startswith("SQLITE_CORRUPT"):
            return CorruptError(target=self.target, reason=reason)
        if name == "SQLITE_FULL":
            return DiskFullError(target=self.target)
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_IOERR")):
            return self._access_refused(name, reason)
        if name.startswith(("SQLITE_CONSTRAINT", "SQLITE_MISMATCH")):
            return ConstraintError(target=self.target, reason=reason)
        return QueryFailedError(target=self.target, reason=reason)

    def _access_refused(self, name: str, reason: str) -> DbctlError:
        if not os.access(self.path.parent, os.W_OK) and not self._quiet():
            return UnreachableError(target=self.target, reason=f"{reason} ({name})", instead=READ_ONLY_PLACE)
        return self._unreachable(f"{reason} ({name})")


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "") or ""


class SQLiteWriter(SQLiteReader):
    """A SQLite file opened for reading and writing; its ``journal_mode`` stays as it was found."""

    capabilities = frozenset({Capability.EXPLAIN, Capability.MIGRATE})

    def __init__(
        self,
        path: Path,
        target: str,
        *,
        timeout: float = 5.0,
        create: Mapping[str, str] | None = None,
        pragmas: Mapping[str, str] = {},
    ) -> None:
        """Open ``path`` for writing.

        Args:
            path: the file.
            target: ``app/database``, for messages.
            timeout: seconds to wait for a lock, each time one is needed.
            create: None: the file must exist; else it is created where it is missing, with these pragmas.
            pragmas: for the connection, beside foreign keys, which are always on.
        """
        self._create, self._pragmas, self._depth = create, pragmas, 0
        super().__init__(path, target, timeout=timeout)

    # A writer holds locks, so it reads under them like everybody else.
    def _quiet(self) -> bool:
        return False

    def _replaced(self) -> bool:
        return False

    def _open(self, *, unlocked: bool) -> None:
        del unlocked
        if self._create is not None and not self.path.exists():
            self._create_empty()
        self._opened_as = self._identity()
        self._refuse_unsafe()
        self._connect("mode=rw")
        if self._create and self._opened_as[2] == 0:  # new, or left empty by one who was killed here
            for name, value in self._create.items():
                self._pragma(name, value)
        for name, value in (("foreign_keys", "1"), CACHE, *self._pragmas.items()):
            self._pragma(name, value)
        if self._run("pragma foreign_keys", {}) != [(1,)]:
            raise QueryFailedError(target=self.target, reason="this SQLite does not enforce foreign keys")

    def _create_empty(self) -> None:
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
            sync_directory(self.path.parent)
        except FileExistsError:  # somebody was faster; it is theirs then, and opened as it is
            return
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error

    def _refuse_unsafe(self) -> None:
        if self.path.is_dir():
            raise self._unreachable(f"{self.path} is a directory")
        if not (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)):
            raise ReadOnlyError(
                target=self.target,
                reason=f"{self.path} or its directory may not be written by this user",
                instead="Nothing was changed. Run dbctl as the user who owns the app's files.",
            )
        if self.path.stat().st_nlink > 1:
            raise ReadOnlyError(
                target=self.target,
                reason=f"{self.path} has a second hard link, whose users would not see this one's -wal",
                instead="Nothing was changed. Remove the other link, or make it a symbolic one.",
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        nested = self._depth
        begin, commit, rollback = (
            (f"savepoint s{nested}", f"release s{nested}", f"rollback to s{nested}")
            if nested
            else ("begin immediate", "commit", "rollback")
        )
        self._run(begin, {})
        self._depth += 1
        try:
            yield
            self._run(commit, {})
        except BaseException:  # also on a signal: half a change must not stay
            if self._current().in_transaction:  # some failures have ended it already
                self._current().execute(rollback)
            raise
        finally:
            self._depth -= 1

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        statement = Statement()
        names = ", ".join(self._column(table, name, "") for name in values)
        holders = ", ".join(statement.bind(value) for value in values.values())
        sql = f"insert into {self._table(table)} ({names}) values ({holders})"  # noqa: S608 - names are checked and quoted
        if returning:
            sql += f" returning {self._column(table, returning, '')}"
        rows = self._write(sql, statement.parameters).fetchall()
        return rows[0][0] if rows else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        names = ", ".join(self._column(table, name, "") for name in columns)
        holders = ", ".join("?" * len(columns))
        sql = f"insert into {self._table(table)} ({names}) values ({holders})"  # noqa: S608 - as above
        self._require_transaction()
        return self._patiently(lambda: self._current().executemany(sql, rows).rowcount)

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        statement = Statement()
        sets = ", ".join(
            f"{self._column(table, name, '')} = {statement.bind(value)}" for name, value in values.items()
        )
        condition = self._where(statement, table, where, "t0")
        sql = f"update {self._table(table)} as t0 set {sets}{condition}"  # noqa: S608 - as above
        return self._write(sql, statement.parameters).rowcount

    def delete(self, table: str, where: Sequence[Where]) -> int:
        statement = Statement()
        condition = self._where(statement, table, where, "t0")
        return self._write(
            f"delete from {self._table(table)} as t0{condition}", statement.parameters
        ).rowcount

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        with write_lock(self.path, self.target, purpose, timeout=self._timeout):
            yield

    def _write(self, sql: str, parameters: Mapping[str, object]) -> sqlite3.Cursor:
        self._require_transaction()
        return self._patiently(lambda: self._current().execute(sql, parameters))

    def _require_transaction(self) -> None:
        if not self._depth:
            raise RuntimeError("a write outside a transaction")

    # Scripts that change the schema ----------------------------------------------------------------------------

    def split(self, text: str) -> Script:
        return sqlite_script.split(text)

    @contextmanager
    def schema_transaction(self) -> Iterator[None]:
        if self._depth:
            raise RuntimeError("a change of the schema inside another transaction")
        # A rebuilt table would fire ON DELETE CASCADE, and inside a transaction this pragma does nothing.
        self._pragma("foreign_keys", "0")
        try:
            with self.transaction():
                before = self._orphans_before()
                self._current().set_authorizer(_only_what_a_transaction_can_hold)
                try:
                    yield
                finally:
                    self._current().set_authorizer(None)
                self._refuse_orphans(before)
        finally:
            self._tables = None
            self._pragma("foreign_keys", "1")

    def run_statement(self, sql: str) -> None:
        self._require_transaction()
        # To the last row: a SELECT that is only begun would hide its errors and keep its tables from being dropped.
        self._patiently(lambda: deque(self._current().execute(sql), maxlen=0))
        self._tables = None
        if not self._current().in_transaction:
            raise QueryFailedError(target=self.target, reason="the statement ended the transaction around it")

    def _orphans_before(self) -> Counter[tuple[object, object]]:
        try:
            return self._orphans()
        except (
            QueryFailedError
        ):  # keys that point to nothing unique; if they still do at the end, that is refused
            return Counter()

    def _orphans(self) -> Counter[tuple[object, object]]:
        """Count the rows that point to nothing, by their table and the one they point to."""
        return Counter((table, parent) for table, _, parent, _ in self._run("pragma foreign_key_check", {}))

    def _refuse_orphans(self, before: Counter[tuple[object, object]]) -> None:
        """Refuse what made orphans; those that were there already are not the fault of this change."""
        made = self._orphans() - before
        if made:
            (table, parent), count = made.most_common(1)[0]
            reason = f"{count} rows of {table} would point to rows of {parent} that are not there"
            raise ConstraintError(target=self.target, reason=reason)


def _only_what_a_transaction_can_hold(action: int, first: str | None, *_rest: str | None) -> int:
    """Refuse what would end the transaction, leave the file, or quietly do nothing inside a transaction."""
    if action in (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() not in sqlite_script.ALLOWED_PRAGMAS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
