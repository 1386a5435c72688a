"""The parts of an open database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from dbctl.engines.postgresql.reader import PostgreSQLReader
    from dbctl.engines.postgresql.writer import PostgreSQLWriter

    PostgreSQLDatabase: TypeAlias = PostgreSQLReader | PostgreSQLWriter

_MONITORING = "dbctl.engines.postgresql.monitoring"

#: Parts of readers and writers.
PARTS: Mapping[str, str] = {
    "Advisor": f"{_MONITORING}.advice:PostgreSQLAdvice",
    "BloatMonitor": f"{_MONITORING}.bloat:PostgreSQLBloat",
    "Checks": f"{_MONITORING}.checks:PostgreSQLChecks",
    "CsvWriter": "dbctl.engines.postgresql.stream:PostgreSQLCsvWriter",
    "Explainer": "dbctl.engines.postgresql.explain:PostgreSQLExplainer",
    "FullText": "dbctl.engines.postgresql.fulltext:PostgreSQLFullText",
    "IndexMonitor": f"{_MONITORING}.indexes:PostgreSQLIndexes",
    "Maintenance": f"{_MONITORING}.maintenance:PostgreSQLMaintenance",
    "RowStreams": "dbctl.engines.postgresql.stream:PostgreSQLStreams",
    "SchemaReader": "dbctl.engines.postgresql.schema:PostgreSQLSchemaReader",
    "SessionMonitor": f"{_MONITORING}.connections:PostgreSQLSessions",
    "SizeMonitor": f"{_MONITORING}.sizes:PostgreSQLSizes",
    "SlowQueryMonitor": f"{_MONITORING}.slow_queries:PostgreSQLSlowQueries",
    "TextScanner": "dbctl.engines.sql.text_scan:SqlTextScanner",
}

READER_PARTS: Mapping[str, str] = {
    **PARTS,
    "DumpRowCounter": "dbctl.engines.postgresql.backup.dump:PostgreSQLRowCounter",
    "Dumps": "dbctl.engines.postgresql.backup.dump:PostgreSQLDumper",
}

WRITER_PARTS: Mapping[str, str] = {
    **PARTS,
    "ScriptRunner": "dbctl.engines.postgresql.scripts:PostgreSQLScripts",
    "StagingTables": "dbctl.engines.postgresql.staging:PostgreSQLStaging",
    "TextIndexes": "dbctl.engines.postgresql.fulltext:PostgreSQLTextIndexes",
}

#: A scratch schema.
SCRATCH_PARTS: Mapping[str, str] = {
    **WRITER_PARTS,
    "ScriptRunner": "dbctl.engines.postgresql.scratch:PostgreSQLScratchScripts",
}
