"""A simulated disk that loses unsynced data on power failure: any blocks, and names separately from content."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

BLOCK = 4096  #: bytes that are written atomically
RECORD_HEADER = struct.Struct(
    "<cIIqQ"
)  #: the record of ``faults.c``: operation, lengths of two paths, offset, length
KeepDecision = Callable[[], bool]  #: whether one unsynced change is kept


class File:
    def __init__(self, content: bytes = b"") -> None:
        self.durable, self.live = content, bytearray(content)
        self.unsynced: list[tuple[int, bytes] | int] = []  #: written blocks, or the new size of a truncation

    def write(self, position: int, data: bytes) -> None:
        self.live[len(self.live) : position] = bytes(max(0, position - len(self.live)))
        self.live[position : position + len(data)] = data
        while data:
            size = BLOCK - position % BLOCK
            self.unsynced.append((position, data[:size]))
            position, data = position + size, data[size:]

    def truncate(self, size: int) -> None:
        self.live[size:] = bytes(max(0, size - len(self.live)))
        self.unsynced.append(size)

    def sync(self) -> None:
        self.durable, self.unsynced = bytes(self.live), []

    def after_power_loss(self, survives: KeepDecision) -> bytes:
        replayed = File(self.durable)
        for change in self.unsynced:
            if survives():
                replayed.truncate(change) if isinstance(change, int) else replayed.write(*change)
        return bytes(replayed.live)


class Folder:
    def __init__(self) -> None:
        self.durable: dict[str, File | Folder] = {}
        self.live: dict[str, File | Folder] = {}
        self.unsynced: list[tuple[str, File | Folder | None]] = []  #: added and removed names

    def name(self, name: str, entry: File | Folder | None) -> None:
        if entry is None:
            self.live.pop(name, None)
        else:
            self.live[name] = entry
        self.unsynced.append((name, entry))

    def sync(self) -> None:
        self.durable, self.unsynced = dict(self.live), []

    def after_power_loss(self, survives: KeepDecision) -> dict[str, File | Folder]:
        entries = dict(self.durable)
        for name, entry in self.unsynced:
            if survives():
                if entry is None:
                    entries.pop(name, None)
                else:
                    entries[name] = entry
        return entries


class Disk:
    """The content of one folder before a command, and as the command's calls change it."""

    def __init__(self, top: Path) -> None:
        self._top = str(top)
        self._root = _read_folder(top)

    def _resolve(self, path: str) -> tuple[Folder, str]:
        folder, names = self._root, path.removeprefix(self._top).strip("/").split("/")
        for name in names[:-1]:
            child = folder.live[name]
            assert isinstance(child, Folder)
            folder = child
        return folder, names[-1]

    def _find(self, path: str) -> File | Folder | None:
        if path.rstrip("/") == self._top:
            return self._root
        folder, name = self._resolve(path)
        return folder.live.get(name)

    def apply_call(self, operation: bytes, path: str, other: str, position: int, data: bytes) -> None:  # noqa: C901
        """Apply one call; changes of unlinked files are ignored."""
        if path.endswith(" (deleted)"):
            return
        if operation in b"co":
            folder, name = self._resolve(path)
            if name not in folder.live:
                folder.name(name, File())
            elif operation == b"o":
                self._file(path).truncate(0)
        elif operation == b"w":
            self._file(path).write(position, data)
        elif operation == b"t":
            self._file(path).truncate(position)
        elif operation == b"s":
            entry = self._find(path)
            assert entry is not None, path
            entry.sync()
        elif operation == b"d":
            folder, name = self._resolve(path)
            folder.name(name, Folder())
        elif operation == b"u":
            folder, name = self._resolve(path)
            folder.name(name, None)
        else:
            (folder, name), (other_folder, other_name) = self._resolve(path), self._resolve(other)
            other_folder.name(other_name, folder.live[name])
            if operation == b"r":
                folder.name(name, None)

    def _file(self, path: str) -> File:
        entry = self._find(path)
        assert isinstance(entry, File), path
        return entry

    def write_after_power_loss(
        self, top: Path, survives: KeepDecision, name_survives: KeepDecision | None = None
    ) -> None:
        """Write the content after a power failure below ``top``.

        ``name_survives``: decides about names, if separately from content.
        """
        _write_folder(self._root, top, survives, name_survives or survives)


def _read_folder(path: Path) -> Folder:
    folder = Folder()
    for child in path.iterdir():
        folder.live[child.name] = _read_folder(child) if child.is_dir() else File(child.read_bytes())
    folder.durable = dict(folder.live)
    return folder


def _write_folder(folder: Folder, path: Path, survives: KeepDecision, name_survives: KeepDecision) -> None:
    path.mkdir(mode=0o700)
    for name, entry in folder.after_power_loss(name_survives).items():
        if isinstance(entry, Folder):
            _write_folder(entry, path / name, survives, name_survives)
        else:
            (path / name).write_bytes(entry.after_power_loss(survives))
            (path / name).chmod(0o600)


def read_calls(record: Path) -> Iterator[tuple[bytes, str, str, int, bytes]]:
    """Yield the recorded calls in order."""
    record_bytes, position = record.read_bytes(), 0
    while position < len(record_bytes):
        operation, path_length, other_length, offset, size = RECORD_HEADER.unpack_from(record_bytes, position)
        position += RECORD_HEADER.size
        path, position = record_bytes[position : position + path_length].decode(), position + path_length
        other, position = record_bytes[position : position + other_length].decode(), position + other_length
        size = size if operation == b"w" else 0
        yield operation, path, other, offset, record_bytes[position : position + size]
        position += size


def keep_share(rng: random.Random, share: float) -> KeepDecision:
    """Return a decision that keeps this share of unsynced changes."""
    return lambda: rng.random() < share
