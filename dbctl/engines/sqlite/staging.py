"""Staging tables in SQLite's temporary database, which needs no lock on the file."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from dbctl.engines.contract import Column, Table
from dbctl.engines.sql import Row, SqlStagedRows, SqlStaging, declare_columns, ident
from dbctl.errors import DbctlError, NotSupportedError

T = TypeVar("T")


class SQLiteStaging(SqlStaging):
    """Capability.STAGING."""

    _tables: dict[str, Table] | None

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _write(self, call: Callable[[], T]) -> T:
        """Return the result of ``call``, which writes inside the transaction."""

    @abstractmethod
    def _fill_values(self, table: str, columns: Collection[str]) -> Mapping[str, object]:
        """Return the values of further columns for each new row, besides ``columns``."""

    @abstractmethod
    def _call_once(self, call: Callable[[], T]) -> T: ...

    @abstractmethod
    def _require_connection(self) -> sqlite3.Connection: ...

    @abstractmethod
    def _run(self, sql: str, parameters: dict[str, object]) -> list[Row]: ...

    @abstractmethod
    def _translate(self, error: sqlite3.Error) -> DbctlError: ...

    def stage(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> SqlStagedRows:
        # A change of a shadow table would damage the full-text or R-tree index.
        query = "select 1 from pragma_table_list where schema = 'main' and type = 'shadow' and name = :table"
        if self._run(query, {"table": table}):
            raise NotSupportedError(
                feature=f"restoring single rows of {table}, a shadow table of an index,",
                subject=self.target,
                hint="Restore the whole database with dbctl restore apply, or restore the rows into a new table.",
            )
        return super().stage(table, key, columns, rows)

    def find_name_conflict(self, name: str) -> str:
        sql = "select 1 from sqlite_master where type = 'index' and name = :name collate nocase"
        return "an index" if self._run(sql, {"name": name}) else ""

    def _create_staging_table(
        self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        staging_table, names = f"temp.{ident(name)}", ", ".join(ident(column) for column in columns)
        self._run(f"create temp table {ident(name)} as select {names} from {ident(table)} where 0", {})  # noqa: S608 - names are checked and quoted
        # Begin only now: a transaction that has read the file would block other writers.
        self._run("begin", {})
        try:
            placeholders = ", ".join("?" * len(columns))
            self._call_once(
                lambda: self._require_connection().executemany(
                    f"insert into {staging_table} values ({placeholders})",  # noqa: S608 - names are quoted
                    rows,
                )
            )
            self._run("commit", {})
        except sqlite3.Error as error:
            raise self._translate(error) from error
        finally:
            if self._require_connection().in_transaction:
                self._require_connection().rollback()
        return staging_table

    def same_key(self, own: str, other: str) -> str:
        return f"{own} is {other}"  # the left operand determines the collation; a key may be NULL

    def same_value(self, table: str, column: str) -> str:
        name = self._quote_column(table, column, "")
        return f"(t0.{name} is s.{name} collate binary and typeof(t0.{name}) = typeof(s.{name}))"

    def insert_select(self, table: str, columns: Sequence[str], select: str) -> int:
        filled = self._fill_values(table, columns)
        names = ", ".join(ident(name) for name in (*columns, *filled))
        selected = ", ".join(["*", *(f":filled_{index}" for index in range(len(filled)))])
        values = {f"filled_{index}": value for index, value in enumerate(filled.values())}
        sql = f"insert into {ident(table)} ({names}) select {selected} from ({select})"  # noqa: S608 - names are quoted
        return self._write(lambda: self._require_connection().execute(sql, values).rowcount)

    def update_from(self, table: str, staging_table: str, where: str, columns: Sequence[str]) -> int:
        sets = ", ".join(f"{ident(name)} = s.{ident(name)}" for name in columns)
        sql = f"update {ident(table)} as t0 set {sets} from {staging_table} s where {where}"  # noqa: S608 - names are quoted
        return self._write(lambda: self._require_connection().execute(sql).rowcount)

    @contextmanager
    def create_table(self, name: str, columns: Sequence[Column], key: Sequence[str]) -> Iterator[None]:
        definitions = declare_columns([(column, column.type) for column in columns], key)
        try:
            with self.transaction():
                self._write(
                    lambda: self._require_connection().execute(f"create table {ident(name)} ({definitions})")
                )
                self._tables = None
                yield
        finally:
            self._tables = None
