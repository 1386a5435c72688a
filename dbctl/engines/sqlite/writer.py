"""Write to a SQLite file, or to a private database in memory."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from dbctl.engines.contract import (
    Capability,
    FillRow,
    MergeRule,
    RowStream,
    ShiftedTime,
    Where,
    fill_no_columns,
)
from dbctl.engines.file_locks import write_lock
from dbctl.engines.sql import Row, Statement, conflict_clause
from dbctl.engines.sqlite.connection import BASE_CAPABILITIES
from dbctl.engines.sqlite.files import refuse_unsafe
from dbctl.engines.sqlite.schema_writer import SQLiteSchemaWriter
from dbctl.engines.sqlite.staging import SQLiteStaging
from dbctl.engines.sqlite.types import time_form_sql
from dbctl.engines.sqlite.wal import may_reappear
from dbctl.errors import CommitUnsyncedError, DbctlError, NotADatabaseError, QueryFailedError
from dbctl.files import sync_directory

if TYPE_CHECKING:
    from dbctl.engines.sqlite.row_writer import RowWriter

T = TypeVar("T")

#: Page cache in kibibytes, which SQLite expects as a negative number: 64 MB halve the time of a large DELETE. Readers
#: use SQLite's default of 2 MB: filling a larger cache takes longer than reading from the kernel's cache. Files are
#: not memory-mapped: a process that truncates a mapped file kills its readers with SIGBUS.
CACHE_PRAGMA = ("cache_size", "-64000")
#: Without a -wal, deleting the journal commits a change, and the deletion must be synced too: a journal that reappears
#: after a power failure reverts the change, and if the file was truncated, its last pages are lost.
DURABLE_PRAGMA = ("synchronous", "extra")


class SQLiteWriter(SQLiteSchemaWriter, SQLiteStaging):
    """A SQLite file opened for reading and writing; its ``journal_mode`` is not changed."""

    capabilities = BASE_CAPABILITIES | {Capability.STAGING, Capability.MIGRATE}
    read_only = False

    def __init__(
        self,
        path: Path,
        target: str,
        *,
        timeout: float = 5.0,
        create: Mapping[str, str] | None = None,
        pragmas: Mapping[str, str] = {},
        fill: FillRow = fill_no_columns,
    ) -> None:
        """Open ``path`` for writing.

        Args:
            path: the file.
            target: ``app/database``, for messages.
            timeout: seconds to wait for each lock.
            create: pragmas for a new file if it is missing; None: the file must exist.
            pragmas: for the connection; foreign keys are always on.
            fill: returns the values of further columns for each new row.
        """
        super().__init__(path, target, timeout=timeout)
        self._fill = fill
        self._open_row_writer: RowWriter | None = None
        try:
            self._open(create, pragmas)
            self._require_database()
        except BaseException:  # an open connection must not outlive the failure
            self.close()
            raise

    def _open(self, create: Mapping[str, str] | None, pragmas: Mapping[str, str]) -> None:
        if create is not None and not os.path.lexists(self.path):
            self._create_empty()
        size = self._read_file_state()[2]
        if size == 1:  # SQLite would treat it as a new file and overwrite it
            raise NotADatabaseError(target=self.target, path=self.path, engine="SQLite")
        refuse_unsafe(self.path, self.target)
        self._connect("mode=rw")
        if create and size == 0:  # new, or left empty by a killed process
            for name, value in create.items():
                self._set_pragma(name, value)
        for name, value in (("foreign_keys", "1"), CACHE_PRAGMA, DURABLE_PRAGMA, *pragmas.items()):
            self._set_pragma(name, value)
        if self._run("pragma foreign_keys", {}) != [(1,)]:
            raise QueryFailedError(
                target=self.target, reason="this build of SQLite does not enforce foreign keys"
            )

    def _create_empty(self) -> None:
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
            try:
                if os.geteuid() == 0:  # the app, which owns the directory, must be able to open the file
                    folder = self.path.parent.stat()
                    os.fchown(descriptor, folder.st_uid, folder.st_gid)
            finally:
                os.close(descriptor)
            sync_directory(self.path.parent)
        except FileExistsError:  # another process created it first
            return
        except OSError as error:
            raise self._unreachable_error(error.strerror or str(error)) from error

    # A writer reads with locks, so the file does not change while it is read.
    def _retry_if_changed(self, read: Callable[[], T]) -> T:
        return self._retry_while_locked(read)

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        self._set_pragma("query_only", "1")
        try:
            return super().query(sql, parameters)
        finally:
            self._set_pragma("query_only", "0")

    @contextmanager
    def query_read_only(
        self,
        sql: str,
        parameters: Mapping[str, object] = {},
        *,
        timeout: timedelta | None = None,
        hidden: Mapping[str, Collection[str]] = {},
    ) -> Iterator[RowStream]:
        self._set_pragma("query_only", "1")
        try:
            with super().query_read_only(sql, parameters, timeout=timeout, hidden=hidden) as stream:
                yield stream
        finally:
            self._set_pragma("query_only", "0")

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
        except BaseException as error:  # also on a signal: an incomplete change must be rolled back
            self._roll_back(rollback)
            if not nested:
                self._raise_if_unsynced(error.__cause__)
            raise
        finally:
            self._depth = nested

    def _roll_back(self, sql: str) -> None:
        self._tables = self._schema_version = None  # changes of the schema may be rolled back, too
        if self._connection is None or not self._connection.in_transaction:
            return  # some errors end the transaction
        try:
            self._connection.execute(sql)
        except sqlite3.Error:
            self.close()  # closing rolls back; the first error is the one to report

    def _raise_if_unsynced(self, error: BaseException | None) -> None:
        """Raise CommitUnsyncedError if a failed change may reappear and cannot be removed from the -wal."""
        if not may_reappear(error, self.path):
            return
        if self._connection is not None:
            with suppress(sqlite3.Error):  # a reader may still use other frames
                self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        if may_reappear(error, self.path):
            raise CommitUnsyncedError(target=self.target, path=self.path, reason=error) from error

    def _fill_values(self, table: str, columns: Collection[str]) -> Mapping[str, object]:
        return self._fill(self, table, columns)

    @property
    def _row_writer(self) -> RowWriter:
        """The writer of rows through sqlite-utils, which only commands that write wait for."""
        if self._open_row_writer is None:
            from dbctl.engines.sqlite.row_writer import RowWriter

            self._open_row_writer = RowWriter(self._require_connection())
        return self._open_row_writer

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        values = {**values, **self._fill(self, table, values)}
        for name in values:
            self._require_column(table, name)
        name = self._require_table(table).name
        if returning is None:
            return self._write(lambda: self._row_writer.insert(name, values))
        # sqlite-utils would read the new row by its rowid, which a table WITHOUT ROWID lacks, and which is that of another
        # row if a trigger ignores the new one.
        statement = Statement()
        source = "default values"
        if values:
            names = ", ".join(self._quote_column(table, column, "") for column in values)
            source = f"({names}) values ({', '.join(statement.bind(value) for value in values.values())})"
        sql = f"insert into {self._quote_table(table)} {source} returning {self._quote_column(table, returning, '')}"
        # Fetch all rows, because an unfinished statement would stay open.
        rows = self._write(lambda: self._row_writer.execute(sql, statement.parameters).fetchall())
        return rows[0][0] if rows else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        filled = self._fill(self, table, columns)
        if filled:
            source_rows, constants = rows, tuple(filled.values())
            columns, rows = [*columns, *filled], ((*row, *constants) for row in source_rows)
        names = [self._require_column(table, name).name for name in columns]
        try:
            return self._write(lambda: self._row_writer.insert_all(table, names, rows))
        except DbctlError as error:
            if self._row_writer.refused_row is not None:
                error.context["row"] = self._row_writer.refused_row
            raise

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        statement = Statement(table)
        sets = ", ".join(
            f"{self._quote_column(table, name, '')} = {self._value_sql(table, value, statement)}"
            for name, value in values.items()
        )
        condition = self._where_clause(statement, table, where, "t0")
        # sqlite-utils updates one row by its key, after reading it; this updates the rows that meet conditions.
        sql = f"update {self._quote_table(table)} as t0 set {sets}{condition}"  # noqa: S608 - names are quoted
        return self._write(lambda: self._row_writer.execute(sql, statement.parameters).rowcount)

    def _value_sql(self, table: str, value: object, statement: Statement) -> str:
        if isinstance(value, ShiftedTime):
            return self._shift_time(
                self._quote_column(table, value.column, "t0"),
                self._require_column(table, value.column),
                value,
            )
        return statement.bind(value)

    def merge(
        self,
        table: str,
        select: str,
        parameters: Mapping[str, object],
        *,
        key: Sequence[str],
        columns: Mapping[str, MergeRule],
    ) -> int:
        names = {name: self._quote_column(table, name, "") for name in (*key, *columns)}
        source, bound_values = self._expand_sets(select, parameters)
        filled = self._fill(self, table, names)
        into = [*names.values(), *(self._quote_column(table, name, "") for name in filled)]
        bound_values |= {f"filled_{index}": value for index, value in enumerate(filled.values())}
        selected = ", ".join(["*", *(f":filled_{index}" for index in range(len(filled)))])
        sql = (
            # upsert of sqlite-utils takes rows of Python, and replaces each column; these rows stay in SQLite.
            # WHERE TRUE, because otherwise SQLite would read ON as part of the join
            f"insert into {self._quote_table(table)} as t0 ({', '.join(into)}) select {selected} from ({source}) where true"  # noqa: S608 - names are checked and quoted
            f" on conflict ({', '.join(names[name] for name in key)}) do {conflict_clause(names, columns)}"
        )
        return self._write(lambda: self._row_writer.execute(sql, bound_values).rowcount)

    def rewrite_times(self, table: str, column: str, form: str, convert: Callable[[object], object]) -> int:
        self._require_connection().create_function(
            "dbctl_time", 1, cast("Callable[..., str | int]", convert), deterministic=True
        )
        name = self._quote_column(table, column, "")
        stored_form = time_form_sql(name)
        sql = (
            f"update {self._quote_table(table)} set {name} = dbctl_time({name}) where {stored_form} <> :form"  # noqa: S608 - names are quoted
        )
        return self._write(lambda: self._require_connection().execute(sql, {"form": form}).rowcount)

    def delete(self, table: str, where: Sequence[Where]) -> int:
        statement, name = Statement(table), self._require_table(table).name
        condition = " and ".join(
            self._build_condition(statement, table, test, self._quote_table(table)) for test in where
        )
        return self._write(lambda: self._row_writer.delete_where(name, condition, statement.parameters))

    def advance_sequences(self, table: str) -> None:
        self._require_table(table)  # SQLite advances its sequences itself

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        with write_lock(self.path, self.target, purpose, timeout=self._timeout):
            yield

    def _write(self, call: Callable[[], T]) -> T:
        """Return the result of ``call``, without a retry: the transaction has the lock, and an iterator yields once."""
        self._require_transaction()
        try:
            return self._call_once(call)
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _require_transaction(self) -> None:
        if not self._depth:
            raise RuntimeError("write outside a transaction")
        if not self._require_connection().in_transaction:
            raise QueryFailedError(target=self.target, reason="an earlier error ended the transaction")


class SQLiteScratch(SQLiteWriter):
    """An empty database in memory, which leaves no files and needs no disk space."""

    def __init__(self, target: str) -> None:
        super().__init__(Path("/scratch"), target)  # SQLite requires a name; no file is created

    def _open(self, create: Mapping[str, str] | None, pragmas: Mapping[str, str]) -> None:
        del create, pragmas  # there is no file to create or configure
        self._connect("mode=memory")
        self._set_pragma("foreign_keys", "1")
