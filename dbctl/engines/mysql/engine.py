"""The engine of MySQL and MariaDB."""

from __future__ import annotations

from dbctl.engines.servers.engine import ServerEngine
from dbctl.errors.base import Remedy


class MySQLEngine(ServerEngine):
    name, title, prefix = "mysql", "MySQL and MariaDB", "MySQL"
    driver = "PyMySQL[rsa,ed25519]"
    damage_hint = Remedy(
        "A damaged server may start for a dump with innodb_force_recovery = 1 or higher. Copy the whole data directory, and restore a backup with: `restore apply ID`"
    )


ENGINE = MySQLEngine()
