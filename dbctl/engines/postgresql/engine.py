"""The engine of PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbctl.engines.contract.engine import OpenOptions, VerifyOptions
from dbctl.engines.servers.engine import ServerEngine
from dbctl.errors.base import Remedy

if TYPE_CHECKING:  # most commands only read a database
    from pathlib import Path

    from dbctl.engines.contract.database import Readable, Writable
    from dbctl.engines.contract.dumps import Dump, DumpVerification, RestoreTarget
    from dbctl.engines.contract.schema import ScriptDialect
    from dbctl.url import Url


class PostgreSQLEngine(ServerEngine):
    name, title, driver = "postgresql", "PostgreSQL", "psycopg[binary]"
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

    def create_reader(self, url: Url, target: str, options: OpenOptions) -> Readable:
        with self._require_driver(target):
            from dbctl.engines.postgresql.database import PostgreSQLReader
        return PostgreSQLReader(url, target, timeout=options.timeout)

    def create_writer(self, url: Url, target: str, options: OpenOptions) -> Writable:
        with self._require_driver(target):
            from dbctl.engines.postgresql.database import PostgreSQLWriter
        return PostgreSQLWriter(url, target, timeout=options.timeout)

    def open_scratch(self, url: Url, target: str) -> Writable:
        with self._require_driver(target):
            from dbctl.engines.postgresql.scripts import open_scratch
        return open_scratch(url, target)

    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        with self._require_driver(target):
            from dbctl.engines.postgresql.restore import PostgreSQLRestoreTarget
        return PostgreSQLRestoreTarget(url, target)

    def verify_dump(self, path: Path, dump: Dump, target: str, options: VerifyOptions) -> DumpVerification:
        with self._require_driver(target):
            from dbctl.engines.postgresql.load import verify_dump
        return verify_dump(path, dump.metadata, target, options.server)

    @property
    def script_dialect(self) -> ScriptDialect:
        from dbctl.engines.postgresql.statements import SCRIPTS  # without the driver

        return SCRIPTS


ENGINE = PostgreSQLEngine()
