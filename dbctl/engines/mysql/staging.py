"""Staging tables: rows in a temporary table of the session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby

from dbctl import signals
from dbctl.engines.contract.database import Column
from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.connection.insert_rows import RowInserter
from dbctl.engines.mysql.database import MySQLWriter
from dbctl.engines.mysql.types.columns import MySQLColumn, kind_of
from dbctl.engines.mysql.types.values import format_literal
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sql.staging import SqlStagingTables, declare_columns
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError

#: Kinds for which ``<=>`` compares exactly.
EXACT = frozenset({"integer", "number", "time", "date"})
#: The foreign keys of one table; a query by referenced table would scan the catalog for each.
KEYS = """select table_name, constraint_name, referenced_table_name, column_name, referenced_column_name
from information_schema.key_column_usage where table_schema = database() and table_name = :table
and referenced_table_schema = database() order by constraint_name, ordinal_position"""


class MySQLStaging(SqlStagingTables):
    """The part ``StagingTables``."""

    _connection: MySQLConnection

    def __init__(self, db: MySQLWriter) -> None:
        super().__init__(db)
        self._db, self._rows = db, RowInserter(db.connection)

    def _create_staging_table(
        self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        staging_table, names = ident(name), ", ".join(ident(column) for column in columns)
        select = f"select {names} from {self._catalog.quote_table(table)} where false"
        self._connection.execute_text(f"create temporary table {staging_table} engine = InnoDB as {select}")
        with self._db.transaction():
            described = [self._catalog.require_column(table, column) for column in columns]
            self._rows.insert(staging_table, described, rows)
        return staging_table

    def same_key(self, own: str, other: str) -> str:
        return f"{own} = {other}"

    def same_value(self, table: str, column: str) -> str:
        name = self._catalog.quote_column(table, column, "")
        if kind_of(self._catalog.require_column(table, column)) in EXACT:
            return f"(t0.{name} <=> s.{name})"
        return f"(cast(t0.{name} as binary) <=> cast(s.{name} as binary))"  # as text, the comparison ignores case

    def insert_select(self, table: str, columns: Sequence[str], select: str) -> int:
        self._db.require_writable(table)
        names = ", ".join(ident(name) for name in columns)
        sql = f"insert into {self._catalog.quote_table(table)} ({names}) {select}"
        self_references = [
            reference for reference in self._catalog.references(table) if reference.table == table
        ]
        if not self_references:
            return self._connection.execute_write(sql)
        # A server checks each row immediately, but the row that it refers to may be inserted later.
        self._connection.execute_text("set session foreign_key_checks = 0")
        try:
            row_count = self._connection.execute_write(sql)
        finally:
            self._connection.execute_text("set session foreign_key_checks = 1")
        for key in self._foreign_keys(table):
            self._require_parents(table, key)
        return row_count

    def _foreign_keys(self, table: str) -> Iterator[tuple[Sequence[str], str, Sequence[str]]]:
        """Yield the foreign keys of a table: its columns, the referenced table, and the referenced columns."""
        rows = [row for row in self._connection.fetch(KEYS, {"table": table}) if row[0] == table]
        for (_, referenced), group in groupby(rows, key=lambda row: row[1:3]):
            pairs = [(str(row[3]), str(row[4])) for row in group]
            yield [column for column, _ in pairs], str(referenced), [to for _, to in pairs]

    def _require_parents(self, table: str, key: tuple[Sequence[str], str, Sequence[str]]) -> None:
        columns, referenced, to = key
        link = " and ".join(
            f"p.{ident(other)} = t0.{ident(column)}" for column, other in zip(columns, to, strict=True)
        )
        is_complete = " and ".join(f"t0.{ident(column)} is not null" for column in columns)
        sql = (
            f"select count(*) from {self._catalog.quote_table(table)} t0 where {is_complete}"
            f" and not exists (select 1 from {self._catalog.quote_table(referenced)} p where {link})"
        )
        if (count := int(str(self.fetch(sql)[0][0]))) > 0:
            reason = f"{count} rows of {table} would refer to no row of {referenced} ({', '.join(columns)})"
            raise ConstraintError(target=self._connection.target, reason=reason)

    def update_from(self, table: str, staging_table: str, where: str, columns: Sequence[str]) -> int:
        self._db.require_writable(table)
        sets = ", ".join(f"t0.{ident(name)} = s.{ident(name)}" for name in columns)
        return self._connection.execute_write(
            f"update {self._catalog.quote_table(table)} t0 join {staging_table} s on {where} set {sets}"
        )

    def find_name_conflict(self, name: str) -> str:
        del name  # no other object shares the names of tables
        return ""

    @contextmanager
    def create_table(self, name: str, columns: Sequence[Column], key: Sequence[str]) -> Iterator[None]:
        definitions = declare_columns([(column, _declare_type(column)) for column in columns], key)
        self._connection.execute_text(
            f"create table {ident(name)} ({definitions}) engine = InnoDB"
        )  # this commits
        self._catalog.forget()
        try:
            with self._db.transaction():
                yield
        except BaseException:  # also on a signal: an empty table must not remain
            with signals.block_signals(), suppress(DbctlError):
                self._connection.execute_text(f"drop table {ident(name)}")
            raise
        finally:
            self._catalog.forget()


def _declare_type(column: Column) -> str:
    if isinstance(column, MySQLColumn) and column.charset:
        return f"{column.type} character set {column.charset} collate {format_literal(column.collation)}"
    return column.type
