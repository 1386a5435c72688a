"""Capabilities and protocols of an engine must match: services check both, and skip a feature if one is missing."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.contract import Capability, Checks, Explainer, Readable, SchemaReader, SizeMonitor
from dbctl.engines.contract.dumps import Dumps
from dbctl.engines.contract.external_index import ExternalIndexes
from dbctl.engines.contract.fulltext import FullText
from dbctl.engines.contract.monitoring import (
    Advisor,
    BloatMonitor,
    IndexMonitor,
    Maintenance,
    SessionMonitor,
    SlowQueryMonitor,
    Versions,
)
from dbctl.engines.contract.streaming import CsvWriter, RowStreams
from dbctl.engines.contract.text_scan import TextScanner
from dbctl.engines.contract.vectors import VectorSearch

#: The protocol of each capability of readers.
PROTOCOLS: Mapping[Capability, type] = {
    Capability.DUMP: Dumps,
    Capability.ADVISE: Advisor,
    Capability.BLOAT: BloatMonitor,
    Capability.CSV: CsvWriter,
    Capability.CHECK: Checks,
    Capability.EXPLAIN: Explainer,
    Capability.FULL_TEXT: FullText,
    Capability.INDEXES: IndexMonitor,
    Capability.TEXT_SCAN: TextScanner,
    Capability.MAINTAIN: Maintenance,
    Capability.MEASURE: SizeMonitor,
    Capability.SCHEMA: SchemaReader,
    Capability.EXTERNAL_INDEX: ExternalIndexes,
    Capability.SESSIONS: SessionMonitor,
    Capability.SLOW_QUERIES: SlowQueryMonitor,
    Capability.STREAM: RowStreams,
    Capability.VERSIONS: Versions,
    Capability.VECTORS: VectorSearch,
}
WRITER_CAPABILITIES = {Capability.STAGING, Capability.MIGRATE}


def find_mismatches(reader: Readable) -> list[str]:
    """Return the capabilities of a reader whose protocol it does not implement."""
    assert PROTOCOLS.keys() | WRITER_CAPABILITIES == set(Capability)
    capabilities = reader.capabilities - WRITER_CAPABILITIES
    return [capability.name for capability in capabilities if not isinstance(reader, PROTOCOLS[capability])]
