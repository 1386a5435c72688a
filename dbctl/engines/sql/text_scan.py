"""Search a word in all texts of a SQL database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from dbctl.engines.contract import CHARACTERS_AFTER, CHARACTERS_BEFORE, TextMatch
from dbctl.engines.sql.database import SqlDatabase
from dbctl.engines.sql.statement import Row, Statement


class SqlTextScanner:
    """The part ``TextScanner``."""

    def __init__(self, db: SqlDatabase) -> None:
        self._connection, self._catalog, self._dialect = db.connection, db.catalog, db.dialect

    def text_columns(self, table: str) -> Sequence[str]:
        columns = self._catalog.require_table(table).columns.values()
        return [column.name for column in columns if self._dialect.is_text(column)]

    def scan_text(
        self, table: str, columns: Sequence[str], word: str, *, limit: int, timeout: timedelta
    ) -> Sequence[TextMatch] | None:
        statement, key = Statement(table), self._catalog.primary_key(table)
        tests, excerpts = [], []
        for name in columns:
            value = self._catalog.quote_column(table, name, "t0")
            column = self._catalog.require_column(table, name)
            test = self._dialect.contains(value, column, statement, word)
            position = self._dialect.text_position(value, column, statement, word)
            begin = f"(case when {position} > {CHARACTERS_BEFORE} then {position} - {CHARACTERS_BEFORE} else 1 end)"
            length = CHARACTERS_BEFORE + len(word) + CHARACTERS_AFTER
            text = self._dialect.as_text(value, column)
            excerpts.append(f"case when {test} then substr({text}, {begin}, {length}) end")
            tests.append(test)
        keys = (self._catalog.quote_column(table, name, "t0") for name in key)
        sql = (
            f"select {', '.join([*keys, *excerpts])} from {self._catalog.quote_table(table)} t0"
            f" where {' or '.join(tests)} limit {statement.bind(limit)}"
        )
        rows = self._connection.fetch_within(sql, statement.parameters, timeout)
        return None if rows is None else [_read_match(row, len(key), columns) for row in rows]


def _read_match(row: Row, key_count: int, columns: Sequence[str]) -> TextMatch:
    pairs = zip(columns, row[key_count:], strict=True)
    return TextMatch(row[:key_count], {name: str(excerpt) for name, excerpt in pairs if excerpt is not None})
