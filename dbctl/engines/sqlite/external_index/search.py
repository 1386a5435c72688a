"""Search a SQLite file through its external index, which is attached read-only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import AnyOf, Condition, Explanation, Query, Where
from dbctl.engines.contract.external_index import ExternalIndexSpec
from dbctl.engines.sql.catalog import Row, Statement, is_storable, lower_ascii
from dbctl.engines.sqlite.external_index.definition import PLACES, TEXTS
from dbctl.engines.sqlite.external_index.state import ExternalIndexFile
from dbctl.engines.sqlite.queries import SQLiteExplainer
from dbctl.errors.base import DbctlError

if TYPE_CHECKING:
    from dbctl.engines.sqlite.external_index.reader import SQLiteExternalReader

#: A trigram index cannot find shorter words.
MIN_LENGTH = 3
#: LIKE refuses patterns of more than 50,000 bytes, and a letter may take eight bytes.
MAX_LENGTH = 5_000


class ExternalSearch:
    """Search through an external index."""

    def __init__(self, db: SQLiteExternalReader) -> None:
        self._connection, self._catalog, self._builder = db.connection, db.catalog, db.builder
        self._file, self._explainer = ExternalIndexFile(db), SQLiteExplainer(db)

    def can_find_word(self, word: str) -> bool:
        return is_storable(word) and MIN_LENGTH <= len(word) <= MAX_LENGTH

    def search_external(self, spec: ExternalIndexSpec, words: Sequence[str], query: Query) -> list[Row]:
        statement = Statement(spec.table)
        sql = self._build_search(statement, spec, words, query)
        rows = self._file.read_attached(lambda: self._connection.rows(sql, statement.parameters))
        if not all(row[-1] for row in rows):
            raise self._file.invalid_error("it returns rows without the words")
        return [row[:-1] for row in rows]

    def count_external(
        self, spec: ExternalIndexSpec, words: Sequence[str], where: Sequence[Where] = ()
    ) -> int:
        statement = Statement(spec.table)
        other_conditions = [condition for condition in where if condition not in spec.stored_conditions]
        source = self._from_clause(spec, words, rows=bool(other_conditions))
        sql = f"select count(*) from {source}{self._index_conditions(statement, spec, words, where)}"
        return int(
            str(self._file.read_attached(lambda: self._connection.rows(sql, statement.parameters))[0][0])
        )

    def explain_external(self, spec: ExternalIndexSpec, words: Sequence[str], query: Query) -> Explanation:
        statement = Statement(spec.table)
        sql = self._build_search(statement, spec, words, query)
        try:
            return self._explainer.explain_statement(sql, statement.parameters, statement.aliases)
        except DbctlError as error:
            raise self._file.invalid_error(str(error)) from error

    def _build_search(
        self, statement: Statement, spec: ExternalIndexSpec, words: Sequence[str], query: Query
    ) -> str:
        names = [self._catalog.quote_column(spec.table, column, "t0") for column in query.columns]
        tests = [
            self._builder.condition(
                statement, spec.table, AnyOf([Condition(c, "contains", word) for c in spec.columns]), "t0"
            )
            for word in words
        ]
        names.append(" and ".join(tests) or "1")
        conditions = self._index_conditions(statement, spec, words, query.where)
        if list(dict.fromkeys(query.order_by)) == list(spec.order):
            order_terms = ["x.rowid" if words else "p.place"]
        else:
            order_terms = self._builder.order_terms(statement, spec.table, query.order_by)
        sql = f"select {', '.join(names)} from {self._from_clause(spec, words, rows=True)}{conditions}"
        return f"{sql} order by {', '.join(order_terms)}{self._builder.limit_clause(statement, query)}"

    def _from_clause(self, spec: ExternalIndexSpec, words: Sequence[str], *, rows: bool) -> str:
        """Return the FROM clause; CROSS JOIN makes SQLite read the index first and then each matching row."""
        source = f"{TEXTS} x cross join {PLACES} p on p.place = x.rowid" if words else f"{PLACES} p"
        if rows:
            table, rowid = self._catalog.quote_table(spec.table), self._file.define(spec).rowid_name()
            source += f" cross join {table} t0 on t0.{rowid} = p.number"
        return source

    def _index_conditions(
        self, statement: Statement, spec: ExternalIndexSpec, words: Sequence[str], where: Sequence[Where]
    ) -> str:
        tests = []
        if words:
            expression = " ".join('"' + lower_ascii(word).replace('"', '""') + '"' for word in words)
            tests.append(f"x.texts match {statement.bind(expression)}")
        for condition in where:
            is_stored = condition in spec.stored_conditions
            tests.append(
                f"p.k{list(spec.stored_conditions).index(condition)} = 1"
                if is_stored
                else self._builder.condition(statement, spec.table, condition, "t0")
            )
        return f" where {' and '.join(tests)}" if tests else ""
