"""What an engine says it can, it is: services ask for both, and do nothing, without a word, where one of them is missing."""

from __future__ import annotations

from collections.abc import Mapping

from dbctl.engines.contract import Capability, Checks, Describes, Explains, Measures, Readable
from dbctl.engines.contract.dumps import Dumps
from dbctl.engines.contract.external_index import Sidecars
from dbctl.engines.contract.fulltext import FullText
from dbctl.engines.contract.monitoring import Advises, Indexes, Maintains, Prunes, Sessions, Timed, Wastes
from dbctl.engines.contract.streaming import Streams, WritesCsv
from dbctl.engines.contract.text_scan import LooksThrough
from dbctl.engines.contract.vectors import Vectors

#: What a reader is that can something; what only a writer is, is left out.
PROTOCOLS: Mapping[Capability, type] = {
    Capability.DUMP: Dumps,
    Capability.ADVISE: Advises,
    Capability.BLOAT: Wastes,
    Capability.CSV: WritesCsv,
    Capability.CHECK: Checks,
    Capability.EXPLAIN: Explains,
    Capability.FULL_TEXT: FullText,
    Capability.INDEXES: Indexes,
    Capability.LOOK: LooksThrough,
    Capability.MAINTAIN: Maintains,
    Capability.MEASURE: Measures,
    Capability.SCHEMA: Describes,
    Capability.SIDECAR: Sidecars,
    Capability.SESSIONS: Sessions,
    Capability.SLOW: Timed,
    Capability.STREAM: Streams,
    Capability.VERSIONS: Prunes,
    Capability.VECTORS: Vectors,
}
OF_WRITERS = {Capability.ASIDE, Capability.MIGRATE}


def broken_promises(reader: Readable) -> list[str]:
    """Return what a reader says that it can, and is not."""
    assert PROTOCOLS.keys() | OF_WRITERS == set(Capability)
    told = reader.capabilities - OF_WRITERS
    return [one.name for one in told if not isinstance(reader, PROTOCOLS[one])]
