"""Query plans and full-text indexes of MySQL and MariaDB."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dbctl.engines.contract.database import Explanation
from dbctl.engines.contract.fulltext import (
    IndexFault,
    IndexState,
    IndexUse,
    TextIndexSpec,
    TextQuery,
    positive_terms,
)
from dbctl.engines.mysql.database import MySQLDatabase, MySQLPart
from dbctl.engines.mysql.sql.lexer import LEXER
from dbctl.engines.sql.catalog import Statement, ident
from dbctl.engines.sql.checks import SqlPreview, add_expressions, is_recursive
from dbctl.engines.sql.database import Connection, SqlExplainer
from dbctl.engines.sql.fulltext import RankedSearch, Ranking

PLAN_COLUMNS = ("id", "select_type", "table", "type", "key", "rows", "extra")


class MySQLPreview(SqlPreview):
    """The part ``Preview``."""

    def _hide_tables(self, rows: Sequence[str], tables: Sequence[str], sql: str) -> str:
        # MariaDB does not resolve names of an outer query in such expressions. In one list, they see only earlier ones, unless
        # it is recursive: then the query reads the stored rows.
        return sql if is_recursive(sql) else add_expressions([*rows, *tables], sql)


class MySQLExplainer(SqlExplainer):
    """The part ``Explainer``."""

    def __init__(self, db: MySQLDatabase) -> None:
        super().__init__(db)
        self._connection, self._catalog = db.connection, db.catalog

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        self._connection.require_query(sql)
        return self.explain_statement(sql, parameters, self._find_aliases(sql))

    def explain_statement(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        with self._connection.read_transaction():
            # Another format may be the default.
            rows = self._connection.fetch_by_name(f"explain format=traditional {sql}", parameters)
        scanned = [str(row["table"]) for row in rows if row["type"] in ("ALL", "index")]
        names = [aliases.get(name, name) for name in scanned]
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=[
                ", ".join(f"{name}: {row[name]}" for name in PLAN_COLUMNS if row.get(name) not in (None, ""))
                for row in rows
            ],
            full_scans=list(dict.fromkeys(name for name in names if name in self._catalog.tables())),
        )

    def _find_aliases(self, sql: str) -> dict[str, str]:
        """Return the tables of a statement by alias, the word after the name, because plans contain aliases only."""
        significant = LEXER.read_significant(sql)
        texts = [token.text[1:-1] if token.kind == "name" else token.text for token in significant]
        aliases: dict[str, str] = {}
        for position, name in enumerate(texts[:-1]):
            alias_position = (
                position + 2
                if texts[position + 1].lower() == "as" and position + 2 < len(texts)
                else position + 1
            )
            if name in self._catalog.tables() and significant[alias_position].kind in ("word", "name"):
                aliases.setdefault(texts[alias_position], name)
        return aliases


INDEXES = """select s.index_name, s.index_type, s.column_name from information_schema.statistics s
where s.table_schema = database() and s.table_name = :table order by s.index_name, s.seq_in_index"""


class MySQLFullText(RankedSearch):
    """The part ``FullText``."""

    def __init__(self, db: MySQLDatabase) -> None:
        super().__init__(db, MySQLExplainer(db))

    def text_index_state(self, spec: TextIndexSpec) -> IndexState:
        indexes = _list_indexes(self._connection, self._catalog.require_table(spec.table).name)
        expected = [name.lower() for name in spec.columns]
        for name, (kind, columns) in indexes.items():
            if kind == "FULLTEXT" and [column.lower() for column in columns] == expected:
                return IndexState(name=name, state="valid")
        if spec.index_name in indexes:
            return IndexState(name=spec.index_name, state="broken", reason="it covers other columns")
        return IndexState(name=spec.index_name, state="missing")

    def find_text_index_faults(self, spec: TextIndexSpec) -> Sequence[IndexFault]:  # noqa: ARG002 - as in the contract
        return ()  # the server updates index and row together

    def text_index_use(self, spec: TextIndexSpec, query: TextQuery) -> IndexUse:  # noqa: ARG002 - as in the contract
        # InnoDB omits short words and stop words, depending on settings, and treats a_b or l'eau as one word.
        return "rank"

    def _build_ranking(self, statement: Statement, spec: TextIndexSpec, query: TextQuery) -> Ranking:
        names = [self._catalog.quote_column(spec.table, name, "t0") for name in spec.columns]
        words = [word for term in positive_terms(query) for word in re.findall(r"\w+", " ".join(term.words))]
        placeholder = statement.bind(" ".join(words))
        score = f"match({', '.join(names)}) against ({placeholder} in natural language mode)"
        return Ranking(source=f"{self._catalog.quote_table(spec.table)} t0", test="", score=score)


class MySQLTextIndexes(MySQLPart):
    """The part ``TextIndexes``; the server maintains the index."""

    def text_index_drop_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        names = [
            name
            for name in _list_indexes(self._connection, self._catalog.require_table(spec.table).name)
            if name == spec.index_name
        ]
        return {
            f"drop index {name}": f"drop index {ident(name)} on {self._catalog.quote_table(spec.table)}"
            for name in names
        }

    def text_index_create_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        columns = ", ".join(self._catalog.quote_column(spec.table, name, "") for name in spec.columns)
        statement = f"create fulltext index {ident(spec.index_name)} on {self._catalog.quote_table(spec.table)} ({columns})"
        return {
            f"create index {spec.index_name} (FULLTEXT) on {spec.table}; this blocks writes to the table": statement
        }

    def mark_text_index(self, spec: TextIndexSpec) -> None:
        """Do nothing: the app recognises the index by its name."""

    def probe_text_index(self, spec: TextIndexSpec) -> None:
        """Do nothing: the server updates index and row together."""


def _list_indexes(connection: Connection, table: str) -> dict[str, tuple[str, list[str]]]:
    """Return the kind and the columns of each index of a table, by name."""
    indexes: dict[str, tuple[str, list[str]]] = {}
    for name, kind, column in connection.fetch(INDEXES, {"table": table}):
        indexes.setdefault(str(name), (str(kind), []))[1].append(str(column))
    return indexes
