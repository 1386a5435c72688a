"""Query plans of MySQL and MariaDB."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager

from dbctl.engines.contract import Explanation
from dbctl.engines.mysql.dialect import MySQLDialect
from dbctl.engines.mysql.sql import find_rejection, tokenize
from dbctl.engines.sql import PlanReader
from dbctl.errors import QueryFailedError

PLAN_COLUMNS = ("id", "select_type", "table", "type", "key", "rows", "Extra")


class MySQLExplainer(PlanReader, MySQLDialect):
    """Capability.EXPLAIN."""

    @abstractmethod
    def _read_transaction(self) -> AbstractContextManager[None]:
        """Begin a transaction that cannot write, and roll it back at the end."""

    @abstractmethod
    def _rows_by_column(self, sql: str, parameters: Mapping[str, object]) -> list[dict[str, object]]:
        """Return the rows of a reading statement, each by column name."""

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        if reason := find_rejection(sql):
            raise QueryFailedError(target=self.target, reason=reason)
        return self._explain_statement(sql, parameters, self._find_aliases(sql))

    def _explain_statement(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        with self._read_transaction():
            # Another format may be the default.
            rows = self._rows_by_column(f"explain format=traditional {sql}", parameters)
        scanned = [str(row["table"]) for row in rows if row["type"] in ("ALL", "index")]
        names = [aliases.get(name, name) for name in scanned]
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=[
                ", ".join(f"{name}: {row[name]}" for name in PLAN_COLUMNS if row.get(name) not in (None, ""))
                for row in rows
            ],
            full_scans=list(dict.fromkeys(name for name in names if name in self.tables())),
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
            if name in self.tables() and significant[alias_position].kind in ("word", "name"):
                aliases.setdefault(texts[alias_position], name)
        return aliases
