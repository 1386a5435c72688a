"""Query plans of MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dbctl.engines.contract import Explanation
from dbctl.engines.mysql.sql import tokenize
from dbctl.engines.sql import SqlExplainer

if TYPE_CHECKING:
    from dbctl.engines.mysql.database import MySQLDatabase

PLAN_COLUMNS = ("id", "select_type", "table", "type", "key", "rows", "Extra")


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
            rows = self._connection.fetch_by_column(f"explain format=traditional {sql}", parameters)
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
        significant = [token for token in tokenize(sql) if token.kind not in ("space", "comment")]
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
