"""Staging tables: rows in a temporary table of the session."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from dbctl.engines.contract import Column, Table
from dbctl.engines.postgresql.session import MAX_NAME_BYTES
from dbctl.engines.postgresql.types import base_type
from dbctl.engines.sql import Row, SqlStaging, declare_columns, ident
from dbctl.errors import ValueInvalidError

#: Objects that share their names with tables: other relations, and types, since each table has a type.
NAME_CONFLICTS = """select case c.relkind when 'i' then 'an index' when 'I' then 'an index' when 'S' then 'a sequence' else 'a type' end
from pg_catalog.pg_class c where c.relname = :name and c.relkind in ('i', 'I', 'S', 'c')
  and c.relnamespace = current_schema()::regnamespace
union all select 'a type' from pg_catalog.pg_type t where t.typname = :name and t.typrelid = 0
  and t.typnamespace = current_schema()::regnamespace"""


class PostgreSQLStaging(SqlStaging):
    """Capability.STAGING."""

    _tables: dict[str, Table] | None

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _require_transaction(self) -> None: ...

    @abstractmethod
    def _rows(self, sql: str, parameters: Mapping[str, object], *, writing: bool = False) -> list[Row]: ...

    @abstractmethod
    def _execute_write(self, sql: str, parameters: Mapping[str, object]) -> int: ...

    @abstractmethod
    def _copy_rows(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        """Insert rows into a table by COPY."""

    def _create_staging_table(
        self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        staging_table, names = f"pg_temp.{ident(name)}", ", ".join(ident(column) for column in columns)
        select = f"select {names} from {self._quote_table(table)} with no data"  # noqa: S608 - names are checked and quoted
        self._rows(f"create temporary table {ident(name)} as {select}", {}, writing=True)
        self._copy_rows(staging_table, [self._require_column(table, column) for column in columns], rows)
        self._rows(f"analyze {staging_table}", {}, writing=True)
        return staging_table

    def same_key(self, own: str, other: str) -> str:
        return f"{own} = {other}"

    def same_value(self, table: str, column: str) -> str:
        name = self._quote_column(table, column, "")
        # As text: not every type has an equality operator, and 1.0 is not 1.00.
        return (
            f'(cast(t0.{name} as text) collate "C" is not distinct from cast(s.{name} as text) collate "C")'
        )

    def insert_select(self, table: str, columns: Sequence[str], select: str) -> int:
        self._require_transaction()
        names = ", ".join(ident(name) for name in columns)
        # With OVERRIDING, a GENERATED ALWAYS column accepts a value.
        return self._execute_write(
            f"insert into {self._quote_table(table)} ({names}) overriding system value {select}", {}
        )

    def update_from(self, table: str, staging_table: str, where: str, columns: Sequence[str]) -> int:
        self._require_transaction()
        sets = ", ".join(f"{ident(name)} = s.{ident(name)}" for name in columns)
        return self._execute_write(
            f"update {self._quote_table(table)} t0 set {sets} from {staging_table} s where {where}",  # noqa: S608 - names are checked and quoted
            {},
        )

    def find_name_conflict(self, name: str) -> str:
        rows = self._rows(NAME_CONFLICTS, {"name": name})
        return str(rows[0][0]) if rows else ""

    @contextmanager
    def create_table(self, name: str, columns: Sequence[Column], key: Sequence[str]) -> Iterator[None]:
        if len(name.encode()) > MAX_NAME_BYTES:  # the server would truncate it silently
            raise ValueInvalidError(
                name="name of a table", value=name, reason=f"it has more than {MAX_NAME_BYTES} bytes"
            )
        definitions = declare_columns([(column, base_type(column)) for column in columns], key)
        try:
            with self.transaction():
                self._rows(f"create table {ident(name)} ({definitions})", {}, writing=True)
                self._tables = None
                yield
        finally:
            self._tables = None
