"""What every SQL engine has in common that ranks rows by an index of words: an engine adds the words of its own."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence

from dbctl.engines.base import Explanation, Order, Where
from dbctl.engines.fulltext import TextIndex
from dbctl.engines.plans import PlanReader
from dbctl.engines.sql import Row, Statement, is_storable
from dbctl.model import Value

#: What an index finds as it was typed; of ``C++`` it would find every c.
_WORDS = r"(?=.*\w)[\w\s'-]+"


def is_plain(word: str) -> bool:
    """Whether an index of words knows all signs of ``word``, so that what it finds is what was asked for."""
    return is_storable(word) and re.fullmatch(_WORDS, word) is not None


class Ranking(Value, frozen=True):
    """SQL by which an engine finds words; ``t0`` is the table that is searched."""

    source: str  #: what follows FROM
    test: str
    score: str
    snippet: str


class RankedReader(PlanReader):
    """The reading half of Capability.FULL_TEXT."""

    @abstractmethod
    def _ranking(self, statement: Statement, told: TextIndex, words: Sequence[str]) -> Ranking: ...

    def ranked(
        self,
        told: TextIndex,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row]:
        statement = Statement(told.table)
        sql = self._ranked_sql(statement, told, words, columns, where, order_by, limit, offset)
        return self._fetch(sql, statement.parameters)

    def ranked_count(self, told: TextIndex, words: Sequence[str], where: Sequence[Where] = ()) -> int:
        statement = Statement(told.table)
        ranking = self._ranking(statement, told, words)
        sql = f"select count(*) from {ranking.source}{self._narrowed(statement, told, where, ranking)}"  # noqa: S608 - names are checked and quoted
        return int(str(self._fetch(sql, statement.parameters)[0][0]))

    def explain_ranked(
        self,
        told: TextIndex,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> Explanation:
        statement = Statement(told.table)
        sql = self._ranked_sql(statement, told, words, columns, where, order_by, limit, offset)
        return self._explained(sql, statement.parameters, statement.aliases)

    def _ranked_sql(
        self,
        statement: Statement,
        told: TextIndex,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where],
        order_by: Sequence[Order],
        limit: int | None,
        offset: int,
    ) -> str:
        ranking = self._ranking(statement, told, words)
        names = [self._column(told.table, column, "t0") for column in columns]
        chosen = ", ".join([*names, ranking.score, ranking.snippet])
        terms = [term for order in order_by for term in self._order(statement, told.table, order, "t0")]
        key = self._column(told.table, told.id, "t0")
        terms = terms or [f"{ranking.score} desc"]
        ordered = ", ".join(dict.fromkeys([*terms, self._sorted(key, self._described(told.table, told.id))]))
        sql = (
            f"select {chosen} from {ranking.source}"  # noqa: S608 - as above
            f"{self._narrowed(statement, told, where, ranking)} order by {ordered}"
        )
        return sql + self._part(statement, limit, offset)

    def _narrowed(
        self, statement: Statement, told: TextIndex, where: Sequence[Where], ranking: Ranking
    ) -> str:
        tests = [ranking.test, *(self._test(statement, told.table, one, "t0") for one in where)]
        return " where " + " and ".join(tests)
