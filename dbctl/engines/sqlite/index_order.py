"""Pages of a table that SQLite reads in the order of an index, although some rows have no value there."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.contract import Order, Where
from dbctl.engines.sql import Statement
from dbctl.engines.sqlite.dialect import SQLiteDialect

#: Whether an index of every row begins with a column, ascending and by the bytes of its text.
_INDEX = """select 1 from pragma_index_list(:table) l join pragma_index_xinfo(l.name) x
where not l.partial and x.seqno = 0 and x.name = :column and x.coll = 'BINARY' and not x."desc" limit 1"""
#: An empty BLOB comes after every text, so that rows without any value are the last ones.
_LAST = "x''"


class SQLiteIndexOrder(SQLiteDialect):
    """Reads the rows with a value through the index, sorts only the others, and merges both.

    An expression such as "the first of two columns that is not empty" is in no index, so SQLite would sort every row
    for each page. Both halves of the compound statement end early once the page is full.
    """

    def _select_sql(
        self,
        statement: Statement,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where],
        order_by: Sequence[Order],
        limit: int | None,
        offset: int,
    ) -> str:
        if limit is None or len(order_by) != 1 or not self._is_served(table, order_by[0]):
            return super()._select_sql(statement, table, columns, where, order_by, limit, offset)
        first, *others = (self._column(table, column, "t0") for column in order_by[0].columns)
        names = [self._column(table, column, "t0") for column in columns]
        keys = [self._column(table, key, "t0") for key in self._key(table)]
        lowered = [f"lower(nullif({name}, ''))" for name in others]
        rest = f"coalesce({', '.join([*lowered, _LAST])})"
        halves = [
            f"select {', '.join([*names, value, *keys])} from {self._table(table)} t0{condition}"  # noqa: S608 - names are checked and quoted
            for value, test in ((first, f"{first} > ''"), (rest, f"{first} <= ''"))
            for condition in [self._narrowed(statement, table, where, test)]
        ]
        width = len(names)
        sorted_by = ", ".join(str(width + 1 + number) for number in range(1 + len(keys)))
        selected = ", ".join(f"c{number}" for number in range(width))
        every = ", ".join(f"c{number}" for number in range(width + 1 + len(keys)))
        merged = f"{' union all '.join(halves)} order by {sorted_by}{self._part(statement, limit, offset)}"
        return f"with page ({every}) as ({merged}) select {selected} from page"  # noqa: S608 - names are checked and quoted

    def _narrowed(self, statement: Statement, table: str, where: Sequence[Where], test: str) -> str:
        condition = self._where(statement, table, where, "t0")
        return f"{condition} and {test}" if condition else f" where {test}"

    def _is_served(self, table: str, order: Order) -> bool:
        """Whether an index gives this order; the first column must not hold NULL, which neither half would find."""
        if not order.indexed or self._described(table, order.columns[0]).nullable:
            return False
        return bool(self._fetch(_INDEX, {"table": table, "column": order.columns[0]}))
