"""Staging tables in SQLite's temporary database, which needs no lock on the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import Column
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sql.staging import SqlStagingTables, StagedRows, declare_columns
from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteWriter
    from dbctl.engines.sqlite.write_connection import WriteConnection


class SQLiteStagingTables(SqlStagingTables):
    """The part ``StagingTables``."""

    _connection: WriteConnection

    def __init__(self, db: SQLiteWriter) -> None:
        super().__init__(db)
        self._build_insert = db.build_insert

    def stage(
        self, table: str, key: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> StagedRows:
        # A change of a shadow table would damage the full-text or R-tree index.
        query = "select 1 from pragma_table_list where schema = 'main' and type = 'shadow' and name = :table"
        if self._connection.run(query, {"table": table}):
            raise NotSupportedError(
                feature=f"restoring single rows of {table}, a shadow table of an index,",
                subject=self._catalog.target,
                hint=Remedy(
                    "Restore the rows into a new table, or the whole database with: `restore apply ID`"
                ),
            )
        return super().stage(table, key, columns, rows)

    def find_name_conflict(self, name: str) -> str:
        sql = "select 1 from sqlite_master where type = 'index' and name = :name collate nocase"
        return "an index" if self._connection.run(sql, {"name": name}) else ""

    def _create_staging_table(
        self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        staging_table, names = f"temp.{ident(name)}", ", ".join(ident(column) for column in columns)
        self._connection.run(f"create temp table {ident(name)} as select {names} from {ident(table)} where 0")
        # Begin only now: a transaction that has read the file would block other writers.
        self._connection.run("begin")
        try:
            placeholders = ", ".join("?" * len(columns))
            # sqlite-utils reads only the main database, and would create a table there instead
            self._connection.call_once(
                lambda: self._connection.driver.executemany(
                    f"insert into {staging_table} values ({placeholders})",
                    rows,
                )
            )
            self._connection.run("commit")
        finally:
            if self._connection.driver.in_transaction:
                self._connection.driver.rollback()
        return staging_table

    def same_key(self, own: str, other: str) -> str:
        return f"{own} is {other}"  # the left operand determines the collation; a key may be NULL

    def same_value(self, table: str, column: str) -> str:
        name = self._catalog.quote_column(table, column, "")
        return f"(t0.{name} is s.{name} collate binary and typeof(t0.{name}) = typeof(s.{name}))"

    def insert_select(self, table: str, columns: Sequence[str], select: str) -> int:
        return self._connection.execute_write(*self._build_insert(table, columns, select))

    def update_from(self, table: str, staging_table: str, where: str, columns: Sequence[str]) -> int:
        sets = ", ".join(f"{ident(name)} = s.{ident(name)}" for name in columns)
        sql = f"update {ident(table)} as t0 set {sets} from {staging_table} s where {where}"
        return self._connection.execute_write(sql)

    @contextmanager
    def create_table(self, name: str, columns: Sequence[Column], key: Sequence[str]) -> Iterator[None]:
        definitions = declare_columns([(column, column.type) for column in columns], key)
        try:
            with self._connection.transaction():
                # sqlite-utils has six types for columns; these keep the types of another database
                self._connection.write(
                    lambda: self._connection.driver.execute(f"create table {ident(name)} ({definitions})")
                )
                self._catalog.forget()
                yield
        finally:
            self._catalog.forget()
