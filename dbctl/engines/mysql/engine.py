"""The engine of MySQL and MariaDB."""

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


class MySQLEngine(ServerEngine):
    name, title, driver = "mysql", "MySQL and MariaDB", "PyMySQL[rsa,ed25519]"
    central_database = "information_schema"
    databases_sql = """select schema_name from information_schema.schemata
      where schema_name not in ('information_schema', 'mysql', 'performance_schema', 'sys')"""
    damage_hint = Remedy(
        "A damaged server may start for a dump with innodb_force_recovery = 1 or higher. Copy the whole data directory, and restore a backup with: `restore apply ID`"
    )

    def create_reader(self, url: Url, target: str, options: OpenOptions) -> Readable:
        with self._require_driver(target):
            from dbctl.engines.mysql.database import MySQLReader
        return MySQLReader(url, target, timeout=options.timeout)

    def create_writer(self, url: Url, target: str, options: OpenOptions) -> Writable:
        with self._require_driver(target):
            from dbctl.engines.mysql.database import MySQLWriter
        return MySQLWriter(url, target, timeout=options.timeout)

    def open_scratch(self, url: Url, target: str) -> Writable:
        with self._require_driver(target):
            from dbctl.engines.mysql.database import open_scratch
        return open_scratch(url, target)

    def restore_target(self, url: Url, target: str) -> RestoreTarget:
        with self._require_driver(target):
            from dbctl.engines.mysql.restore import MySQLRestoreTarget
        return MySQLRestoreTarget(url, target)

    def verify_dump(self, path: Path, dump: Dump, target: str, options: VerifyOptions) -> DumpVerification:
        del options
        with self._require_driver(target):
            from dbctl.engines.mysql.load import verify_dump
        return verify_dump(path, dump.metadata, target)

    @property
    def script_dialect(self) -> ScriptDialect:
        from dbctl.engines.mysql.statements import SCRIPTS  # without the driver

        return SCRIPTS


ENGINE = MySQLEngine()
