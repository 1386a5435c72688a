"""Parts of a database must implement their protocols."""

from __future__ import annotations

from dbctl.engines.contract import Checks, Explainer, Readable, SchemaReader, SizeMonitor
from dbctl.engines.contract.dumps import Dumps
from dbctl.engines.contract.external_index import ExternalIndexes
from dbctl.engines.contract.fulltext import FullText, TextScanner
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
from dbctl.engines.contract.vectors import VectorSearch

#: The protocols of the parts of readers.
PROTOCOLS = (
    Advisor,
    BloatMonitor,
    Checks,
    CsvWriter,
    Dumps,
    Explainer,
    ExternalIndexes,
    FullText,
    IndexMonitor,
    Maintenance,
    RowStreams,
    SchemaReader,
    SessionMonitor,
    SizeMonitor,
    SlowQueryMonitor,
    TextScanner,
    VectorSearch,
    Versions,
)


def find_mismatches(reader: Readable) -> list[str]:
    """Return the protocols whose part does not implement them."""
    parts = {kind: reader.part(kind) for kind in PROTOCOLS}
    return [kind.__name__ for kind, part in parts.items() if not (part is None or isinstance(part, kind))]
