"""A private copy of a damaged SQLite file: made without a change to the file, and read page by page."""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from dbctl import signals
from dbctl.engines.sqlite import wal
from dbctl.engines.sqlite.checks import INDEX, MOST_LINES
from dbctl.engines.sqlite.errors import Place, name_of, unmade
from dbctl.engines.sqlite.files import quoted
from dbctl.errors import BusyError, FileFailedError
from dbctl.files import atomic
from dbctl.model import Value

MAGIC = b"SQLite format 3\0"
HEADER = 100  # bytes, before the tree on page 1
LEAF, INTERIOR, INDEX_LEAF, INDEX_INTERIOR = 13, 5, 10, 2
KINDS = frozenset({LEAF, INTERIOR, INDEX_LEAF, INDEX_INTERIOR})
ENCODINGS = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}
#: Bytes of the head of a tree's page, and of the children's numbers in front of its cells.
HEADS = {LEAF: 8, INDEX_LEAF: 8, INTERIOR: 12, INDEX_INTERIOR: 12}
#: The byte at which SQLite locks; the page around it holds nothing.
LOCK_BYTE = 1 << 30
#: Failures that say that a file is damaged, and not that it cannot be got at.
DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_FORMAT")


class Taken(Value, frozen=True, kw_only=True):
    """What became of the files when they were copied into one."""

    lost_commits: int  #: that stand in the -wal behind a damaged frame
    wal: bool  #: whether the database is in WAL mode


def take(source: Path, copy: Path, target: str) -> Taken:
    """Copy a database with what stands beside it into one file, as SQLite would read it; nobody may write meanwhile.

    Raises:
        BusyError: somebody did.
        OSError: a file cannot be read or written.
    """
    files = [Path(f"{source}{suffix}") for suffix in ("", "-wal", "-journal")]
    before = _states(files)
    atomic.copied(source, copy)
    lost, is_wal = 0, False
    if before[1] is not None:
        beside = Path(f"{copy}-wal")
        atomic.copied(files[1], beside)
        lost = _fold(beside, copy)
        beside.unlink()
    if before[2] is not None:
        atomic.copied(files[2], Path(f"{copy}-journal"))
    if _states(files) != before:
        raise BusyError(target=target, holder=" by a program that writes it: stop the app", waited="0")
    with copy.open("r+b") as file:
        if file.read(len(MAGIC)) == MAGIC:
            file.seek(18)
            is_wal = file.read(2) == b"\2\2"
            if is_wal:  # else SQLite would want a -wal of the copy's own
                file.seek(18)
                file.write(b"\1\1")
    return Taken(lost_commits=lost, wal=is_wal)


def _states(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    found = list[tuple[int, int] | None]()
    for one in files:
        try:
            told = one.stat()
            found.append((told.st_size, told.st_mtime_ns))
        except FileNotFoundError:
            found.append(None)
    return found


def _fold(beside: Path, copy: Path) -> int:
    """Write what was committed in a -wal into the copy; return how many commits of it are lost."""
    found = wal.committed(beside)
    with beside.open("rb") as read, copy.open("r+b") as file:
        for page, at in sorted(found.offsets.items()):
            signals.check()
            read.seek(at)
            file.seek((page - 1) * found.page_size)
            file.write(read.read(found.page_size))
        if found.pages:
            file.truncate(found.pages * found.page_size)
    return found.lost


def damage(copy: Path, target: str) -> Sequence[str]:
    """Return what SQLite says of the copy; a write that was cut off is rolled back in it first.

    Raises:
        DiskFullError, FileFailedError: it cannot be asked.
    """
    try:
        with closing(sqlite3.connect(f"file://{quoted(copy)}?mode=rw", uri=True, isolation_level=None)) as db:
            db.set_progress_handler(lambda: signals.received() is not None, 20_000)
            told = [str(row[0]) for row in db.execute(f"pragma integrity_check({MOST_LINES})")]
            lines = [
                line for text in told for line in ([text] if re.match(INDEX, text) else text.splitlines())
            ]
            return [line for line in lines if line != "ok" and not line.startswith("*** in database")]
    except sqlite3.Error as error:
        signals.check()
        if not name_of(error).startswith(DAMAGE):
            raise unmade(error, Place(target=target, path=copy, timeout=0, reading=False)) from error
        return [str(error)]
    finally:
        for suffix in ("-journal", "-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)


class Image:
    """The pages of a copy that no connection has open."""

    def __init__(self, path: Path, *, page_size: int = 0) -> None:
        """Open it; whoever did closes it.

        Args:
            path: the copy.
            page_size: bytes, where the file does not tell any more; 0: that is found out.

        Raises:
            FileFailedError: it cannot be read.
        """
        try:
            self._file: BinaryIO = path.open("rb")
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise FileFailedError(path=path, reason=error.strerror or str(error)) from error
        head = self._file.read(HEADER).ljust(HEADER, b"\0")
        #: Whether page 1 begins as it must, so that its other facts count.
        self.headed = head.startswith(MAGIC) and _page_size(head) in wal.PAGE_SIZES
        #: Whether the page size of the header contradicts the length and the pages of the file.
        self.resized = False
        self.page_size = self._size_of(head) if self.headed else page_size or self._likely_size()
        reserved = head[20] if self.headed else 0
        self.usable = self.page_size - reserved
        told = (
            struct.unpack(">I", head[28:32])[0] if self.headed and head[24:28] == head[92:96] else 0
        )  # else an old program wrote it, and the number does not count
        self.there = -(-self.size // self.page_size)
        self.missing = max(0, told - self.there)
        self.pages = max(told, self.there)
        self.encoding = ENCODINGS.get(self._number(head, 56), "utf-8")
        self.free, self.free_pages = self._number(head, 32), self._number(head, 36)
        self.auto_vacuum = (2 if self._number(head, 64) else 1) if self._number(head, 52) else 0
        self.facts = {
            "user_version": struct.unpack(">i", head[60:64])[0] if self.headed else 0,
            "application_id": struct.unpack(">i", head[68:72])[0] if self.headed else 0,
        }

    def _number(self, head: bytes, at: int) -> int:
        return int.from_bytes(head[at : at + 4], "big") if self.headed else 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def page(self, number: int) -> bytes:
        """Return a page; empty where the file has none, or not all of it."""
        if not 0 < number <= self.there:
            return b""
        self._file.seek((number - 1) * self.page_size)
        found = self._file.read(self.page_size)
        return found if len(found) == self.page_size else b""

    def freelist(self) -> tuple[set[int], bool]:
        """Return the pages that hold nothing any more, and whether these are all of them."""
        found, trunk = set[int](), self.free
        while trunk and trunk not in found:
            signals.check()
            page = self.page(trunk)
            leaves = int.from_bytes(page[4:8], "big")
            if not page or leaves > self.usable // 4 - 2:
                return found, False
            found.add(trunk)
            found.update(struct.unpack(f">{leaves}I", page[8 : 8 + 4 * leaves]))
            trunk = int.from_bytes(page[:4], "big")
        return found, self.headed and len(found) == self.free_pages

    def holds_no_tree(self, number: int) -> bool:
        """Whether a page is one by which SQLite finds others, or at which it locks."""
        if number == LOCK_BYTE // self.page_size + 1:
            return True
        return bool(self.auto_vacuum) and (number - 2) % (self.usable // 5 + 1) == 0

    def _size_of(self, head: bytes) -> int:
        """Return the page size of the header, or another one where the header's is contradicted."""
        size, pages = _page_size(head), int.from_bytes(head[28:32], "big")
        if pages * size == self.size:
            return size
        likely = self._likely_size()
        at_likely, at_size = (sum(self._begin_well(each)) for each in (likely, size))
        # Half of the places where smaller pages begin are also those of larger ones.
        self.resized = at_likely > at_size if likely > size else 2 * at_likely > 3 * at_size
        return likely if self.resized else size

    def _likely_size(self) -> int:
        """Return the size at which most pages begin as those of trees do."""
        return max(sorted(wal.PAGE_SIZES), key=lambda size: sum(self._begin_well(size)))

    def _begin_well(self, size: int) -> Iterator[bool]:
        for at in range(size, self.size, size):
            signals.check()
            self._file.seek(at)
            head = self._file.read(12)
            kind, cells, start = head[:1], int.from_bytes(head[3:5], "big"), int.from_bytes(head[5:7], "big")
            yield (
                bool(kind)
                and kind[0] in KINDS
                and 0 < cells <= size // 4
                and HEADS[kind[0]] + 2 * cells <= start < size
            )


def _page_size(head: bytes) -> int:
    size = int.from_bytes(head[16:18], "big")
    return 65536 if size == 1 else size
