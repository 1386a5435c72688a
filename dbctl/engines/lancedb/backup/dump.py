"""Copy the newest version of each table of a folder to an archive, while the app writes."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract.dumps import DumpRequest, DumpResult
from dbctl.engines.lancedb.backup import archive, snapshot, verify
from dbctl.engines.lancedb.backup.snapshot import Snapshot
from dbctl.files.subprocesses import create_file

if TYPE_CHECKING:
    from dbctl.engines.lancedb.reader import LanceReader


class FolderDumps:
    """``Dumps`` and ``SnapshotPin`` of a local folder, also without the lancedb package."""

    forms: Mapping[str, str] = {"lance": ".tar"}
    supports_partial = False
    is_compressed = False

    def __init__(self, root: Path, target: str) -> None:
        """Store the folder of the tables; nothing is opened."""
        self._root, self._target = root, target
        self._pinned: Snapshot | None = None

    def blocks_writers(self) -> bool:
        return False

    def pin_snapshot(self) -> None:
        """Open the files of the current versions for the next ``dump``."""
        self.unpin()
        self._pinned = snapshot.create_snapshot(self._root, self._target)

    def unpin(self) -> None:
        """Release the pinned snapshot, if any."""
        if self._pinned is not None:
            self._pinned.close()
            self._pinned = None

    def estimate_dump_size(self) -> int:
        if self._pinned is not None:
            return archive.archive_size(self._pinned)
        with snapshot.open_snapshot(self._root, self._target) as pinned:
            return archive.archive_size(pinned)

    def dump(self, request: DumpRequest) -> DumpResult:
        """Write the archive and verify its rows in a second thread.

        Raises:
            As ``snapshot.create_snapshot``.
        """
        pinned = self._pinned or snapshot.create_snapshot(self._root, self._target)
        try:
            return _write_archive(pinned, request)
        finally:
            pinned.close()
            self._pinned = None


def create_dumps(db: LanceReader) -> FolderDumps | None:
    """Return the dumps of an open database, which ends their snapshot when it is closed; None for a bucket."""
    if db.location.folder is None:
        return None
    dumps = FolderDumps(db.location.folder, db.target)
    db.cleanup.callback(dumps.unpin)
    return dumps


def _write_archive(pinned: Snapshot, request: DumpRequest) -> DumpResult:
    total_bytes, written_bytes = archive.archive_size(pinned), 0
    with signals.defer_signals(), create_file(request.destination) as file, ThreadPoolExecutor(1) as pool:
        future = pool.submit(verify.verify_snapshot, pinned)
        for block in archive.blocks(pinned):
            signals.raise_if_interrupted()
            written_bytes += file.write(block)
            request.progress(min(1.0, written_bytes / total_bytes))
        verification = future.result()
    remarks = [*pinned.remarks, *([] if verify.is_readable() else [verify.NOT_READ])]
    metadata = {"format": "lance", **pinned.versions} | ({"remarks": "; ".join(remarks)} if remarks else {})
    return DumpResult(
        taken_at=pinned.taken_at, metadata=metadata, verification=verification, sha256=file.counter.sha256
    )
