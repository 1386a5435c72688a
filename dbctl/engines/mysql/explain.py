"""How MySQL would answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager

from dbctl.engines.contract import Explanation
from dbctl.engines.mysql.dialect import MySQLDialect
from dbctl.engines.mysql.sql import tokens, why_no_question
from dbctl.engines.sql import PlanReader
from dbctl.errors import QueryFailedError

COLUMNS = ("id", "select_type", "table", "type", "key", "rows", "Extra")


class MySQLPlans(PlanReader, MySQLDialect):
    """Capability.EXPLAIN."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[None]:
        """Begin a transaction that can write nothing, and end it without a trace."""

    @abstractmethod
    def _told_rows(self, sql: str, parameters: Mapping[str, object]) -> list[dict[str, object]]:
        """Return the rows of one reading statement by the names of their columns."""

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        if reason := why_no_question(sql):
            raise QueryFailedError(target=self.target, reason=reason)
        return self._explained(sql, parameters, self._aliases(sql))

    def _explained(
        self, sql: str, parameters: Mapping[str, object], aliases: Mapping[str, str]
    ) -> Explanation:
        with self._asking():
            rows = self._told_rows(
                f"explain format=traditional {sql}", parameters
            )  # others may be the default
        scanned = [str(row["table"]) for row in rows if row["type"] in ("ALL", "index")]
        names = [aliases.get(name, name) for name in scanned]
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=[
                ", ".join(f"{name}: {row[name]}" for name in COLUMNS if row.get(name) not in (None, ""))
                for row in rows
            ],
            full_scans=list(dict.fromkeys(name for name in names if name in self.tables())),
        )

    def _aliases(self, sql: str) -> dict[str, str]:
        """Return what a statement calls each table, by the word behind its name; plans tell nothing else."""
        held = [token for token in tokens(sql) if token.kind not in ("space", "comment")]
        told = [token.text[1:-1] if token.kind == "name" else token.text for token in held]
        found: dict[str, str] = {}
        for at, name in enumerate(told[:-1]):
            behind = at + 2 if told[at + 1].lower() == "as" and at + 2 < len(told) else at + 1
            if name in self.tables() and held[behind].kind in ("word", "name"):
                found.setdefault(told[behind], name)
        return found
