"""Copy the newest version of each table of a folder to an archive, while the app writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import Capability, DumpResult
from dbctl.engines.lancedb.backup import archive, snapshot, verify
from dbctl.engines.lancedb.backup.snapshot import Snapshot
from dbctl.files import Progress, create_file, no_progress


class LanceDumps:
    """Capability.DUMP of a local folder."""

    forms: Mapping[str, str] = {"lance": ".tar"}
    supports_partial = False
    is_compressed = False

    target: str
    _pinned: Snapshot | None = None

    @abstractmethod
    def _root(self) -> Path:
        """Return the folder of the tables."""

    def blocks_writers(self) -> bool:
        return False

    def pin_snapshot(self) -> None:
        """Open the files of the current versions for the next ``dump``."""
        self.unpin()
        self._pinned = snapshot.create_snapshot(self._root(), self.target)

    def unpin(self) -> None:
        """Release the pinned snapshot, if any."""
        if self._pinned is not None:
            self._pinned.close()
            self._pinned = None

    def estimate_dump_size(self) -> int:
        if self._pinned is not None:
            return archive.archive_size(self._pinned)
        with snapshot.open_snapshot(self._root(), self.target) as pinned:
            return archive.archive_size(pinned)

    def dump(
        self,
        destination: Path,
        *,
        form: str = "",
        tables: Sequence[str] = (),
        progress: Progress = no_progress,
    ) -> DumpResult:
        """Write the archive and verify its rows in a second thread.

        Raises:
            As ``snapshot.create_snapshot``.
        """
        del form, tables  # there is one form, which contains all tables
        pinned = self._pinned or snapshot.create_snapshot(self._root(), self.target)
        try:
            return _write_archive(pinned, destination, progress)
        finally:
            pinned.close()
            self._pinned = None


class FolderDumps(LanceDumps):
    """Dumps of a local folder, without the lancedb package."""

    capabilities = frozenset({Capability.DUMP})

    def __init__(self, root: Path, target: str) -> None:
        self._path, self.target = root, target

    def _root(self) -> Path:
        return self._path

    def close(self) -> None:
        self.unpin()


def _write_archive(pinned: Snapshot, destination: Path, progress: Progress) -> DumpResult:
    total_bytes, written_bytes = archive.archive_size(pinned), 0
    with signals.defer_signals(), create_file(destination) as file, ThreadPoolExecutor(1) as pool:
        future = pool.submit(verify.verify_snapshot, pinned)
        for block in archive.blocks(pinned):
            signals.raise_if_interrupted()
            written_bytes += file.write(block)
            progress(min(1.0, written_bytes / total_bytes))
        verification = future.result()
    versions = {f"version of {table.name}": str(table.version.number) for table in pinned.tables}
    remarks = [*pinned.remarks, *([] if verify.is_readable() else [verify.NOT_READ])]
    metadata = {"format": "lance", **versions} | ({"remarks": "; ".join(remarks)} if remarks else {})
    return DumpResult(
        taken_at=pinned.taken_at, metadata=metadata, verification=verification, sha256=file.sha256
    )
