"""The engine of MySQL and MariaDB."""

from __future__ import annotations

from dbctl.engines.servers.engine import ServerEngine
from dbctl.errors.base import Remedy


class MySQLEngine(ServerEngine):
    name, title, prefix, driver = "mysql", "MySQL and MariaDB", "MySQL", "PyMySQL[rsa,ed25519]"
    central_database = "information_schema"
    databases_sql = """select schema_name from information_schema.schemata
      where schema_name not in ('information_schema', 'mysql', 'performance_schema', 'sys')"""
    damage_hint = Remedy(
        "A damaged server may start for a dump with innodb_force_recovery = 1 or higher. Copy the whole data directory, and restore a backup with: `restore apply ID`"
    )


ENGINE = MySQLEngine()
