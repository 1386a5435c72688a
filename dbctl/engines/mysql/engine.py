"""The engine of MySQL and MariaDB."""

from __future__ import annotations

from typing import ClassVar

from dbctl.engines.servers.engine import ServerEngine
from dbctl.errors.base import Remedy


class MySQLEngine(ServerEngine):
    name, title, driver = "mysql", "MySQL and MariaDB", "PyMySQL[rsa,ed25519]"
    damage_hint = Remedy(
        "A damaged server may start for a dump with innodb_force_recovery = 1 or higher. Copy the whole data directory, and restore a backup with: `restore apply ID`"
    )
    class_prefix = "MySQL"
    entry_points: ClassVar = {
        "scratch": "database:MySQLScratch",
        "lock_holders": "sessions:list_lock_holders",
        "restore_target": "restore:MySQLRestoreTarget",
        "verify_dump": "load:verify_dump",
        "import_dump": "foreign:import_dump",
        "script_dialect": "lint:SCRIPTS",
    }


ENGINE = MySQLEngine()
