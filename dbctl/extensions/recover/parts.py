"""The recoveries of the engines; each imports its driver with the module that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from dbctl.engines.postgresql.engine import PostgreSQLEngine
from dbctl.errors.usage import require_driver
from dbctl.extensions.recover.contract import RecoveredDatabase, Recovery, RecoveryPlan, RecoveryRequest


class PostgreSQLRecovery(Recovery):
    """A physical copy and its log, replayed by a private server."""

    def plan(self, request: RecoveryRequest) -> RecoveryPlan:
        with require_driver(request.target, driver=PostgreSQLEngine.driver, extra=PostgreSQLEngine.name):
            from dbctl.extensions.recover.postgresql.recovery import plan_recovery
        return plan_recovery(request)

    def recover(self, request: RecoveryRequest) -> AbstractContextManager[RecoveredDatabase]:
        with require_driver(request.target, driver=PostgreSQLEngine.driver, extra=PostgreSQLEngine.name):
            from dbctl.extensions.recover.postgresql.recovery import recover
        return recover(request)


def create_postgresql_parts() -> Sequence[object]:
    """Return the parts of the engine PostgreSQL."""
    return [PostgreSQLRecovery()]
