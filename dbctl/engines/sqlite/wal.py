"""What stands in a ``-wal`` file: what waits there for a checkpoint, and what SQLite would silently leave out."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dbctl import signals
from dbctl.engines.sqlite.errors import name_of

HEADER, FRAME = 32, 24  # bytes
PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
MAGIC = 0x377F0682  #: its lowest bit says in which order of bytes sums are made
Sums = tuple[int, int]

#: The descriptors that this process has open, on Linux and macOS.
DESCRIPTORS = Path("/dev/fd")
#: What SQLite keeps at the beginning of a ``-shm``, in the machine's own order of bytes, twice: whether it is complete,
#: and the last frame of a whole commit. Behind both stands how many frames a checkpoint has moved already.
INDEX, MOVED = struct.Struct("=12xB3xI28x"), struct.Struct("=I")


def waiting(database: Path) -> int:
    """Return how many pages stand in the ``-wal`` beside an open database that no checkpoint has moved into it yet.

    The ``-shm`` tells, and it is read through the descriptor that SQLite has of it in this process: to open and close
    it would drop SQLite's locks on it. Where that is not to be had, all that was committed since the ``-wal`` was begun
    counts, which a checkpoint may have moved in part.
    """
    try:
        for descriptor in descriptors(Path(f"{database}-shm")):
            found = _waiting(os.pread(descriptor, 2 * INDEX.size + MOVED.size, 0))
            if found is not None:
                return found
    except OSError:  # no such file, or nothing that lists descriptors
        pass
    return _committed(Path(f"{database}-wal"))


def may_come_back(error: BaseException | None, path: Path) -> bool:
    """Whether a change that failed stands in the -wal whole, though the disk did not confirm it.

    As long as somebody has the database open it counts for nothing, and the next change is written over it. Who opens it
    after them reads every frame that is sound (https://sqlite.org/wal.html, "Recovery"), and so takes it for done. Asked
    once a connection has tried to be rid of it, by a checkpoint or as the last that closes.
    """
    if not (isinstance(error, sqlite3.Error) and name_of(error) == "SQLITE_IOERR_FSYNC"):
        return False
    return _committed(Path(f"{path}-wal")) > 0


def descriptors(path: Path) -> Iterator[int]:
    """Yield those that this process has of a file: to open it anew, and close it, would drop SQLite's locks on it.

    Raises:
        OSError: there is no such file, or nothing that lists descriptors.
    """
    wanted = path.stat()
    for descriptor in [int(listed.name) for listed in DESCRIPTORS.iterdir()]:
        if _is_open_as(descriptor, wanted):
            yield descriptor


def _is_open_as(descriptor: int, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), wanted)
    except OSError:  # closed meanwhile, like the one that listed them
        return False


def _waiting(index: bytes) -> int | None:
    """Return what the index of a ``-wal`` tells; None while somebody is writing it."""
    once, again, moved = index[: INDEX.size], index[INDEX.size : 2 * INDEX.size], index[2 * INDEX.size :]
    if once != again or len(moved) != MOVED.size:
        return None
    complete, last = INDEX.unpack(once)
    return max(0, last - MOVED.unpack(moved)[0]) if complete else None


def _committed(path: Path) -> int:
    """Return how many frames stand before the end of the last commit, by what their heads say."""
    last = 0
    try:
        with path.open("rb") as file:
            header = file.read(HEADER)
            if len(header) < HEADER:
                return 0
            size = struct.unpack(">I", header[8:12])[0]
            if size not in PAGE_SIZES:
                return 0  # nothing tells where its frames begin
            for number, (head, _) in enumerate(_frames(file, size), 1):
                if head[8:16] != header[16:24]:  # of an earlier round
                    break
                if head[4:8] != b"\0\0\0\0":
                    last = number
    except FileNotFoundError:
        pass
    return last


def lost_commits(path: Path) -> int:
    """Return how many commits stand behind the first damaged frame; SQLite drops them and says nothing.

    Frames of an earlier round behind the live ones are normal, and so is half a commit at the end. A file that is
    begun anew while it is read tells nothing.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER)
            lost = _lost(file, header) if len(header) == HEADER else 0
            file.seek(0)
            return lost if file.read(HEADER) == header else 0
    except FileNotFoundError:
        return 0


def _lost(file: BinaryIO, header: bytes) -> int:
    salts = header[16:24]
    return sum(
        not sound and head[8:16] == salts and head[4:8] != b"\0\0\0\0"
        for head, sound in _summed_up(file, header)
    )


def _summed_up(file: BinaryIO, header: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the head of each frame, and whether it and all before it are of this round and as they were written."""
    magic, _version, size = struct.unpack(">3I", header[:12])
    order = ">" if magic & 1 else "<"
    sums = _summed((0, 0), header[:24], order)
    sound = magic & ~1 == MAGIC and sums == struct.unpack(">2I", header[24:])
    if size not in PAGE_SIZES:
        return  # nothing tells where its frames begin
    salts = header[16:24]
    for head, page in _frames(file, size):
        if sound and head[8:16] == salts:
            sums = _summed(_summed(sums, head[:8], order), page, order)
            sound = sums == struct.unpack(">2I", head[16:])
        else:
            sound = False
        yield head, sound


class Committed(NamedTuple):
    """What counts of a ``-wal``: whole commits, up to the first damaged frame."""

    page_size: int
    pages: int  #: of the database after the last of them; 0: there is none
    offsets: Mapping[int, int]  #: where the content of each page stands in the file
    lost: int  #: commits behind the first damaged frame


def committed(path: Path) -> Committed:
    """Return what SQLite would read of a ``-wal`` that nobody writes meanwhile.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(HEADER)
        if len(header) < HEADER:
            return Committed(0, 0, {}, 0)
        size = struct.unpack(">I", header[8:12])[0]
        whole, pending, pages = dict[int, int](), dict[int, int](), 0
        for number, (head, sound) in enumerate(_summed_up(file, header)):
            if not sound:
                break
            page, after = struct.unpack(">2I", head[:8])
            pending[page] = HEADER + number * (FRAME + size) + FRAME
            if after:
                whole |= pending
                pending, pages = {}, after
        file.seek(HEADER)
        return Committed(size, pages, whole, _lost(file, header))


def _frames(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bytes]]:
    while True:
        signals.check()
        frame = file.read(FRAME + size)
        if len(frame) < FRAME + size:
            return
        yield frame[:FRAME], frame[FRAME:]


def _summed(sums: Sums, data: bytes, order: str) -> Sums:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
