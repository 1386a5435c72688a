"""Finding text in a SQLite file through an index in a file of its own, which is attached for reading only."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.contract import AnyOf, Condition, Explanation, Order, Sidecar, Where
from dbctl.engines.sql import Row, Statement, is_storable
from dbctl.engines.sqlite.external_index.state import PLACES, TEXTS, SQLiteSidecarStates
from dbctl.errors import DbctlError

#: An index of three letters each finds nothing shorter.
SHORTEST = 3
#: LIKE refuses patterns of more than 50,000 bytes, of which a letter may take eight.
LONGEST = 5_000
_FOLDED = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}


class SQLiteSidecarSearch(SQLiteSidecarStates):
    """What finds words."""

    def sidecar_finds(self, word: str) -> bool:
        return is_storable(word) and SHORTEST <= len(word) <= LONGEST

    def found(
        self,
        told: Sidecar,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row]:
        statement = Statement(told.table)
        sql = self._found_sql(statement, told, words, columns, where, order_by, limit, offset)
        rows = self._through(lambda: self._rows(sql, statement.parameters))
        if not all(row[-1] for row in rows):
            raise self._unsound("it tells of rows that do not hold the words")
        return [row[:-1] for row in rows]

    def found_count(self, told: Sidecar, words: Sequence[str], where: Sequence[Where] = ()) -> int:
        statement = Statement(told.table)
        rest = [one for one in where if one not in told.kept]
        source = self._source(told, words, rows=bool(rest))
        sql = f"select count(*) from {source}{self._narrowing(statement, told, words, where)}"  # noqa: S608 - names are checked and quoted
        return int(str(self._through(lambda: self._rows(sql, statement.parameters))[0][0]))

    def explain_found(
        self,
        told: Sidecar,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> Explanation:
        statement = Statement(told.table)
        sql = self._found_sql(statement, told, words, columns, where, order_by, limit, offset)
        try:
            return self._explained(sql, statement.parameters, statement.aliases)
        except DbctlError as error:
            raise self._unsound(str(error)) from error

    def _found_sql(
        self,
        statement: Statement,
        told: Sidecar,
        words: Sequence[str],
        columns: Sequence[str],
        where: Sequence[Where],
        order_by: Sequence[Order],
        limit: int | None,
        offset: int,
    ) -> str:
        names = [self._column(told.table, column, "t0") for column in columns]
        holds = [
            self._test(
                statement, told.table, AnyOf([Condition(c, "contains", word) for c in told.columns]), "t0"
            )
            for word in words
        ]
        names.append(" and ".join(holds) or "1")
        narrowed = self._narrowing(statement, told, words, where)
        if list(dict.fromkeys(order_by)) == list(told.order):
            ordered = ["x.rowid" if words else "p.place"]
        else:
            ordered = self._ordering(statement, told.table, order_by)
        sql = f"select {', '.join(names)} from {self._source(told, words, rows=True)}{narrowed}"  # noqa: S608 - as above
        return f"{sql} order by {', '.join(ordered)}{self._part(statement, limit, offset)}"

    def _source(self, told: Sidecar, words: Sequence[str], *, rows: bool) -> str:
        """Return what follows FROM; joined crosswise, so that the index is asked first and each row it tells is looked up."""
        source = f"{TEXTS} x cross join {PLACES} p on p.place = x.rowid" if words else f"{PLACES} p"
        if rows:
            table, number = self._table(told.table), self._number(told.table)
            source += f" cross join {table} t0 on t0.{number} = p.number"
        return source

    def _narrowing(
        self, statement: Statement, told: Sidecar, words: Sequence[str], where: Sequence[Where]
    ) -> str:
        tests = []
        if words:
            asked = " ".join('"' + word.translate(_FOLDED).replace('"', '""') + '"' for word in words)
            tests.append(f"x.texts match {statement.bind(asked)}")
        for one in where:
            kept = one in told.kept
            tests.append(
                f"p.k{list(told.kept).index(one)} = 1"
                if kept
                else self._test(statement, told.table, one, "t0")
            )
        return f" where {' and '.join(tests)}" if tests else ""
