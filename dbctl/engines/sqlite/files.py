"""The files of a SQLite database: side files, temporary files, and commits in a ``-wal`` file that SQLite would silently drop.

Also the format of its pages, by https://sqlite.org/fileformat2.html, for those that read them without SQLite.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dbctl import signals
from dbctl.engines.sqlite.errors import get_error_name
from dbctl.errors.usage import NotSupportedError, ValueInvalidError

if TYPE_CHECKING:
    from dbctl.engines.contract.checks import DatabaseFiles


#: Suffixes of the files that SQLite creates next to a database.
SIDE_FILES = ("-wal", "-shm", "-journal")
PARTIAL = ".partial"


def list_partial_files(path: Path) -> list[Path]:
    """Return the unfinished replacements of a database, also of a dbctl that was killed, with their side files."""
    from glob import escape

    return sorted(path.parent.glob(f".{escape(path.name)}.dbctl-*{PARTIAL}*"))


def new_partial_path(path: Path) -> Path:
    """Return a new path next to a database for its unfinished replacement."""
    import secrets

    return path.with_name(f".{path.name}.dbctl-{secrets.token_hex(4)}{PARTIAL}")


def list_files(path: Path) -> list[Path]:
    """Return the existing files with content of a database: the file, its ``-wal`` and its ``-journal``."""
    path = Path(os.path.realpath(path))
    candidates = (Path(f"{path}{suffix}") for suffix in ("", "-wal", "-journal"))
    return [candidate for candidate in candidates if os.path.lexists(candidate)]


def find_files(path: Path) -> DatabaseFiles:
    """Return the files of the database at ``path``, which may be missing."""
    try:
        file = Path(os.path.realpath(path))
    except ValueError:
        raise ValueInvalidError(name="path", value=ascii(str(path)), reason="it contains a NUL") from None
    side_files = [side_file for suffix in SIDE_FILES if os.path.lexists(side_file := Path(f"{file}{suffix}"))]
    wal_bytes = read_wal_size(file)
    from dbctl.engines.contract.checks import DatabaseFiles

    return DatabaseFiles(
        file=file,
        side_files=side_files,
        pending_bytes=wal_bytes,
        has_leftover_changes=bool(wal_bytes) and _is_unused(file),
        checkpoint_command=["sqlite3", str(file), "pragma wal_checkpoint(truncate)"],
        vacuum_command=["sqlite3", str(file), "vacuum"],
    )


def read_wal_size(database: Path) -> int:
    """Return the size of the ``-wal`` in bytes; 0 without one."""
    try:
        return Path(f"{database}-wal").stat().st_size
    except OSError:
        return 0


#: The number of a start of Linux: a crash of the machine may keep the content of a write and lose its time.
BOOT = Path("/proc/sys/kernel/random/boot_id")
#: The age of the last write, in ns, from which each later one has another time: the kernel's clock has ticks, and some file systems store even seconds only.
MIN_AGE_NS = 2_100_000_000


def read_identity(database: Path) -> str:
    """Return a text that differs after any change of the content of a database; empty: there is none now.

    There is none while a ``-journal`` exists, within ``MIN_AGE_NS`` of a write, in a network file system, whose files other machines
    may change, and on systems without ``BOOT``. The database itself is not opened: closing it would drop SQLite's locks.
    """
    from dbctl.files.mounts import read_volume

    latest = time.time_ns() - MIN_AGE_NS
    try:
        status = database.stat()
        times, parts = [status.st_mtime_ns, status.st_ctime_ns], [BOOT.read_text(), *_list_numbers(status)]
        if read_wal_size(database):  # without content, it is the same as none
            with Path(f"{database}-wal").open("rb") as file:
                status = os.fstat(file.fileno())
                header = file.read(WAL_HEADER_BYTES)
                page_size = struct.unpack(">I", header[8:12])[0]
                file.seek(status.st_size - FRAME_BYTES - page_size)
                parts += [header.hex(), file.read(FRAME_BYTES).hex(), *_list_numbers(status)]
            # Its ctime changes whenever root opens the database, because SQLite then sets its owner.
            times.append(status.st_mtime_ns)
        is_changing = max(times) > latest or os.path.lexists(f"{database}-journal")
        if is_changing or read_volume(database).is_network:
            return ""
    except (OSError, struct.error):  # another process is removing or resetting a file
        return ""
    return " ".join([*parts, *map(str, times)])


def _list_numbers(status: os.stat_result) -> list[str]:
    """Return what identifies a file, and its size."""
    return [str(status.st_dev), str(status.st_ino), str(status.st_size)]


def _is_unused(file: Path) -> bool:
    """Whether no process has the file open; False if the system does not report open files."""
    from dbctl.engines.file_locks import list_lock_holders

    try:
        return not list_lock_holders(file)
    except NotSupportedError:
        return False


WAL_HEADER_BYTES, FRAME_BYTES = 32, 24  # bytes
PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
NO_COMMIT = b"\0\0\0\0"  #: in a frame that does not end a commit
MAGIC = 0x377F0682  #: the lowest bit is the byte order of the checksums
Checksum = tuple[int, int]

#: The descriptors that this process has open, on Linux and macOS.
DESCRIPTORS = Path("/dev/fd")
#: The header of a ``-shm``, in native byte order and stored twice: whether it is initialized, and the last frame of a
#: complete commit. The number of frames that were checkpointed follows.
INDEX_HEADER, CHECKPOINTED = struct.Struct("=12xB3xI28x"), struct.Struct("=I")


def count_pending_pages(database: Path) -> int:
    """Return how many pages in the ``-wal`` of an open database have not been checkpointed.

    The number is in the ``-shm``, read through SQLite's descriptor in this process, because closing another descriptor
    would drop SQLite's locks. Without such a descriptor all committed frames of the ``-wal`` are counted, even those
    that were checkpointed.
    """
    try:
        for descriptor in list_descriptors(Path(f"{database}-shm")):
            page_count = _read_pending(os.pread(descriptor, 2 * INDEX_HEADER.size + CHECKPOINTED.size, 0))
            if page_count is not None:
                return page_count
    except OSError:  # no such file, or descriptors cannot be listed
        pass
    return _count_committed_frames(Path(f"{database}-wal"))


def may_reappear(error: BaseException | None, path: Path) -> bool:
    """Whether a failed change is completely in the -wal, although it was not synced to disk.

    While the database is open the change is ignored, and the next change overwrites it. The next process to open the
    database reads every valid frame (https://sqlite.org/wal.html, "Recovery"), and so applies the change. Call this after
    a checkpoint or the last close tried to remove it.
    """
    if not (isinstance(error, sqlite3.Error) and get_error_name(error) == "SQLITE_IOERR_FSYNC"):
        return False
    return _count_committed_frames(Path(f"{path}-wal")) > 0


def list_descriptors(path: Path) -> Iterator[int]:
    """Yield the descriptors of this process for a file; closing a new one would drop SQLite's locks on the file.

    Raises:
        OSError: no such file, or descriptors cannot be listed.
    """
    target = path.stat()
    for descriptor in [int(listed.name) for listed in DESCRIPTORS.iterdir()]:
        with suppress(OSError):  # closed since then, such as the descriptor of the listing itself
            if os.path.samestat(os.fstat(descriptor), target):
                yield descriptor


def _read_pending(index: bytes) -> int | None:
    """Return the number of pages from the header of a ``-shm``; None while another process writes it."""
    size = INDEX_HEADER.size
    first_copy, second_copy, checkpointed = index[:size], index[size : 2 * size], index[2 * size :]
    if first_copy != second_copy or len(checkpointed) != CHECKPOINTED.size:
        return None
    is_complete, last_frame = INDEX_HEADER.unpack(first_copy)
    return max(0, last_frame - CHECKPOINTED.unpack(checkpointed)[0]) if is_complete else None


def _count_committed_frames(path: Path) -> int:
    """Return the number of frames up to the last commit, by their headers only."""
    last_committed = 0
    with suppress(FileNotFoundError), path.open("rb") as file:
        header = file.read(WAL_HEADER_BYTES)
        for frame, (head, _) in enumerate(_read_frames(file, header), 1):
            if head[8:16] != header[16:24]:  # from before the last reset of the -wal
                break
            if head[4:8] != NO_COMMIT:
                last_committed = frame
    return last_committed


def count_lost_commits(path: Path) -> int:
    """Return the number of commits after the first damaged frame, which SQLite drops without an error.

    Frames from before the last reset and an incomplete commit at the end are normal. The result is 0 if the file is
    reset while it is read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(WAL_HEADER_BYTES)
            lost = sum(
                not is_valid and head[8:16] == header[16:24] and head[4:8] != NO_COMMIT
                for head, is_valid in verify_frames(file, header)
            )
            file.seek(0)
            return lost if file.read(WAL_HEADER_BYTES) == header else 0
    except FileNotFoundError:
        return 0


def verify_frames(file: BinaryIO, header: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the header of each frame, and whether it and all earlier frames are current and have valid checksums."""
    if len(header) < WAL_HEADER_BYTES:
        return
    order = ">" if header[3] & 1 else "<"
    checksum = _add_checksum((0, 0), header[:24], order)
    has_magic = struct.unpack(">I", header[:4])[0] & ~1 == MAGIC
    is_valid = has_magic and checksum == struct.unpack(">2I", header[24:])
    for head, page in _read_frames(file, header):
        is_valid = is_valid and head[8:16] == header[16:24]
        if is_valid:
            checksum = _add_checksum(_add_checksum(checksum, head[:8], order), page, order)
            is_valid = checksum == struct.unpack(">2I", head[16:])
        yield head, is_valid


def _read_frames(file: BinaryIO, header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the header and the page of each frame; none if the header is incomplete, or has no page size."""
    page_size = struct.unpack(">I", header[8:12])[0] if len(header) == WAL_HEADER_BYTES else 0
    while page_size in PAGE_SIZES:
        signals.raise_if_interrupted()
        frame = file.read(FRAME_BYTES + page_size)
        if len(frame) < FRAME_BYTES + page_size:
            return
        yield frame[:FRAME_BYTES], frame[FRAME_BYTES:]


def _add_checksum(checksum: Checksum, data: bytes, order: str) -> Checksum:
    first, second = checksum
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


HEADER_BYTES = 100  # bytes, before the tree on page 1
LEAF, INTERIOR, INDEX_LEAF, INDEX_INTERIOR = 13, 5, 10, 2
KINDS = frozenset({LEAF, INTERIOR, INDEX_LEAF, INDEX_INTERIOR})
#: Size of the header of a tree page in bytes.
HEADER_SIZES = {LEAF: 8, INDEX_LEAF: 8, INTERIOR: 12, INDEX_INTERIOR: 12}
#: The byte that SQLite locks; its page has no content.
LOCK_BYTE = 1 << 30
#: Maximum size of a varint.
MAX_VARINT_BYTES = 9


def read_page_size(head: bytes) -> int:
    """Return the page size in the header of a file, in bytes."""
    size = int.from_bytes(head[16:18], "big")
    return 65536 if size == 1 else size


def find_header(page_number: int) -> int:
    """Return the offset of the header of a tree page."""
    return HEADER_BYTES if page_number == 1 else 0


def read_number(page: bytes, offset: int) -> int:
    """Return a number of four bytes, for example that of a page."""
    return int.from_bytes(page[offset : offset + 4], "big")


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return the signed number at ``offset``, and the offset after it.

    Raises:
        IndexError: the number is incomplete.
    """
    byte = data[offset]
    if byte < 0x80:  # noqa: PLR2004 - the continuation bit
        return byte, offset + 1
    value = byte & 0x7F
    for index in range(1, MAX_VARINT_BYTES - 1):
        byte = data[offset + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, offset + index + 1
    value = value << 8 | data[offset + MAX_VARINT_BYTES - 1]
    return value - (1 << 64) if value >> 63 else value, offset + MAX_VARINT_BYTES


def count_local_bytes(length: int, usable: int, *, index: bool) -> int:
    """Return how many of ``length`` bytes of a value are on the page of the tree; the others are on overflow pages.

    A page has ``usable`` bytes; ``index``: it belongs to an index, or to a table without rowids.
    """
    most = (usable - 12) * 64 // 255 - 23 if index else usable - 35
    if length <= most:
        return length
    least = (usable - 12) * 32 // 255 - 23
    local = least + (length - least) % (usable - 4)
    return local if local <= most else least
