"""An open SQL database: reading its rows over a connection, a catalog and a dialect."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from dbctl.engines.contract.database import Column, Query, Readable, Reference, Table, Where
from dbctl.engines.sql.catalog import BoundQuery, Catalog, Row, Statement
from dbctl.engines.sql.query_builder import Dialect, QueryBuilder

if TYPE_CHECKING:
    from dbctl.engines.contract.fulltext import TextScanner
    from dbctl.engines.sql.checks import SqlExplainer


class SqlDatabase(Readable):
    """The rows of the database; everything else is a part."""

    _builder: ClassVar[type[QueryBuilder]] = QueryBuilder
    fetch: Callable[[str, Mapping[str, object]], list[Row]]  #: reads rows, perhaps as after planned changes

    def __init__(self, catalog: Catalog, dialect: Dialect) -> None:
        self.target, self.connection, self.memo = catalog.target, catalog.connection, catalog.connection.memo
        self.catalog, self.dialect = catalog, dialect
        self.builder, self.fetch = self._builder(catalog, dialect), catalog.connection.fetch
        self.native_types = dialect.native_types

    @property
    @abstractmethod
    def explainer(self) -> SqlExplainer: ...

    @cached_property
    def text_scanner(self) -> TextScanner:
        from dbctl.engines.sql.fulltext import SqlTextScanner

        return SqlTextScanner(self)

    def tables(self) -> Mapping[str, Table]:
        return self.catalog.tables()

    def references(self, table: str) -> Sequence[Reference]:
        return self.catalog.references(table)

    def create_index_order_builder(self) -> QueryBuilder:
        return self.builder

    def read_rows(self, query: Query) -> list[Row]:
        return self.fetch(*self.select_statement(query))

    def select_statement(
        self, query: Query, express: Callable[[Column, str], str] | None = None
    ) -> BoundQuery:
        """Return the statement of a query; ``express`` returns the SQL that reads a column, which may differ from its name."""
        statement = Statement(query.table)
        is_indexed = query.order_by and query.order_by[0].indexed
        builder = self.create_index_order_builder() if is_indexed else self.builder
        sql = builder.select(statement, query, express)
        if query.for_update:
            sql += self._lock_clause(query.table)
        return sql, statement.parameters

    def _lock_clause(self, table: str) -> str:  # noqa: ARG002 - used by writers
        """Return the clause that locks the rows of ``t0``; empty if the transaction locks them anyway."""
        return ""

    def sample(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        rows: int,
        timeout: timedelta,
    ) -> list[Row] | None:
        key, name, statement = self._sample_key(table), self.catalog.quote_table(table), Statement(table)
        names = ", ".join(self.catalog.quote_column(table, column, "t0") for column in columns)
        # conditions apply to the sampled rows, because rows that meet them may be rare
        condition = self.builder.where_clause(statement, table, where)
        if key:
            ends = " union ".join(
                f"select * from (select {key} as sampled_key from {name} t0 order by {key} {direction} limit {rows:d}) {end}"
                for end, direction in (("oldest", "asc"), ("newest", "desc"))
            )
            source = f"({ends}) sampled join {name} t0 on {key} = sampled.sampled_key"
            sql = f"select {names} from {source}{condition} order by {key}"
        else:
            # without a condition, the role may lack the privilege to read further columns
            source = f"(select * from {name} t0 limit {rows:d}) t0" if condition else f"{name} t0"
            sql = f"select {names} from {source}{condition} limit {rows:d}"
        return self.connection.fetch_within(timeout, sql, statement.parameters)

    def _sample_key(self, table: str) -> str:
        """Return SQL for the column of ``t0`` by which a sample is ordered; empty: the table has none."""
        keys = self.catalog.primary_key(table)
        return self.catalog.quote_column(table, keys[0], "t0") if len(keys) == 1 else ""

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        statement = Statement(table)
        condition = self.builder.where_clause(statement, table, where)
        sql = f"select count(*) from {self.catalog.quote_table(table)} t0{condition}"
        return int(str(self.fetch(sql, statement.parameters)[0][0]))

    def exists(self, table: str, where: Sequence[Where] = (), *, timeout: timedelta) -> bool | None:
        statement = Statement(table)
        sql = self.builder.exists(statement, table, where)
        rows = self.connection.fetch_within(timeout, sql, statement.parameters)
        return None if rows is None else bool(rows)

    def count_by(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        statement = Statement(table)
        sql = self.builder.count_by(statement, table, column, where)
        return {value: int(str(count)) for value, count in self.fetch(sql, statement.parameters)}

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        return self.connection.fetch(sql, parameters)

    def close(self) -> None:
        self.connection.close()


class SqlPart:
    def __init__(self, db: SqlDatabase) -> None:
        self._db, self._connection, self._catalog = db, db.connection, db.catalog
