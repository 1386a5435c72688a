"""The engine of PostgreSQL."""

from __future__ import annotations

from dbctl.engines.servers import ServerEngine


class PostgreSQLEngine(ServerEngine):
    name, title, driver = "postgresql", "PostgreSQL", "psycopg[binary]"
    damage_hint = (
        "Copy the whole data directory, stop the server, and restore a backup: dbctl restore apply. "
        "pg_amcheck lists the damage; SET zero_damaged_pages = on skips damaged pages."
    )
    class_prefix = "PostgreSQL"


ENGINE = PostgreSQLEngine()
