"""Rows laid aside in a temporary table of the session."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import groupby

from dbctl import signals
from dbctl.engines.contract import Column, Reference, Table
from dbctl.engines.mysql.types import MySQLColumn, kind_of, literal
from dbctl.engines.sql import SqlLaysAside, declared, ident
from dbctl.errors import ConstraintError, DbctlError

#: Kinds of which ``<=>`` says exactly whether two values are the same.
EXACT = frozenset({"integer", "number", "time", "date"})
#: The foreign keys of one table; asking for those that point to each table would take a scan of the catalog for each.
KEYS = """select table_name, constraint_name, referenced_table_name, column_name, referenced_column_name
from information_schema.key_column_usage where table_schema = database() and table_name = :table
and referenced_table_schema = database() order by constraint_name, ordinal_position"""


class MySQLLaysAside(SqlLaysAside):
    """Capability.ASIDE."""

    _tables: dict[str, Table] | None

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _require_transaction(self, table: str = "") -> None: ...

    @abstractmethod
    def references(self, table: str) -> Sequence[Reference]: ...

    @abstractmethod
    def _sent(self, sql: str) -> int: ...

    @abstractmethod
    def _count(self, sql: str, parameters: Mapping[str, object]) -> int: ...

    @abstractmethod
    def _inserted(self, place: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        """Insert rows into a table, many in one statement."""

    def _laid(self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
        place, names = ident(name), ", ".join(ident(one) for one in columns)
        like = f"select {names} from {self._table(table)} where false"  # noqa: S608 - names are checked and quoted
        self._sent(f"create temporary table {place} engine = InnoDB as {like}")
        with self.transaction():
            self._inserted(place, [self._described(table, one) for one in columns], rows)
        return place

    def same_key(self, own: str, other: str) -> str:
        return f"{own} = {other}"

    def alike(self, table: str, column: str) -> str:
        name = self._column(table, column, "")
        if kind_of(self._described(table, column)) in EXACT:
            return f"(t0.{name} <=> s.{name})"
        return f"(cast(t0.{name} as binary) <=> cast(s.{name} as binary))"  # as text, letters of both cases are one

    def added(self, table: str, columns: Sequence[str], select: str) -> int:
        self._require_transaction(table)
        names = ", ".join(ident(name) for name in columns)
        sql = f"insert into {self._table(table)} ({names}) {select}"
        own = [one for one in self.references(table) if one.table == table]
        if not own:
            return self._count(sql, {})
        # A server looks at each row alone, and its parent may come later.
        self._sent("set session foreign_key_checks = 0")
        try:
            done = self._count(sql, {})
        finally:
            self._sent("set session foreign_key_checks = 1")
        for key in self._keys_of(table):
            self._want_parents(table, key)
        return done

    def _keys_of(self, table: str) -> Iterator[tuple[Sequence[str], str, Sequence[str]]]:
        """Yield the foreign keys of a table: its columns, the table that they point to, and the columns there."""
        rows = [row for row in self._fetch(KEYS, {"table": table}) if row[0] == table]
        for (_, other), parts in groupby(rows, key=lambda row: row[1:3]):
            pairs = [(str(part[3]), str(part[4])) for part in parts]
            yield [own for own, _ in pairs], str(other), [to for _, to in pairs]

    def _want_parents(self, table: str, key: tuple[Sequence[str], str, Sequence[str]]) -> None:
        columns, other, to = key
        link = " and ".join(f"p.{ident(b)} = t0.{ident(a)}" for a, b in zip(columns, to, strict=True))
        whole = " and ".join(f"t0.{ident(a)} is not null" for a in columns)
        sql = (
            f"select count(*) from {self._table(table)} t0 where {whole}"  # noqa: S608 - as above
            f" and not exists (select 1 from {self._table(other)} p where {link})"
        )
        if (number := int(str(self.fetched(sql)[0][0]))) > 0:
            reason = f"{number} rows of {table} would point to no row of {other} ({', '.join(columns)})"
            raise ConstraintError(target=self.target, reason=reason)

    def replaced(self, table: str, place: str, where: str, columns: Sequence[str]) -> int:
        self._require_transaction(table)
        sets = ", ".join(f"t0.{ident(name)} = s.{ident(name)}" for name in columns)
        return self._count(f"update {self._table(table)} t0 join {place} s on {where} set {sets}", {})  # noqa: S608 - as above

    def namesake(self, name: str) -> str:
        del name  # nothing else shares the names of tables
        return ""

    @contextmanager
    def new_table(self, name: str, columns: Sequence[Column], key: Sequence[str]) -> Iterator[None]:
        told = declared([(one, _type(one)) for one in columns], key)
        self._sent(f"create table {ident(name)} ({told}) engine = InnoDB")  # which is a change of its own
        self._tables = None
        try:
            with self.transaction():
                yield
        except BaseException:  # also on a signal: an empty table must not stay
            with signals.unheard(), suppress(DbctlError):
                self._sent(f"drop table {ident(name)}")
            raise
        finally:
            self._tables = None


def _type(column: Column) -> str:
    if isinstance(column, MySQLColumn) and column.charset:
        return f"{column.type} character set {column.charset} collate {literal(column.collation)}"
    return column.type
