"""A disk that loses, when the power goes, what nobody has synced: any of it, in blocks, and names apart from content."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

BLOCK = 4096  #: bytes that reach the disk together
HEAD = struct.Struct("<cIIqQ")  #: as ``faults.c`` writes it down: what, lengths of two paths, where, length
Keeps = Callable[[], bool]  #: whether one thing that was not synced got there all the same


class File:
    def __init__(self, content: bytes = b"") -> None:
        self.durable, self.live = content, bytearray(content)
        self.unsynced: list[tuple[int, bytes] | int] = []  #: blocks written, or where it was cut off

    def write(self, at: int, data: bytes) -> None:
        self.live[len(self.live) : at] = bytes(max(0, at - len(self.live)))
        self.live[at : at + len(data)] = data
        while data:
            size = BLOCK - at % BLOCK
            self.unsynced.append((at, data[:size]))
            at, data = at + size, data[size:]

    def cut(self, size: int) -> None:
        self.live[size:] = bytes(max(0, size - len(self.live)))
        self.unsynced.append(size)

    def sync(self) -> None:
        self.durable, self.unsynced = bytes(self.live), []

    def after(self, keeps: Keeps) -> bytes:
        found = File(self.durable)
        for one in self.unsynced:
            if keeps():
                found.cut(one) if isinstance(one, int) else found.write(*one)
        return bytes(found.live)


class Folder:
    def __init__(self) -> None:
        self.durable: dict[str, File | Folder] = {}
        self.live: dict[str, File | Folder] = {}
        self.unsynced: list[tuple[str, File | Folder | None]] = []  #: names given, and taken away

    def name(self, name: str, what: File | Folder | None) -> None:
        if what is None:
            self.live.pop(name, None)
        else:
            self.live[name] = what
        self.unsynced.append((name, what))

    def sync(self) -> None:
        self.durable, self.unsynced = dict(self.live), []

    def after(self, keeps: Keeps) -> dict[str, File | Folder]:
        found = dict(self.durable)
        for name, what in self.unsynced:
            if keeps():
                if what is None:
                    found.pop(name, None)
                else:
                    found[name] = what
        return found


class Disk:
    """What is below one folder, as it was before a command and as its calls change it."""

    def __init__(self, top: Path) -> None:
        self._top = str(top)
        self._root = _read(top)

    def _at(self, path: str) -> tuple[Folder, str]:
        folder, names = self._root, path.removeprefix(self._top).strip("/").split("/")
        for name in names[:-1]:
            found = folder.live[name]
            assert isinstance(found, Folder)
            folder = found
        return folder, names[-1]

    def _found(self, path: str) -> File | Folder | None:
        if path.rstrip("/") == self._top:
            return self._root
        folder, name = self._at(path)
        return folder.live.get(name)

    def call(self, what: bytes, path: str, other: str, at: int, data: bytes) -> None:  # noqa: C901
        """Change as one call has changed; what was unlinked before is nobody's any more."""
        if path.endswith(" (deleted)"):
            return
        if what in b"co":
            folder, name = self._at(path)
            if name not in folder.live:
                folder.name(name, File())
            elif what == b"o":
                self._file(path).cut(0)
        elif what == b"w":
            self._file(path).write(at, data)
        elif what == b"t":
            self._file(path).cut(at)
        elif what == b"s":
            found = self._found(path)
            assert found is not None, path
            found.sync()
        elif what == b"d":
            folder, name = self._at(path)
            folder.name(name, Folder())
        elif what == b"u":
            folder, name = self._at(path)
            folder.name(name, None)
        else:
            (folder, name), (there, new) = self._at(path), self._at(other)
            there.name(new, folder.live[name])
            if what == b"r":
                folder.name(name, None)

    def _file(self, path: str) -> File:
        found = self._found(path)
        assert isinstance(found, File), path
        return found

    def after(self, top: Path, keeps: Keeps, names: Keeps | None = None) -> None:
        """Lay out below ``top`` what is there once the power is back.

        ``names``: what is kept of names that were given and taken away, where that is drawn apart from content.
        """
        _lay_out(self._root, top, keeps, names or keeps)


def _read(path: Path) -> Folder:
    made = Folder()
    for one in path.iterdir():
        made.live[one.name] = _read(one) if one.is_dir() else File(one.read_bytes())
    made.durable = dict(made.live)
    return made


def _lay_out(folder: Folder, path: Path, keeps: Keeps, names: Keeps) -> None:
    path.mkdir(mode=0o700)
    for name, what in folder.after(names).items():
        if isinstance(what, Folder):
            _lay_out(what, path / name, keeps, names)
        else:
            (path / name).write_bytes(what.after(keeps))
            (path / name).chmod(0o600)


def calls(record: Path) -> Iterator[tuple[bytes, str, str, int, bytes]]:
    """Yield what was written down, in its order."""
    text, place = record.read_bytes(), 0
    while place < len(text):
        what, one, two, at, size = HEAD.unpack_from(text, place)
        place += HEAD.size
        path, place = text[place : place + one].decode(), place + one
        other, place = text[place : place + two].decode(), place + two
        size = size if what == b"w" else 0
        yield what, path, other, at, text[place : place + size]
        place += size


def keeping(draw: random.Random, share: float) -> Keeps:
    """Return what lets this share of all that was not synced get to the disk."""
    return lambda: draw.random() < share
