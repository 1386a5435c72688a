"""An open SQLite database, and its form for reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from dbctl.engines.contract.database import Where
from dbctl.engines.sql.catalog import Row
from dbctl.engines.sql.database import SqlDatabase
from dbctl.engines.sqlite.catalog import SQLiteCatalog
from dbctl.engines.sqlite.connection.base import SQLiteConnection
from dbctl.engines.sqlite.connection.read import ReadConnection
from dbctl.engines.sqlite.dialect import SQLiteDialect, expand_sets
from dbctl.errors.connection import QueryFailedError


class SQLiteDatabase(SqlDatabase):
    """What readers and writers of a SQLite file share; everything beyond reading rows is a part."""

    PARTS: ClassVar[Mapping[str, str]] = {
        "BloatMonitor": "dbctl.engines.sqlite.monitoring.sizes:SQLiteIndexMonitor",
        "Checks": "dbctl.engines.sqlite.checks:SQLiteChecks",
        "Explainer": "dbctl.engines.sqlite.queries:SQLiteExplainer",
        "FullText": "dbctl.engines.sqlite.fulltext.search:SQLiteFullText",
        "IndexMonitor": "dbctl.engines.sqlite.monitoring.sizes:SQLiteIndexMonitor",
        "Maintenance": "dbctl.engines.sqlite.monitoring.maintenance:SQLiteMaintenance",
        "NativeSchemas": "dbctl.engines.sqlite.native.schema:SQLiteNativeSchemas",
        "PortableSchemas": "dbctl.engines.sqlite.portable.schema:SQLitePortableSchemas",
        "Preview": "dbctl.engines.sql.checks:SqlPreview",
        "RowSource": "dbctl.engines.sqlite.transfer.source:SQLiteRowSource",
        "RowStreams": "dbctl.engines.sqlite.stream:SQLiteStreams",
        "SchemaReader": "dbctl.engines.sqlite.describe:SQLiteSchemaReader",
        "SizeMonitor": "dbctl.engines.sqlite.monitoring.sizes:SQLiteSizes",
        "TableRebuilder": "dbctl.engines.sqlite.rebuild:SQLiteTableRebuilder",
        "ValueCodec": "dbctl.engines.sqlite.types.codec:SQLiteCodec",
        "ValueScreen": "dbctl.engines.sqlite.portable.screen:SQLiteValueScreen",
        "TextScanner": "dbctl.engines.sqlite.queries:SQLiteTextScanner",
        "TimeForms": "dbctl.engines.sqlite.types.times:SQLiteTimes",
        "WriteLock": "dbctl.engines.sqlite.transfer.write_lock:SQLiteWriteLock",
    }
    connection: SQLiteConnection
    catalog: SQLiteCatalog

    def __init__(self, connection: SQLiteConnection) -> None:
        super().__init__(connection, SQLiteCatalog(connection), SQLiteDialect())

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        try:
            return super().count(table, where)
        except QueryFailedError:
            # A full-text index whose content columns are missing can still count its entries.
            entries = f"{table}_docsize"
            if where or entries not in self.tables():
                raise
            return super().count(entries)

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        with self.connection.query_only():
            return super().query(*expand_sets(sql, parameters))


class SQLiteReader(SQLiteDatabase):
    """A SQLite file opened for reading; no side files are created."""

    PARTS: ClassVar[Mapping[str, str]] = {
        **SQLiteDatabase.PARTS,
        "Dumps": "dbctl.engines.sqlite.backup.dumps:SQLiteDumps",
    }
    connection: ReadConnection

    def __init__(self, path: Path, target: str, *, timeout: float = 5.0, traceless: bool = False) -> None:
        """Open ``path``; the arguments are those of ``ReadConnection``."""
        super().__init__(ReadConnection(path, target, timeout=timeout, traceless=traceless))
