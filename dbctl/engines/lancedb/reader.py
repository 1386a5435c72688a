"""The reader of a LanceDB: all results come from the versions that were the newest at its first read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl.engines.contract import Capability
from dbctl.engines.lancedb.admin import LanceAdvice, LanceTasks
from dbctl.engines.lancedb.backup import LanceDumps
from dbctl.engines.lancedb.catalog import LanceCatalog
from dbctl.engines.lancedb.checks import LanceChecks
from dbctl.engines.lancedb.query import LanceTextScan
from dbctl.engines.lancedb.stream import LanceStreams
from dbctl.errors import NotSupportedError
from dbctl.url import Url

#: The capabilities of readers and writers.
CAPABILITIES = frozenset(
    {
        Capability.ADVISE,
        Capability.BLOAT,
        Capability.CHECK,
        Capability.TEXT_SCAN,
        Capability.MAINTAIN,
        Capability.MEASURE,
        Capability.SCHEMA,
        Capability.STREAM,
        Capability.VECTORS,
        Capability.VERSIONS,
    }
)


class LanceReader(
    LanceDumps, LanceAdvice, LanceTasks, LanceChecks, LanceCatalog, LanceStreams, LanceTextScan
):
    """A LanceDB opened for reading, with one version of each table.

    Writes of other processes are neither visible nor blocked. After another process pruned the version, reads raise
    ChangedWhileReadError.
    """

    def __init__(
        self, url: Url, target: str, *, timeout: float, keys: Mapping[str, Sequence[str]] = {}
    ) -> None:
        """Check that the database exists, as ``LanceConnection`` does. Databases in a bucket have no dumps."""
        super().__init__(url, target, timeout=timeout, keys=keys)
        self.capabilities = CAPABILITIES | {Capability.DUMP} if self._location.folder else CAPABILITIES

    def close(self) -> None:
        self.unpin()
        super().close()

    def _root(self) -> Path:
        if self._location.folder is None:
            raise NotSupportedError(
                feature="a backup",
                subject=self.target,
                hint="It is in a bucket; enable the versioning of the bucket.",
            )
        return self._location.folder
