"""Pages of rows in the order of an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dbctl.engines.contract.database import Column, Order, Query, Where
from dbctl.engines.sql.catalog import Catalog, Statement
from dbctl.engines.sql.database import Connection
from dbctl.engines.sql.query_builder import Dialect, QueryBuilder

#: Finds an index over all rows that begins with a column, ascending and with binary collation.
_INDEX = """select 1 from pragma_index_list(:table) l join pragma_index_xinfo(l.name) x
where not l.partial and x.seqno = 0 and x.name = :column and x.coll = 'BINARY' and not x."desc" limit 1"""
#: An empty BLOB sorts after every text, so that rows without any value come last.
_LAST = "x''"


class IndexOrderBuilder(QueryBuilder):
    """Builder of ordered queries that read rows with a value through the index, and sort only the other rows.

    No index contains an expression such as "the first of two columns that is not empty", so SQLite would sort all rows
    for each page. Both halves of the compound statement end early once the page is full.
    """

    def __init__(self, connection: Connection, catalog: Catalog, dialect: Dialect) -> None:
        super().__init__(catalog, dialect)
        self._connection = connection

    def select(
        self, statement: Statement, query: Query, express: Callable[[Column, str], str] | None = None
    ) -> str:
        table, order_by = query.table, query.order_by
        if query.limit is None or len(order_by) != 1 or not self._has_index(table, order_by[0]):
            return super().select(statement, query, express)
        first, *others = (self._catalog.quote_column(table, column, "t0") for column in order_by[0].columns)
        names = [self._catalog.quote_column(table, column, "t0") for column in query.columns]
        keys = [self._catalog.quote_column(table, key, "t0") for key in self._catalog.primary_key(table)]
        lowered = [f"lower(nullif({name}, ''))" for name in others]
        fallback = f"coalesce({', '.join([*lowered, _LAST])})"
        halves = [
            f"select {', '.join([*names, value, *keys])} from {self._catalog.quote_table(table)} t0{condition}"
            for value, test in ((first, f"{first} > ''"), (fallback, f"{first} <= ''"))
            for condition in [self._add_condition(statement, table, query.where, test)]
        ]
        width = len(names)
        sorted_by = ", ".join(str(width + 1 + position) for position in range(1 + len(keys)))
        selected = ", ".join(f"c{position}" for position in range(width))
        all_columns = ", ".join(f"c{position}" for position in range(width + 1 + len(keys)))
        merged = f"{' union all '.join(halves)} order by {sorted_by}{self.limit_clause(statement, query)}"
        return f"with page ({all_columns}) as ({merged}) select {selected} from page"

    def _add_condition(self, statement: Statement, table: str, where: Sequence[Where], test: str) -> str:
        condition = self.where_clause(statement, table, where, "t0")
        return f"{condition} and {test}" if condition else f" where {test}"

    def _has_index(self, table: str, order: Order) -> bool:
        """Whether an index has this order; the first column must not be NULL, because neither half would find NULL."""
        if not order.indexed or self._catalog.require_column(table, order.columns[0]).nullable:
            return False
        return bool(self._connection.fetch(_INDEX, {"table": table, "column": order.columns[0]}))
