"""What every SQL engine has in common that ranks rows by an index of words: an engine adds the words of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import Explanation, Order, TextIndex, Where
from dbctl.engines.sql.explain import PlanReader
from dbctl.engines.sql.query_builder import Row, Statement
from dbctl.model import Value

if TYPE_CHECKING:
    from dbctl.engines.contract import TextQuery


class Ranking(Value, frozen=True):
    """SQL by which an engine ranks rows; ``t0`` is the table that is searched."""

    source: str  #: what follows FROM
    test: str  #: empty where the index does not find rows
    score: str


class RankedReader(PlanReader):
    """The reading half of Capability.FULL_TEXT."""

    @abstractmethod
    def _ranking(self, statement: Statement, told: TextIndex, query: TextQuery) -> Ranking: ...

    def ranked(
        self,
        told: TextIndex,
        query: TextQuery,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
    ) -> list[Row]:
        statement = Statement(told.table)
        sql = self._ranked_sql(statement, told, query, columns, where, order_by)
        return self._fetch(sql, statement.parameters)

    def explain_ranked(
        self,
        told: TextIndex,
        query: TextQuery,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
    ) -> Explanation:
        statement = Statement(told.table)
        sql = self._ranked_sql(statement, told, query, columns, where, order_by)
        return self._explained(sql, statement.parameters, statement.aliases)

    def _ranked_sql(
        self,
        statement: Statement,
        told: TextIndex,
        query: TextQuery,
        columns: Sequence[str],
        where: Sequence[Where],
        order_by: Sequence[Order],
    ) -> str:
        ranking = self._ranking(statement, told, query)
        names = [self._column(told.table, column, "t0") for column in columns]
        tests = [ranking.test] if ranking.test else []
        tests += [self._test(statement, told.table, condition, "t0") for condition in where]
        terms = [term for order in order_by for term in self._order(statement, told.table, order, "t0")]
        key = self._column(told.table, told.id, "t0")
        terms = terms or [f"{ranking.score} desc"]
        ordered = ", ".join(dict.fromkeys([*terms, self._sorted(key, self._described(told.table, told.id))]))
        narrowed = f" where {' and '.join(tests)}" if tests else ""
        return (
            f"select {', '.join([*names, ranking.score])} from {ranking.source}{narrowed} order by {ordered}"  # noqa: S608 - names are checked and quoted
        )
