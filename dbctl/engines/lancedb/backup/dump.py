"""The tables of a folder copied as one archive while the app writes them: the newest version of each, and no more."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dbctl import signals
from dbctl.engines.contract import Capability, Dumped
from dbctl.engines.lancedb.backup import archive, snapshot, verify
from dbctl.engines.lancedb.backup.snapshot import Snapshot
from dbctl.files import Progress, new_file, silent


class Dumping:
    """Capability.DUMP of a folder on this machine."""

    forms: Mapping[str, str] = {"lance": ".tar"}
    parts = False
    packed = False

    target: str
    _pinned: Snapshot | None = None

    @abstractmethod
    def _root(self) -> Path:
        """Return the folder."""

    def holds_up(self) -> bool:
        """Nobody waits."""
        return False

    def pin(self) -> None:
        """Hold what there is now: ``dumps.Pins``."""
        self.unpin()
        self._pinned = snapshot.take(self._root(), self.target)

    def unpin(self) -> None:
        """Let go what is held."""
        if self._pinned is not None:
            self._pinned.close()
            self._pinned = None

    def dump_size(self) -> int:
        """Return how many bytes ``dump`` will write, about."""
        if self._pinned is not None:
            return archive.size(self._pinned)
        with snapshot.taken(self._root(), self.target) as found:
            return archive.size(found)

    def dump(
        self, destination: Path, *, form: str = "", tables: Sequence[str] = (), progress: Progress = silent
    ) -> Dumped:
        """Write the archive, and read meanwhile what is in it; raises as ``snapshot.take``."""
        del form, tables  # there is one, of all
        taken = self._pinned or snapshot.take(self._root(), self.target)
        try:
            return _dumped(taken, destination, progress)
        finally:
            taken.close()
            self._pinned = None


class Copier(Dumping):
    """A folder of tables where the package is missing that would read them: its files are copied all the same."""

    capabilities = frozenset({Capability.DUMP})

    def __init__(self, root: Path, target: str) -> None:
        self._path, self.target = root, target

    def _root(self) -> Path:
        return self._path

    def close(self) -> None:
        """Let go what is held."""
        self.unpin()


def _dumped(taken: Snapshot, destination: Path, progress: Progress) -> Dumped:
    whole, done = archive.size(taken), 0
    with signals.held(), new_file(destination) as file, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(verify.of, taken)
        for block in archive.blocks(taken):
            signals.check()
            done += file.write(block)
            progress(min(1.0, done / whole))
        found = reading.result()
    versions = {f"version of {one.name}": str(one.version.number) for one in taken.tables}
    remarks = [*taken.remarks, *([] if verify.is_readable() else [verify.MISSING])]
    facts = {"format": "lance", **versions} | ({"remarks": "; ".join(remarks)} if remarks else {})
    return Dumped(taken_at=taken.taken_at, facts=facts, proof=found, sha256=file.sha256)
