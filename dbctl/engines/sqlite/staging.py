"""Rows laid aside in SQLite's own place for what is temporary, which no lock on the file is needed for."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from dbctl.engines.contract import Column, Table
from dbctl.engines.sql import Row, SqlAside, SqlLaysAside, declared, ident
from dbctl.errors import DbctlError, NotSupportedError

T = TypeVar("T")


class SQLiteLaysAside(SqlLaysAside):
    """Capability.ASIDE."""

    _tables: dict[str, Table] | None

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _write(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, which writes inside the transaction."""

    @abstractmethod
    def _filled(self, table: str, columns: Collection[str]) -> Mapping[str, object]:
        """Return what each new row holds beside the given columns."""

    @abstractmethod
    def _once(self, call: Callable[[], T]) -> T: ...

    @abstractmethod
    def _current(self) -> sqlite3.Connection: ...

    @abstractmethod
    def _run(self, sql: str, parameters: dict[str, object]) -> list[Row]: ...

    @abstractmethod
    def _translated(self, error: sqlite3.Error) -> DbctlError: ...

    def aside(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> SqlAside:
        # A module that searches texts or places would find its index damaged.
        kept = "select 1 from pragma_table_list where schema = 'main' and type = 'shadow' and name = :table"
        if self._run(kept, {"table": table}):
            raise NotSupportedError(
                what=f"taking single rows into {table}, which holds an index of a virtual table,",
                by=self.target,
                instead="dbctl restore apply brings back all; --as NEW shows the rows in a table of their own.",
            )
        return super().aside(table, key, columns, rows)

    def namesake(self, name: str) -> str:
        sql = "select 1 from sqlite_master where type = 'index' and name = :name collate nocase"
        return "an index" if self._run(sql, {"name": name}) else ""

    def _laid(self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
        place, names = f"temp.{ident(name)}", ", ".join(ident(one) for one in columns)
        self._run(f"create temp table {ident(name)} as select {names} from {ident(table)} where 0", {})  # noqa: S608 - names are checked and quoted
        # Behind that: a transaction that has read the file would keep others from writing it.
        self._run("begin", {})
        try:
            holders = ", ".join("?" * len(columns))
            self._once(lambda: self._current().executemany(f"insert into {place} values ({holders})", rows))  # noqa: S608 - as above
            self._run("commit", {})
        except sqlite3.Error as error:
            raise self._translated(error) from error
        finally:
            if self._current().in_transaction:
                self._current().rollback()
        return place

    def same_key(self, own: str, other: str) -> str:
        return f"{own} is {other}"  # what stands first says how text compares; a key may hold NULL here

    def alike(self, table: str, column: str) -> str:
        name = self._column(table, column, "")
        return f"(t0.{name} is s.{name} collate binary and typeof(t0.{name}) = typeof(s.{name}))"

    def added(self, table: str, columns: Sequence[str], select: str) -> int:
        filled = self._filled(table, columns)
        names = ", ".join(ident(name) for name in (*columns, *filled))
        taken = ", ".join(["*", *(f":filled_{at}" for at in range(len(filled)))])
        values = {f"filled_{at}": value for at, value in enumerate(filled.values())}
        sql = f"insert into {ident(table)} ({names}) select {taken} from ({select})"  # noqa: S608 - as above
        return self._write(lambda: self._current().execute(sql, values).rowcount)

    def replaced(self, table: str, place: str, where: str, columns: Sequence[str]) -> int:
        sets = ", ".join(f"{ident(name)} = s.{ident(name)}" for name in columns)
        sql = f"update {ident(table)} as t0 set {sets} from {place} s where {where}"  # noqa: S608 - as above
        return self._write(lambda: self._current().execute(sql).rowcount)

    @contextmanager
    def new_table(self, name: str, columns: Sequence[Column], key: Sequence[str]) -> Iterator[None]:
        told = declared([(one, one.type) for one in columns], key)
        try:
            with self.transaction():
                self._write(lambda: self._current().execute(f"create table {ident(name)} ({told})"))
                self._tables = None
                yield
        finally:
            self._tables = None
