"""Reading a LanceDB: every answer of a connection is of the versions that were the newest when it began to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl.engines.contract import Capability
from dbctl.engines.lancedb.admin import LanceAdvice, LanceUpkeep
from dbctl.engines.lancedb.backup import Dumping
from dbctl.engines.lancedb.catalog import LanceDescribes
from dbctl.engines.lancedb.checks import LanceChecks
from dbctl.engines.lancedb.query import LanceLooks
from dbctl.engines.lancedb.stream import LanceStreams
from dbctl.errors import NotSupportedError
from dbctl.url import Url

#: What every connection can tell, also one that may write.
TOLD = frozenset(
    {
        Capability.ADVISE,
        Capability.BLOAT,
        Capability.CHECK,
        Capability.LOOK,
        Capability.MAINTAIN,
        Capability.MEASURE,
        Capability.SCHEMA,
        Capability.STREAM,
        Capability.VECTORS,
        Capability.VERSIONS,
    }
)


class LanceReader(Dumping, LanceAdvice, LanceUpkeep, LanceChecks, LanceDescribes, LanceStreams, LanceLooks):
    """A LanceDB opened for reading: tables at one version each, of which the library writes nothing.

    Others may write meanwhile, and are neither seen nor kept waiting. Where somebody prunes the version that is read, what
    follows fails as what was changed while it was read.
    """

    def __init__(
        self, url: Url, target: str, *, timeout: float, keys: Mapping[str, Sequence[str]] = {}
    ) -> None:
        """Find the database, as ``LanceConnection`` does; what stands in storage cannot be copied from here."""
        super().__init__(url, target, timeout=timeout, keys=keys)
        self.capabilities = TOLD | {Capability.DUMP} if self._place.folder else TOLD

    def close(self) -> None:
        self.unpin()
        super().close()

    def _root(self) -> Path:
        if self._place.folder is None:
            raise NotSupportedError(
                what="a backup",
                by=self.target,
                instead="It stands in storage; let the bucket keep versions.",
            )
        return self._place.folder
