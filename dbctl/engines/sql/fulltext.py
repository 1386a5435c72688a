"""Ranked full-text search of SQL engines, and the search of a word in all texts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import Query
from dbctl.engines.contract.fulltext import (
    CHARACTERS_AFTER,
    CHARACTERS_BEFORE,
    FullText,
    TextIndexSpec,
    TextMatch,
    TextScanner,
)
from dbctl.engines.sql.catalog import Row, Statement
from dbctl.engines.sql.database import SqlPart
from dbctl.model import Struct

if TYPE_CHECKING:
    from dbctl.engines.contract.fulltext import TextQuery


class Ranking(Struct, frozen=True):
    """The SQL with which an engine ranks rows; ``t0`` is the searched table."""

    source: str  #: the FROM clause
    test: str  #: the condition; empty if the index does not select rows
    score: str


class RankedSearch(SqlPart, FullText):
    @abstractmethod
    def _build_ranking(self, statement: Statement, spec: TextIndexSpec, query: TextQuery) -> Ranking:
        """Return the SQL that ranks the rows of ``spec.table`` by a query."""

    def select_ranked(self, spec: TextIndexSpec, text: TextQuery, query: Query) -> list[Row]:
        sql, statement = self._build_ranked_select(spec, text, query)
        return self._connection.fetch(sql, statement.parameters)

    def explain_ranked(self, spec: TextIndexSpec, text: TextQuery, query: Query) -> Explanation:
        sql, statement = self._build_ranked_select(spec, text, query)
        return self._db.explainer.explain_statement(sql, statement.parameters, statement.aliases)

    def _build_ranked_select(
        self, spec: TextIndexSpec, text: TextQuery, query: Query
    ) -> tuple[str, Statement]:
        table, statement = query.table, Statement(query.table)
        ranking = self._build_ranking(statement, spec, text)
        names = [self._catalog.quote_column(table, column, "t0") for column in query.columns]
        tests = [ranking.test] if ranking.test else []
        tests += [self._db.builder.condition(statement, table, condition) for condition in query.where]
        terms = self._db.builder.order_terms(statement, table, query.order_by, has_key=False) or [
            f"{ranking.score} desc"
        ]
        key = self._catalog.quote_column(table, spec.id, "t0")
        terms.append(self._db.dialect.sort_expression(key, self._catalog.require_column(table, spec.id)))
        narrowed = f" where {' and '.join(tests)}" if tests else ""
        sql = f"select {', '.join([*names, ranking.score])} from {ranking.source}{narrowed}"
        return f"{sql} order by {', '.join(dict.fromkeys(terms))}", statement


class SqlTextScanner(SqlPart, TextScanner):
    def text_columns(self, table: str) -> Sequence[str]:
        columns = self._catalog.require_table(table).columns.values()
        return [column.name for column in columns if self._db.dialect.is_text(column)]

    def scan_text(
        self, table: str, columns: Sequence[str], word: str, *, limit: int, timeout: timedelta
    ) -> Sequence[TextMatch] | None:
        statement, key = Statement(table), self._catalog.primary_key(table)
        tests, excerpts = [], []
        for name in columns:
            value = self._catalog.quote_column(table, name, "t0")
            column = self._catalog.require_column(table, name)
            test = self._db.dialect.contains(value, column, statement, word)
            position = self._db.dialect.text_position(value, column, statement, word)
            begin = f"(case when {position} > {CHARACTERS_BEFORE} then {position} - {CHARACTERS_BEFORE} else 1 end)"
            length = CHARACTERS_BEFORE + len(word) + CHARACTERS_AFTER
            text = self._db.dialect.as_text(value, column)
            excerpt = self._db.dialect.cut_text(text, begin, length)
            excerpts.append(f"case when {test} then {excerpt} end")
            tests.append(test)
        keys = (self._catalog.quote_column(table, name, "t0") for name in key)
        sql = (
            f"select {', '.join([*keys, *excerpts])} from {self._catalog.quote_table(table)} t0"
            f" where {' or '.join(tests)} limit {statement.bind(limit)}"
        )
        rows = self._connection.fetch_within(timeout, sql, statement.parameters)
        return None if rows is None else [_read_match(row, len(key), columns) for row in rows]


def _read_match(row: Row, key_count: int, columns: Sequence[str]) -> TextMatch:
    pairs = zip(columns, row[key_count:], strict=True)
    return TextMatch(row[:key_count], {name: str(excerpt) for name, excerpt in pairs if excerpt is not None})
