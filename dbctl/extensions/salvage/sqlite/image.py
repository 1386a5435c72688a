"""A private copy of a damaged SQLite file, which is read page by page."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from dbctl import signals
from dbctl.engines.sqlite import files
from dbctl.engines.sqlite.checks import MAX_LINES, split_reports
from dbctl.engines.sqlite.connection import connect
from dbctl.engines.sqlite.errors import NOT_UTF8, ErrorContext, get_error_name, translate_create_error
from dbctl.engines.sqlite.files import (
    HEADER_BYTES,
    HEADER_SIZES,
    KINDS,
    LOCK_BYTE,
    read_number,
    read_page_size,
)
from dbctl.errors.connection import BusyError, report_file_errors
from dbctl.files import atomic
from dbctl.model import Struct

MAGIC = b"SQLite format 3\0"
ENCODINGS = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}
#: Errors of a damaged file, as opposed to an inaccessible one.
DAMAGE_ERRORS = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_FORMAT")


class CopyResult(Struct, frozen=True, kw_only=True):
    """The result of copying the files of a database into one."""

    lost_commits: int  #: commits after a damaged frame of the -wal
    wal: bool  #: whether the database is in WAL mode


def copy_files(source: Path, copy: Path, target: str) -> CopyResult:
    """Copy a database and its side files into one file, as SQLite would read them.

    Raises:
        BusyError: another process wrote to the database during the copy.
        OSError: a file cannot be read or written.
    """
    paths = [Path(f"{source}{suffix}") for suffix in ("", "-wal", "-journal")]
    initial_states = [_read_state(path) for path in paths]
    atomic.copy_file(source, copy)
    lost_commits, is_wal = 0, False
    if initial_states[1] is not None:
        wal_copy = Path(f"{copy}-wal")
        atomic.copy_file(paths[1], wal_copy)
        lost_commits = _apply_wal(wal_copy, copy)
        wal_copy.unlink()
    if initial_states[2] is not None:
        atomic.copy_file(paths[2], Path(f"{copy}-journal"))
    if [_read_state(path) for path in paths] != initial_states:
        raise BusyError(target=target, holder=" by a program that writes it: stop the app", waited="0")
    with copy.open("r+b") as file:
        if file.read(len(MAGIC)) == MAGIC:
            file.seek(18)
            is_wal = file.read(2) == b"\2\2"
            if is_wal:  # otherwise SQLite would require a -wal for the copy
                file.seek(18)
                file.write(b"\1\1")
    return CopyResult(lost_commits=lost_commits, wal=is_wal)


def _read_state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _apply_wal(wal_copy: Path, copy: Path) -> int:
    """Write the complete commits of a -wal, up to its first damaged frame, into the copy; return the number of lost commits."""
    offsets, pending, page_count, lost_commits = dict[int, int](), dict[int, int](), 0, 0
    with wal_copy.open("rb") as wal, copy.open("r+b") as file:
        header = wal.read(files.WAL_HEADER_BYTES)
        page_size = int.from_bytes(header[8:12], "big")
        for index, (head, is_valid) in enumerate(files.verify_frames(wal, header)):
            page, committed_pages = struct.unpack(">2I", head[:8])
            if not is_valid:
                lost_commits += bool(committed_pages) and head[8:16] == header[16:24]
                continue
            pending[page] = (
                files.WAL_HEADER_BYTES + index * (files.FRAME_BYTES + page_size) + files.FRAME_BYTES
            )
            if committed_pages:
                offsets |= pending
                pending, page_count = {}, committed_pages
        for page, offset in sorted(offsets.items()):
            signals.raise_if_interrupted()
            wal.seek(offset)
            file.seek((page - 1) * page_size)
            file.write(wal.read(page_size))
        if page_count:
            file.truncate(page_count * page_size)
    return lost_commits


def check_copy(copy: Path, target: str) -> Sequence[str]:
    """Return the damage that SQLite reports for the copy, after rolling back an interrupted write.

    Raises:
        DiskFullError, FileFailedError: the check cannot run.
    """
    try:
        with closing(connect(copy, "mode=rw")) as db:
            db.set_progress_handler(lambda: signals.received_signal() is not None, 20_000)
            return split_reports(str(row[0]) for row in db.execute(f"pragma integrity_check({MAX_LINES})"))
    except UnicodeDecodeError:
        return [NOT_UTF8]
    except sqlite3.Error as error:
        signals.raise_if_interrupted()
        if not get_error_name(error).startswith(DAMAGE_ERRORS):
            raise translate_create_error(error, ErrorContext(target=target, path=copy)) from error
        return [str(error)]
    finally:
        for suffix in ("-journal", "-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)


class Image:
    """The pages of a copy, which no connection may have open."""

    def __init__(self, path: Path, *, page_size: int = 0) -> None:
        """Open a copy; the caller closes it. ``page_size`` is for a file without a valid header, in bytes; 0: guess it.

        Raises:
            FileFailedError: the copy cannot be read.
        """
        with report_file_errors(path):
            self._file: BinaryIO = path.open("rb")
            self.size = os.fstat(self._file.fileno()).st_size
        head = self._file.read(HEADER_BYTES).ljust(HEADER_BYTES, b"\0")
        #: Whether page 1 begins with a valid header, so that its fields can be used.
        self.has_header = head.startswith(MAGIC) and read_page_size(head) in files.PAGE_SIZES
        #: Whether the page size in the header contradicts the length and the pages of the file.
        self.has_wrong_page_size = False
        self.page_size = (
            self._choose_page_size(head) if self.has_header else page_size or self._guess_page_size()
        )
        fields = head if self.has_header else bytes(HEADER_BYTES)
        self.usable = self.page_size - fields[20]
        # If these fields differ, an old version of SQLite wrote the header, and the page count is invalid.
        declared_pages = read_number(fields, 28) if fields[24:28] == fields[92:96] else 0
        self.present_pages = -(-self.size // self.page_size)
        self.missing_pages = max(0, declared_pages - self.present_pages)
        self.total_pages = max(declared_pages, self.present_pages)
        self.encoding = ENCODINGS.get(read_number(fields, 56), "utf-8")
        self.first_free_page, self.free_page_count = read_number(fields, 32), read_number(fields, 36)
        self.auto_vacuum = (2 if read_number(fields, 64) else 1) if read_number(fields, 52) else 0
        self.pragmas = {
            name: int.from_bytes(fields[offset : offset + 4], "big", signed=True)
            for name, offset in (("user_version", 60), ("application_id", 68))
        }

    def close(self) -> None:
        self._file.close()

    def read_page(self, page_number: int) -> bytes:
        """Return a page; empty if it is missing or incomplete."""
        if not 0 < page_number <= self.present_pages:
            return b""
        self._file.seek((page_number - 1) * self.page_size)
        page = self._file.read(self.page_size)
        return page if len(page) == self.page_size else b""

    def read_freelist(self) -> tuple[set[int], bool]:
        """Return the free pages, and whether the list is complete."""
        pages, trunk = set[int](), self.first_free_page
        while trunk and trunk not in pages:
            signals.raise_if_interrupted()
            page = self.read_page(trunk)
            leaves = read_number(page, 4)
            if not page or leaves > self.usable // 4 - 2:
                return pages, False
            pages.add(trunk)
            pages.update(struct.unpack(f">{leaves}I", page[8 : 8 + 4 * leaves]))
            trunk = read_number(page, 0)
        return pages, self.has_header and len(pages) == self.free_page_count

    def is_reserved(self, page_number: int) -> bool:
        """Whether a page is a pointer map or the lock-byte page."""
        if page_number == LOCK_BYTE // self.page_size + 1:
            return True
        return bool(self.auto_vacuum) and (page_number - 2) % (self.usable // 5 + 1) == 0

    def _choose_page_size(self, head: bytes) -> int:
        """Return the page size of the header, or a guess if the file contradicts the header."""
        size, pages = read_page_size(head), read_number(head, 28)
        if pages * size == self.size:
            return size
        guess = self._guess_page_size()
        guess_count, header_count = (sum(self._test_tree_pages(candidate)) for candidate in (guess, size))
        # Half of the offsets of smaller pages are also offsets of larger pages.
        self.has_wrong_page_size = (
            guess_count > header_count if guess > size else 2 * guess_count > 3 * header_count
        )
        return guess if self.has_wrong_page_size else size

    def _guess_page_size(self) -> int:
        """Return the page size with which most pages look like tree pages."""
        return max(sorted(files.PAGE_SIZES), key=lambda size: sum(self._test_tree_pages(size)))

    def _test_tree_pages(self, size: int) -> Iterator[bool]:
        for offset in range(size, self.size, size):
            signals.raise_if_interrupted()
            self._file.seek(offset)
            head = self._file.read(12)
            kind, cells, start = head[:1], int.from_bytes(head[3:5], "big"), int.from_bytes(head[5:7], "big")
            yield (
                bool(kind)
                and kind[0] in KINDS
                and 0 < cells <= size // 4
                and HEADER_SIZES[kind[0]] + 2 * cells <= start < size
            )
