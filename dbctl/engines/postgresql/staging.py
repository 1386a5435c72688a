"""Staging tables: rows in a temporary table of the session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from dbctl.engines.contract.database import Column
from dbctl.engines.postgresql.connection.connection import PostgreSQLConnection
from dbctl.engines.postgresql.connection.session import MAX_NAME_BYTES
from dbctl.engines.postgresql.database import PostgreSQLWriter
from dbctl.engines.postgresql.types.columns import base_type
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sql.staging import SqlStagingTables, declare_columns
from dbctl.errors.usage import ValueInvalidError

#: Objects that share their names with tables: other relations, and types, since each table has a type.
NAME_CONFLICTS = """select case c.relkind when 'i' then 'an index' when 'I' then 'an index' when 'S' then 'a sequence' else 'a type' end
from pg_catalog.pg_class c where c.relname = :name and c.relkind in ('i', 'I', 'S', 'c')
  and c.relnamespace = current_schema()::regnamespace
union all select 'a type' from pg_catalog.pg_type t where t.typname = :name and t.typrelid = 0
  and t.typnamespace = current_schema()::regnamespace"""


class PostgreSQLStaging(SqlStagingTables):
    """The part ``StagingTables``."""

    _connection: PostgreSQLConnection

    def __init__(self, db: PostgreSQLWriter) -> None:
        super().__init__(db)
        self._transactions = db.transactions

    def _create_staging_table(
        self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        staging_table, names = f"pg_temp.{ident(name)}", ", ".join(ident(column) for column in columns)
        select = f"select {names} from {self._catalog.quote_table(table)} with no data"
        self._connection.fetch(f"create temporary table {ident(name)} as {select}", writing=True)
        described = [self._catalog.require_column(table, column) for column in columns]
        self._connection.copy_rows(staging_table, described, rows)
        self._connection.fetch(f"analyze {staging_table}", writing=True)
        return staging_table

    def same_key(self, own: str, other: str) -> str:
        return f"{own} = {other}"

    def same_value(self, table: str, column: str) -> str:
        name = self._catalog.quote_column(table, column, "")
        # As text: not every type has an equality operator, and 1.0 is not 1.00.
        return (
            f'(cast(t0.{name} as text) collate "C" is not distinct from cast(s.{name} as text) collate "C")'
        )

    def insert_select(self, table: str, columns: Sequence[str], select: str) -> int:
        self._transactions.require()
        names = ", ".join(ident(name) for name in columns)
        # With OVERRIDING, a GENERATED ALWAYS column accepts a value.
        return self._connection.execute_write(
            f"insert into {self._catalog.quote_table(table)} ({names}) overriding system value {select}"
        )

    def update_from(self, table: str, staging_table: str, where: str, columns: Sequence[str]) -> int:
        self._transactions.require()
        sets = ", ".join(f"{ident(name)} = s.{ident(name)}" for name in columns)
        return self._connection.execute_write(
            f"update {self._catalog.quote_table(table)} t0 set {sets} from {staging_table} s where {where}"
        )

    def find_name_conflict(self, name: str) -> str:
        rows = self._connection.fetch(NAME_CONFLICTS, {"name": name})
        return str(rows[0][0]) if rows else ""

    @contextmanager
    def create_table(self, name: str, columns: Sequence[Column], key: Sequence[str]) -> Iterator[None]:
        if len(name.encode()) > MAX_NAME_BYTES:  # the server would truncate it silently
            raise ValueInvalidError(
                name="name of a table", value=name, reason=f"it has more than {MAX_NAME_BYTES} bytes"
            )
        definitions = declare_columns([(column, base_type(column)) for column in columns], key)
        try:
            with self._transactions.transaction():
                self._connection.fetch(f"create table {ident(name)} ({definitions})", writing=True)
                self._catalog.forget()
                yield
        finally:
            self._catalog.forget()
