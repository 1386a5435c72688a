"""What every SQL engine has in common that tells how it would answer: an engine adds how it reads its own plan."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Explanation, Order, Where
from dbctl.engines.sql.query_builder import SqlReader, Statement


class PlanReader(SqlReader):
    """Capability.EXPLAIN, but for statements that a profile or a person wrote."""

    @abstractmethod
    def _explained(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        """Return how a statement would be answered, in which ``aliases`` stand for tables."""

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
        sql = self._select_sql(statement, table, columns, where, order_by, limit, offset)
        return self._explained(sql, statement.parameters, statement.aliases)
