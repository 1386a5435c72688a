"""The recoveries of the engines; each imports its driver with the module that it uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from dbctl.engines.mysql.engine import MySQLEngine
from dbctl.engines.postgresql.engine import PostgreSQLEngine
from dbctl.errors.usage import require_driver
from dbctl.extensions.recover.contract import RecoveredDatabase, Recovery, RecoveryPlan, RecoveryRequest
from dbctl.extensions.recover.postgresql.log import parse_position


class PostgreSQLRecovery(Recovery):
    """A physical copy and its log, replayed by a private server."""

    def reaches_back(self, part: Mapping[str, str], copy: Mapping[str, str]) -> bool:
        return parse_position(part["start"]) <= parse_position(copy["start"])

    def plan(self, request: RecoveryRequest) -> RecoveryPlan:
        with require_driver(request.target, driver=PostgreSQLEngine.driver, extra=PostgreSQLEngine.name):
            from dbctl.extensions.recover.postgresql.replay import plan_recovery
        return plan_recovery(request)

    def recover(self, request: RecoveryRequest) -> AbstractContextManager[RecoveredDatabase]:
        with require_driver(request.target, driver=PostgreSQLEngine.driver, extra=PostgreSQLEngine.name):
            from dbctl.extensions.recover.postgresql.replay import recover
        return recover(request)


def create_postgresql_parts() -> Sequence[object]:
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
