"""How PostgreSQL would answer."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager

from msgspec import structs

from dbctl.engines.contract import Explanation
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.sql import PlanReader
from dbctl.errors import QueryFailedError


class PostgreSQLPlans(PlanReader, PostgreSQLDialect):
    """Capability.EXPLAIN."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[None]:
        """Begin a transaction that can write nothing, and end it without a trace."""

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        try:
            return self._explained(sql, parameters, {})
        except QueryFailedError as error:
            if not (error.__cause__ and str(getattr(error.__cause__, "sqlstate", "")).startswith("22")):
                raise
        # A value does not fit, which says nothing about the statement: it is asked about nothing at all.
        nothing: dict[str, object] = {
            name: [] if isinstance(value, list) else None for name, value in parameters.items()
        }
        return structs.replace(self._explained(sql, nothing, {}), parameters=tuple(parameters.values()))

    def _explained(
        self,
        sql: str,
        parameters: Mapping[str, object],
        aliases: Mapping[str, str],  # noqa: ARG002 - a plan here names the tables themselves
    ) -> Explanation:
        with self._asking():
            lines = self._fetch(f"explain {sql}", parameters)
            ((told,),) = self._fetch(f"explain (format json) {sql}", parameters)
        scanned = [name for (one,) in [json.loads(str(told))] for name in _scanned(one["Plan"])]
        return Explanation(
            sql=sql,
            parameters=tuple(parameters.values()),
            plan=[str(line) for (line,) in lines],
            full_scans=list(dict.fromkeys(scanned)),
        )


def _scanned(plan: Mapping[str, object]) -> Iterator[str]:
    """Yield the tables that are read whole."""
    kind = str(plan["Node Type"])
    if "Seq Scan" in kind or ("Index" in kind and "Relation Name" in plan and "Index Cond" not in plan):
        yield str(plan["Relation Name"])
    inner = plan.get("Plans", [])
    if isinstance(inner, list):
        for one in inner:
            yield from _scanned(one)
