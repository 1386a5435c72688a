"""Rows laid aside in a temporary table of the session."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from dbctl.engines.contract import Column, Table
from dbctl.engines.postgresql.session import LONGEST_NAME
from dbctl.engines.postgresql.types import base_of
from dbctl.engines.sql import Row, SqlLaysAside, declared, ident
from dbctl.errors import ValueInvalidError

#: What shares the names of tables: relations of other kinds, and types, for each table has one of its own.
NAMESAKES = """select case c.relkind when 'i' then 'an index' when 'I' then 'an index' when 'S' then 'a sequence' else 'a type' end
from pg_catalog.pg_class c where c.relname = :name and c.relkind in ('i', 'I', 'S', 'c')
  and c.relnamespace = current_schema()::regnamespace
union all select 'a type' from pg_catalog.pg_type t where t.typname = :name and t.typrelid = 0
  and t.typnamespace = current_schema()::regnamespace"""


class PostgreSQLLaysAside(SqlLaysAside):
    """Capability.ASIDE."""

    _tables: dict[str, Table] | None

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _require_transaction(self) -> None: ...

    @abstractmethod
    def _rows(self, sql: str, parameters: Mapping[str, object], *, writing: bool = False) -> list[Row]: ...

    @abstractmethod
    def _count(self, sql: str, parameters: Mapping[str, object]) -> int: ...

    @abstractmethod
    def _copied(self, place: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        """Let COPY put rows into a table."""

    def _laid(self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
        place, names = f"pg_temp.{ident(name)}", ", ".join(ident(one) for one in columns)
        like = f"select {names} from {self._table(table)} with no data"  # noqa: S608 - names are checked and quoted
        self._rows(f"create temporary table {ident(name)} as {like}", {}, writing=True)
        self._copied(place, [self._described(table, one) for one in columns], rows)
        self._rows(f"analyze {place}", {}, writing=True)
        return place

    def same_key(self, own: str, other: str) -> str:
        return f"{own} = {other}"

    def alike(self, table: str, column: str) -> str:
        name = self._column(table, column, "")
        # As text: not every type knows what is equal, and 1.0 is not 1.00.
        return (
            f'(cast(t0.{name} as text) collate "C" is not distinct from cast(s.{name} as text) collate "C")'
        )

    def added(self, table: str, columns: Sequence[str], select: str) -> int:
        self._require_transaction()
        names = ", ".join(ident(name) for name in columns)
        # With it, a column that the server numbers always takes what it is given.
        return self._count(f"insert into {self._table(table)} ({names}) overriding system value {select}", {})

    def replaced(self, table: str, place: str, where: str, columns: Sequence[str]) -> int:
        self._require_transaction()
        sets = ", ".join(f"{ident(name)} = s.{ident(name)}" for name in columns)
        return self._count(f"update {self._table(table)} t0 set {sets} from {place} s where {where}", {})  # noqa: S608 - as above

    def namesake(self, name: str) -> str:
        found = self._rows(NAMESAKES, {"name": name})
        return str(found[0][0]) if found else ""

    @contextmanager
    def new_table(self, name: str, columns: Sequence[Column], key: Sequence[str]) -> Iterator[None]:
        if len(name.encode()) > LONGEST_NAME:  # it would be cut without a word
            raise ValueInvalidError(
                what="name of a table", value=name, reason=f"it has more than {LONGEST_NAME} bytes"
            )
        told = declared([(one, base_of(one)) for one in columns], key)
        try:
            with self.transaction():
                self._rows(f"create table {ident(name)} ({told})", {}, writing=True)
                self._tables = None
                yield
        finally:
            self._tables = None
