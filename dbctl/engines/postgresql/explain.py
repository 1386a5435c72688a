"""Query plans of PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import structs

from dbctl.engines.contract import Explanation
from dbctl.engines.sql import SqlExplainer
from dbctl.errors import QueryFailedError

if TYPE_CHECKING:
    from dbctl.engines.postgresql.database import PostgreSQLDatabase


class PostgreSQLExplainer(SqlExplainer):
    """The part ``Explainer``."""

    def __init__(self, db: PostgreSQLDatabase) -> None:
        super().__init__(db)
        self._connection = db.connection

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        try:
            return self.explain_statement(sql, parameters, {})
        except QueryFailedError as error:
            if not (error.__cause__ and str(getattr(error.__cause__, "sqlstate", "")).startswith("22")):
                raise
        # A value has the wrong type, which does not matter for the plan: explain the statement with NULLs.
        nothing: dict[str, object] = {
            name: [] if isinstance(value, list) else None for name, value in parameters.items()
        }
        return structs.replace(
            self.explain_statement(sql, nothing, {}), parameters=tuple(parameters.values())
        )

    def explain_statement(
        self,
        sql: str,
        parameters: Mapping[str, object],
        aliases: Mapping[str, str],  # noqa: ARG002 - plans contain the names of tables
    ) -> Explanation:
        with self._connection.read_transaction():
            lines = self._connection.fetch(f"explain {sql}", parameters)
            ((plan,),) = self._connection.fetch(f"explain (format json) {sql}", parameters)
        scanned = [
            name for (document,) in [json.loads(str(plan))] for name in _find_full_scans(document["Plan"])
        ]
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=[str(line) for (line,) in lines],
            full_scans=list(dict.fromkeys(scanned)),
        )


def _find_full_scans(plan: Mapping[str, object]) -> Iterator[str]:
    """Yield the tables that are scanned entirely."""
    kind = str(plan["Node Type"])
    if "Seq Scan" in kind or ("Index" in kind and "Relation Name" in plan and "Index Cond" not in plan):
        yield str(plan["Relation Name"])
    inner = plan.get("Plans", [])
    if isinstance(inner, list):
        for child in inner:
            yield from _find_full_scans(child)
