"""The conversions of dumps of other programs, one for each engine; each imports its driver with the module that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbctl.engines.contract.dumps import Content
from dbctl.engines.contract.engine import DumpImport, ImportedDump
from dbctl.engines.mysql.engine import MySQLEngine
from dbctl.engines.postgresql.engine import PostgreSQLEngine
from dbctl.errors.usage import require_driver


class SQLiteImport(DumpImport):
    """Files of SQLite, and dumps of ``sqlite3``."""

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        from dbctl.extensions.adopt.sqlite import import_dump

        return import_dump(source, destination, content, target, max_bytes=max_bytes)


class PostgreSQLImport(DumpImport):
    """Dumps of ``pg_dump``."""

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        del max_bytes
        with require_driver(target, driver=PostgreSQLEngine.driver, extra=PostgreSQLEngine.name):
            from dbctl.extensions.adopt.postgresql import import_dump
        return import_dump(source, destination, content, target)


class MySQLImport(DumpImport):
    """Dumps of ``mysqldump``."""

    def import_dump(
        self, content: Content, source: Path, destination: Path, target: str, *, max_bytes: int
    ) -> ImportedDump:
        del content, max_bytes  # there is only one form
        with require_driver(target, driver=MySQLEngine.driver, extra=MySQLEngine.name):
            from dbctl.extensions.adopt.mysql import import_dump
        return import_dump(source, destination, target)


def create_sqlite_parts() -> Sequence[object]:
    return [SQLiteImport()]


def create_postgresql_parts() -> Sequence[object]:
    return [PostgreSQLImport()]


def create_mysql_parts() -> Sequence[object]:
    """Return the parts of the engine of MySQL and MariaDB."""
    return [MySQLImport()]
