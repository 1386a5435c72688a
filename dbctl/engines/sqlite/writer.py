"""A SQLite database in memory: nobody else sees it, and it is gone with its connection."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

from dbctl.engines.contract import Answer, Capability, FillRow, Later, Merge, Where, fill_nothing
from dbctl.engines.file_locks import write_lock
from dbctl.engines.sql import Row, Statement, on_conflict
from dbctl.engines.sqlite.connection import TOLD
from dbctl.engines.sqlite.files import refuse_unsafe
from dbctl.engines.sqlite.schema_writer import SQLiteSchemaWriter
from dbctl.engines.sqlite.staging import SQLiteLaysAside
from dbctl.engines.sqlite.types import form_of
from dbctl.engines.sqlite.wal import may_come_back
from dbctl.errors import CommitUnsyncedError, NotADatabaseError, QueryFailedError
from dbctl.files import sync_directory

T = TypeVar("T")

#: Kibibytes of page cache, negative as SQLite wants it: 64 MB halve the time of a large DELETE. Readers keep SQLite's
#: own 2 MB: filling more takes longer than reading again what the kernel keeps anyway. No file is mapped into memory:
#: another process that cuts a mapped file short kills its reader with SIGBUS.
CACHE = ("cache_size", "-64000")
#: Without a -wal a change is done once its journal is gone, and that has to reach the disk as well: a journal that comes
#: back after a power cut takes the change back, and where the file was made shorter, its last pages are lost for good.
DURABLE = ("synchronous", "extra")


class SQLiteWriter(SQLiteSchemaWriter, SQLiteLaysAside):
    """A SQLite file opened for reading and writing; its ``journal_mode`` stays as it was found."""

    capabilities = TOLD | {Capability.ASIDE, Capability.MIGRATE}
    reading = False

    def __init__(
        self,
        path: Path,
        target: str,
        *,
        timeout: float = 5.0,
        create: Mapping[str, str] | None = None,
        pragmas: Mapping[str, str] = {},
        fill: FillRow = fill_nothing,
    ) -> None:
        """Open ``path`` for writing.

        Args:
            path: the file.
            target: ``app/database``, for messages.
            timeout: seconds to wait for a lock, each time one is needed.
            create: None: the file must exist; else it is created where it is missing, with these pragmas.
            pragmas: for the connection, beside foreign keys, which are always on.
            fill: returns what each new row holds beside the given columns.
        """
        super().__init__(path, target, timeout=timeout)
        self._fill = fill
        try:
            self._open(create, pragmas)
            self._prove()
        except BaseException:  # an open connection must not outlive the failure
            self.close()
            raise

    def _open(self, create: Mapping[str, str] | None, pragmas: Mapping[str, str]) -> None:
        if create is not None and not os.path.lexists(self.path):
            self._create_empty()
        size = self._identity()[2]
        if size == 1:  # SQLite would take it for a new file, and write over it
            raise NotADatabaseError(target=self.target, path=self.path, engine="SQLite")
        refuse_unsafe(self.path, self.target)
        self._connect("mode=rw")
        if create and size == 0:  # new, or left empty by one who was killed here
            for name, value in create.items():
                self._pragma(name, value)
        for name, value in (("foreign_keys", "1"), CACHE, DURABLE, *pragmas.items()):
            self._pragma(name, value)
        if self._run("pragma foreign_keys", {}) != [(1,)]:
            raise QueryFailedError(target=self.target, reason="this SQLite does not enforce foreign keys")

    def _create_empty(self) -> None:
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
            try:
                if os.geteuid() == 0:  # what root makes is for the app, and the app owns its directory
                    around = self.path.parent.stat()
                    os.fchown(descriptor, around.st_uid, around.st_gid)
            finally:
                os.close(descriptor)
            sync_directory(self.path.parent)
        except FileExistsError:  # somebody was faster; it is theirs then, and opened as it is
            return
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error

    # A writer reads under locks like everybody else, so what it reads holds still.
    def _steadily(self, read: Callable[[], T]) -> T:
        return self._patiently(read)

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        self._pragma("query_only", "1")
        try:
            return super().query(sql, parameters)
        finally:
            self._pragma("query_only", "0")

    @contextmanager
    def ask(
        self,
        sql: str,
        parameters: Mapping[str, object] = {},
        *,
        within: timedelta | None = None,
        hidden: Mapping[str, Collection[str]] = {},
    ) -> Iterator[Answer]:
        self._pragma("query_only", "1")
        try:
            with super().ask(sql, parameters, within=within, hidden=hidden) as answer:
                yield answer
        finally:
            self._pragma("query_only", "0")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        nested = self._depth
        begin, commit, rollback = (
            (f"savepoint s{nested}", f"release s{nested}", f"rollback to s{nested}")
            if nested
            else ("begin immediate", "commit", "rollback")
        )
        try:
            self._run(begin, {})
            self._depth += 1
            yield
            self._run(commit, {})
        except BaseException as error:  # also on a signal, whenever it comes: half a change must not stay
            self._roll_back(rollback)
            if not nested:
                self._tell_doubt(error.__cause__)
            raise
        finally:
            self._depth = nested

    def _roll_back(self, sql: str) -> None:
        self._tables = self._schema = None  # what was seen of the schema may be taken back, too
        if self._connection is None or not self._connection.in_transaction:
            return  # some failures have ended it already
        try:
            self._connection.execute(sql)
        except sqlite3.Error:
            self.close()  # which rolls back whatever there is; the failure that led here is the one to tell

    def _tell_doubt(self, error: BaseException | None) -> None:
        """Raise CommitUnsyncedError where a change that failed may come back, and cannot be taken out of the -wal."""
        if not may_come_back(error, self.path):
            return
        if self._connection is not None:
            with suppress(sqlite3.Error):  # somebody may need what else is in it
                self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        if may_come_back(error, self.path):
            raise CommitUnsyncedError(target=self.target, path=self.path, reason=error) from error

    def _filled(self, table: str, columns: Collection[str]) -> Mapping[str, object]:
        return self._fill(self, table, columns)

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        statement = Statement()
        values = {**values, **self._fill(self, table, values)}
        sql = f"insert into {self._table(table)} default values"
        if values:
            names = ", ".join(self._column(table, name, "") for name in values)
            holders = ", ".join(statement.bind(value) for value in values.values())
            sql = f"insert into {self._table(table)} ({names}) values ({holders})"  # noqa: S608 - names are checked and quoted
        if returning:
            sql += f" returning {self._column(table, returning, '')}"
        # All that is returned: a statement that is only begun would stay open.
        rows = self._write(lambda: self._current().execute(sql, statement.parameters).fetchall())
        return rows[0][0] if rows else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        filled = self._fill(self, table, columns)
        if filled:
            given, same = rows, tuple(filled.values())
            columns, rows = [*columns, *filled], ((*row, *same) for row in given)
        names = ", ".join(self._column(table, name, "") for name in columns)
        into = f"insert into {self._table(table)} ({names})"
        keys = self._run(f"pragma foreign_key_list({self._table(table)})", {})
        if any(str(key[2]).lower() == table.lower() for key in keys):
            self._pragma("defer_foreign_keys", "1")  # a row may point to one that comes later
        return self._write(lambda: self._insert_all(into, len(columns), rows))

    def _insert_all(self, into: str, columns: int, rows: Iterable[Sequence[object]]) -> int:
        """Insert rows as they come; return how many. Only those with text that is not UTF-8 need a cast."""
        from dbctl.engines.sqlite.types import RawText

        left, raw, inserted = iter(rows), list[Sequence[object]](), 0
        holders = ", ".join("?" * columns)

        def valid() -> Iterator[Sequence[object]]:
            for row in left:
                if RawText in map(type, row):
                    raw.append(row)
                    return
                yield row

        while True:
            inserted += self._current().executemany(f"{into} values ({holders})", valid()).rowcount
            if not raw:
                return inserted
            row = raw.pop()
            casts = ", ".join("cast(? as text)" if type(value) is RawText else "?" for value in row)
            inserted += self._current().execute(f"{into} values ({casts})", row).rowcount

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        statement = Statement(table)
        sets = ", ".join(
            f"{self._column(table, name, '')} = {self._new_value(table, value, statement)}"
            for name, value in values.items()
        )
        condition = self._where(statement, table, where, "t0")
        sql = f"update {self._table(table)} as t0 set {sets}{condition}"  # noqa: S608 - as above
        return self._write(lambda: self._current().execute(sql, statement.parameters).rowcount)

    def _new_value(self, table: str, value: object, statement: Statement) -> str:
        if isinstance(value, Later):
            return self._later(
                self._column(table, value.column, "t0"), self._described(table, value.column), value
            )
        return statement.bind(value)

    def merge(
        self,
        table: str,
        select: str,
        parameters: Mapping[str, object],
        *,
        key: Sequence[str],
        columns: Mapping[str, Merge],
    ) -> int:
        names = {name: self._column(table, name, "") for name in (*key, *columns)}
        source, given = self._with_sets(select, parameters)
        filled = self._fill(self, table, names)
        into = [*names.values(), *(self._column(table, name, "") for name in filled)]
        given |= {f"filled_{at}": value for at, value in enumerate(filled.values())}
        taken = ", ".join(["*", *(f":filled_{at}" for at in range(len(filled)))])
        sql = (
            # WHERE TRUE, or SQLite would take ON for a part of the join
            f"insert into {self._table(table)} as t0 ({', '.join(into)}) select {taken} from ({source}) where true"  # noqa: S608 - names are checked and quoted
            f" on conflict ({', '.join(names[name] for name in key)}) do {on_conflict(names, columns)}"
        )
        return self._write(lambda: self._current().execute(sql, given).rowcount)

    def rewrite_times(self, table: str, column: str, form: str, convert: Callable[[object], object]) -> int:
        self._current().create_function(
            "dbctl_time", 1, cast("Callable[..., str | int]", convert), deterministic=True
        )
        name = self._column(table, column, "")
        held = form_of(name)
        sql = f"update {self._table(table)} set {name} = dbctl_time({name}) where {held} <> :form"  # noqa: S608 - as above
        return self._write(lambda: self._current().execute(sql, {"form": form}).rowcount)

    def delete(self, table: str, where: Sequence[Where]) -> int:
        statement = Statement(table)
        condition = self._where(statement, table, where, "t0")
        sql = f"delete from {self._table(table)} as t0{condition}"  # noqa: S608 - as above
        return self._write(lambda: self._current().execute(sql, statement.parameters).rowcount)

    def follow_keys(self, table: str) -> None:
        self._checked(table)  # SQLite does by itself

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        with write_lock(self.path, self.target, purpose, timeout=self._timeout):
            yield

    def _write(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns. It is not tried again: the transaction holds the lock, and rows that come from an iterator come once."""
        self._require_transaction()
        try:
            return self._once(call)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _require_transaction(self) -> None:
        if not self._depth:
            raise RuntimeError("a write outside a transaction")
        if not self._current().in_transaction:
            raise QueryFailedError(
                target=self.target, reason="an earlier failure ended the transaction around it"
            )


class SQLiteScratch(SQLiteWriter):
    """An empty database to try something in. Being killed leaves nothing behind, and no disk can be full."""

    def __init__(self, target: str) -> None:
        super().__init__(Path("/scratch"), target)  # never a file: the name is what SQLite wants

    def _open(self, create: Mapping[str, str] | None, pragmas: Mapping[str, str]) -> None:
        del create, pragmas  # there is no file that they could be of
        self._connect("mode=memory")
        self._pragma("foreign_keys", "1")
