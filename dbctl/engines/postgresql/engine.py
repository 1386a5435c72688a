"""The engine of PostgreSQL."""

from __future__ import annotations

from dbctl.engines.servers.engine import ServerEngine
from dbctl.errors.base import Remedy


class PostgreSQLEngine(ServerEngine):
    name, title, prefix, driver = "postgresql", "PostgreSQL", "PostgreSQL", "psycopg[binary]"
    central_database = "postgres"
    damage_hint = Remedy(
        "pg_amcheck lists the damage; SET zero_damaged_pages = on skips damaged pages. Stop the server, copy the whole data directory, and restore a backup with: `restore apply ID`"
    )

    @property
    def databases_sql(self) -> str:
        """The query runs in ``postgres``, which is that of an app if it has tables; those of hosted servers refuse all users."""
        from dbctl.engines.postgresql.catalog import IN_USER_SCHEMA, OWN_RELATION

        return f"""select cast(datname as text) from pg_catalog.pg_database where datallowconn and not datistemplate
          and datname not in ('rdsadmin', 'cloudsqladmin', 'azure_maintenance', 'azure_sys')
          and (datname <> 'postgres' or exists (select from pg_catalog.pg_class c
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where c.relkind in ('r', 'p') and {IN_USER_SCHEMA} and {OWN_RELATION}))"""


ENGINE = PostgreSQLEngine()
