"""Capabilities and protocols of an engine must match: services check both, and skip a feature if one is missing."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.contract import Capability, Checks, DescribesSchema, Explains, Readable, ReportsSizes
from dbctl.engines.contract.dumps import Dumps
from dbctl.engines.contract.external_index import SearchesExternalIndex
from dbctl.engines.contract.fulltext import SearchesFullText
from dbctl.engines.contract.monitoring import (
    Maintains,
    PrunesVersions,
    ReportsBloat,
    ReportsFindings,
    ReportsIndexes,
    ReportsSessions,
    ReportsSlowQueries,
)
from dbctl.engines.contract.streaming import StreamsRows, WritesCsv
from dbctl.engines.contract.text_scan import ScansText
from dbctl.engines.contract.vectors import SearchesVectors

#: The protocol of each capability of readers.
PROTOCOLS: Mapping[Capability, type] = {
    Capability.DUMP: Dumps,
    Capability.ADVISE: ReportsFindings,
    Capability.BLOAT: ReportsBloat,
    Capability.CSV: WritesCsv,
    Capability.CHECK: Checks,
    Capability.EXPLAIN: Explains,
    Capability.FULL_TEXT: SearchesFullText,
    Capability.INDEXES: ReportsIndexes,
    Capability.TEXT_SCAN: ScansText,
    Capability.MAINTAIN: Maintains,
    Capability.MEASURE: ReportsSizes,
    Capability.SCHEMA: DescribesSchema,
    Capability.EXTERNAL_INDEX: SearchesExternalIndex,
    Capability.SESSIONS: ReportsSessions,
    Capability.SLOW_QUERIES: ReportsSlowQueries,
    Capability.STREAM: StreamsRows,
    Capability.VERSIONS: PrunesVersions,
    Capability.VECTORS: SearchesVectors,
}
WRITER_CAPABILITIES = {Capability.STAGING, Capability.MIGRATE}


def find_mismatches(reader: Readable) -> list[str]:
    """Return the capabilities of a reader whose protocol it does not implement."""
    assert PROTOCOLS.keys() | WRITER_CAPABILITIES == set(Capability)
    capabilities = reader.capabilities - WRITER_CAPABILITIES
    return [capability.name for capability in capabilities if not isinstance(reader, PROTOCOLS[capability])]
