"""The parts of an open database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from dbctl.engines.mysql.reader import MySQLReader
    from dbctl.engines.mysql.writer import MySQLWriter

    MySQLDatabase: TypeAlias = MySQLReader | MySQLWriter

_MONITORING = "dbctl.engines.mysql.monitoring"

#: Parts of readers and writers.
PARTS: Mapping[str, str] = {
    "Advisor": f"{_MONITORING}.advice:MySQLAdvice",
    "BloatMonitor": f"{_MONITORING}.sizes:MySQLBloat",
    "Checks": f"{_MONITORING}.checks:MySQLChecks",
    "Explainer": "dbctl.engines.mysql.explain:MySQLExplainer",
    "FullText": "dbctl.engines.mysql.fulltext:MySQLFullText",
    "IndexMonitor": f"{_MONITORING}.indexes:MySQLIndexes",
    "Maintenance": f"{_MONITORING}.maintenance:MySQLMaintenance",
    "RowStreams": "dbctl.engines.mysql.stream:MySQLStreams",
    "SchemaReader": "dbctl.engines.mysql.schema:MySQLSchemaReader",
    "SessionMonitor": f"{_MONITORING}.connections:MySQLSessions",
    "SizeMonitor": f"{_MONITORING}.sizes:MySQLSizes",
    "SlowQueryMonitor": f"{_MONITORING}.slow_queries:MySQLSlowQueries",
    "TextScanner": "dbctl.engines.sql.text_scan:SqlTextScanner",
}

READER_PARTS: Mapping[str, str] = {
    **PARTS,
    "Dumps": "dbctl.engines.mysql.backup.dump:MySQLDumper",
}

WRITER_PARTS: Mapping[str, str] = {
    **PARTS,
    "ScriptRunner": "dbctl.engines.mysql.scripts:MySQLScripts",
    "StagingTables": "dbctl.engines.mysql.staging:MySQLStaging",
    "TextIndexes": "dbctl.engines.mysql.fulltext:MySQLTextIndexes",
}
