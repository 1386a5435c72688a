"""The recoveries of the engines; each imports its driver with the module that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from dbctl.engines.mysql.engine import MySQLEngine
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


class MariaDBRecovery(Recovery):
    """A backup of dbctl and the binary logs since then, replayed by a private server."""

    has_whole_seconds = True

    def plan(self, request: RecoveryRequest) -> RecoveryPlan:
        with require_driver(request.target, driver=MySQLEngine.driver, extra=MySQLEngine.name):
            from dbctl.extensions.recover.mariadb.recovery import plan_recovery
        return plan_recovery(request)

    def recover(self, request: RecoveryRequest) -> AbstractContextManager[RecoveredDatabase]:
        with require_driver(request.target, driver=MySQLEngine.driver, extra=MySQLEngine.name):
            from dbctl.extensions.recover.mariadb.recovery import recover
        return recover(request)


def create_mysql_parts() -> Sequence[object]:
    """Return the parts of the engine of MySQL and MariaDB."""
    return [MariaDBRecovery()]
