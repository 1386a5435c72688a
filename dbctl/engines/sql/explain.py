"""Query plans of SQL engines; each engine parses its own plans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Explanation, Order, Where
from dbctl.engines.sql.database import SqlDatabase
from dbctl.engines.sql.statement import Statement


class SqlExplainer(ABC):
    """The part ``Explainer``; each engine reads its own plans."""

    def __init__(self, db: SqlDatabase) -> None:
        self._builder = db.builder

    @abstractmethod
    def explain_statement(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        """Return the plan of a statement, in which ``aliases`` stand for tables."""

    @abstractmethod
    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation: ...

    def explain(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> Explanation:
        statement = Statement(table)
        sql = self._builder.select(statement, table, columns, where, order_by, limit, offset)
        return self.explain_statement(sql, statement.parameters, statement.aliases)
