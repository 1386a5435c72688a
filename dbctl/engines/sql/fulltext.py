"""Ranked full-text search of SQL engines; each engine adds its own SQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import Explanation, Order, TextIndexSpec, Where
from dbctl.engines.sql.database import SqlDatabase
from dbctl.engines.sql.explain import SqlExplainer
from dbctl.engines.sql.statement import Row, Statement
from dbctl.model import Struct

if TYPE_CHECKING:
    from dbctl.engines.contract import TextQuery


class Ranking(Struct, frozen=True):
    """The SQL with which an engine ranks rows; ``t0`` is the searched table."""

    source: str  #: the FROM clause
    test: str  #: the condition; empty if the index does not select rows
    score: str


class RankedSearch(ABC):
    """The queries of the part ``FullText``."""

    def __init__(self, db: SqlDatabase, explainer: SqlExplainer) -> None:
        self._connection, self._catalog, self._dialect = db.connection, db.catalog, db.dialect
        self._builder, self._explainer = db.builder, explainer

    @abstractmethod
    def _build_ranking(self, statement: Statement, spec: TextIndexSpec, query: TextQuery) -> Ranking:
        """Return the SQL that ranks the rows of ``spec.table`` by a query."""

    def select_ranked(
        self,
        spec: TextIndexSpec,
        query: TextQuery,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
    ) -> list[Row]:
        statement = Statement(spec.table)
        sql = self._build_ranked_select(statement, spec, query, columns, where, order_by)
        return self._connection.fetch(sql, statement.parameters)

    def explain_ranked(
        self,
        spec: TextIndexSpec,
        query: TextQuery,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
    ) -> Explanation:
        statement = Statement(spec.table)
        sql = self._build_ranked_select(statement, spec, query, columns, where, order_by)
        return self._explainer.explain_statement(sql, statement.parameters, statement.aliases)

    def _build_ranked_select(
        self,
        statement: Statement,
        spec: TextIndexSpec,
        query: TextQuery,
        columns: Sequence[str],
        where: Sequence[Where],
        order_by: Sequence[Order],
    ) -> str:
        ranking = self._build_ranking(statement, spec, query)
        names = [self._catalog.quote_column(spec.table, column, "t0") for column in columns]
        tests = [ranking.test] if ranking.test else []
        tests += [self._builder.condition(statement, spec.table, condition) for condition in where]
        terms = self._builder.sort_terms(statement, spec.table, order_by)
        key = self._catalog.quote_column(spec.table, spec.id, "t0")
        terms = terms or [f"{ranking.score} desc"]
        ordered = ", ".join(
            dict.fromkeys(
                [
                    *terms,
                    self._dialect.sort_expression(key, self._catalog.require_column(spec.table, spec.id)),
                ]
            )
        )
        narrowed = f" where {' and '.join(tests)}" if tests else ""
        return (
            f"select {', '.join([*names, ranking.score])} from {ranking.source}{narrowed} order by {ordered}"
        )
