"""The engine of PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from dbctl.engines.servers.engine import ServerEngine
from dbctl.errors.base import Remedy


class PostgreSQLEngine(ServerEngine):
    name, title, driver = "postgresql", "PostgreSQL", "psycopg[binary]"
    damage_hint = Remedy(
        "pg_amcheck lists the damage; SET zero_damaged_pages = on skips damaged pages. Stop the server, copy the whole data directory, and restore a backup with: `restore apply ID`"
    )
    class_prefix = "PostgreSQL"
    entry_points: ClassVar[Mapping[str, str]] = {
        "scratch": "scripts:PostgreSQLScratch",
        "lock_holders": "sessions:list_lock_holders",
        "restore_target": "restore:PostgreSQLRestoreTarget",
        "verify_dump": "load:verify_dump",
        "import_dump": "foreign.dump:import_dump",
        "script_dialect": "lint:SCRIPTS",
    }


ENGINE = PostgreSQLEngine()
