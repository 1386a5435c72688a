"""Queries over the rows that a planned change would leave, without the change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dbctl.engines.contract.conditions import AllOf, AnyOf, Not
from dbctl.engines.contract.reader import PlannedRows
from dbctl.engines.sql.database import SqlDatabase
from dbctl.engines.sql.statement import Row, Statement, ident

_WITH = re.compile(r"\s*with\s+(recursive\s+)?", re.IGNORECASE)


class SqlPreview:
    """The part ``Preview``: common table expressions with the names of changed tables hide the tables from the query."""

    def __init__(self, db: SqlDatabase) -> None:
        self._db = db

    def query_after(
        self, changes: Sequence[PlannedRows], sql: str, parameters: Mapping[str, object] = {}
    ) -> list[Row]:
        bound, rows, tables = dict(parameters), [], []
        for number, table in enumerate(dict.fromkeys(change.table for change in changes)):
            select = self._select_rows(table, [change for change in changes if change.table == table], bound)
            rows.append(f"dbctl_rows_{number} as ({select})")
            tables.append(f"{self._db.catalog.quote_table(table)} as (select * from dbctl_rows_{number})")
        return self._db.query(self._hide_tables(rows, tables, sql) if rows else sql, bound)

    def _hide_tables(self, rows: Sequence[str], tables: Sequence[str], sql: str) -> str:
        """Return ``sql`` with ``tables`` before its own expressions.

        ``rows`` name tables, too, and must not see ``tables``: they belong to an outer query.
        """
        return f"with {', '.join(rows)} select * from ({add_expressions(tables, sql)}) dbctl_result"

    def _select_rows(self, table: str, changes: Sequence[PlannedRows], bound: dict[str, object]) -> str:
        """Return a SELECT of the rows that remain in a table, with their new values."""
        builder, statement = self._db.builder, Statement(table)
        statement.parameters = bound
        columns = {
            name: self._db.catalog.quote_column(table, name, "t0")
            for name in self._db.catalog.require_table(table).columns
        }
        for change in changes:
            condition = builder.condition(statement, table, AllOf(change.where))
            for name, value in change.values.items():
                new = "null" if value is None else statement.bind(value)
                columns[name] = f"case when {condition} then {new} else {columns[name]} end"
        deleted = [AllOf(change.where) for change in changes if not change.values]
        where = builder.where_clause(statement, table, [Not(AnyOf(deleted))] if deleted else [])
        selected = ", ".join(f"{value} as {ident(name)}" for name, value in columns.items())
        return f"select {selected} from {self._db.catalog.quote_table(table)} t0{where}"


def add_expressions(expressions: Sequence[str], sql: str) -> str:
    """Return a query with common table expressions before its own ones."""
    match = _WITH.match(sql)
    recursive = "recursive " if is_recursive(sql) else ""
    rest = f", {sql[match.end() :]}" if match else f" {sql}"
    return f"with {recursive}{', '.join(expressions)}{rest}"


def is_recursive(sql: str) -> bool:
    """Return whether the common table expressions of a query may be recursive."""
    match = _WITH.match(sql)
    return bool(match and match[1])
