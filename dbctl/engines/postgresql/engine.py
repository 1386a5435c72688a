"""The engine of PostgreSQL."""

from __future__ import annotations

from dbctl.engines.servers.engine import ServerEngine
from dbctl.errors.base import Remedy


class PostgreSQLEngine(ServerEngine):
    name, title, prefix = "postgresql", "PostgreSQL", "PostgreSQL"
    driver = "psycopg[binary]"
    scratch_module, foreign_module = "scripts", "foreign.dump"
    damage_hint = Remedy(
        "pg_amcheck lists the damage; SET zero_damaged_pages = on skips damaged pages. Stop the server, copy the whole data directory, and restore a backup with: `restore apply ID`"
    )


ENGINE = PostgreSQLEngine()
