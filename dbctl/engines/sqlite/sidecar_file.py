"""The file of a search index that stands beside a SQLite file: where it is, and whether it can be trusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from zlib import crc32

from dbctl.model import Value

SUFFIX = ".dbctl-search-{name}"
MAGIC, HEADER = b"SQLite format 3\0", 100


class Seen(Value, frozen=True):
    """A file as it was looked at, before it is opened."""

    reason: str  #: why it cannot be trusted; empty: it can
    identity: tuple[int, ...]  #: device, inode, size, time
    bytes: int
    modified_ns: int


def place(database: Path, folder: Path | None, name: str) -> Path:
    """Return where the file of an index of ``database`` is: in ``folder``, None: beside it."""
    suffix = SUFFIX.format(name="".join(one if _is_safe(one) else f"%{ord(one):x}" for one in name))
    if folder is None:
        return database.with_name(database.name + suffix)
    return folder / f"{database.name}-{crc32(os.fsencode(database)):08x}{suffix}"


def _is_safe(letter: str) -> bool:
    """Whether any disk takes a letter of the name of a search in the name of a file."""
    return letter.isascii() and (letter.isalnum() or letter in "_-")


def seen(path: Path, owner: int) -> Seen | None:
    """Look at a file without opening it for SQLite; None: there is none.

    Args:
        path: the file.
        owner: whose the database is; what belongs to anybody but them, root and this user is not trusted.
    """
    try:
        found = path.lstat()
        reason = _distrust(path, found, owner)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Seen(error.strerror or str(error), (), 0, 0)
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return Seen(reason, identity, found.st_size, found.st_mtime_ns)


def _distrust(path: Path, found: os.stat_result, owner: int) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is a symbolic link" if stat.S_ISLNK(found.st_mode) else "it is no regular file"
    if found.st_uid not in {0, os.geteuid(), owner}:
        return f"it belongs to the user {found.st_uid}, who is neither this one nor the database's"
    if stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        return "others than its owner may write it"
    if found.st_nlink != 1:
        return "it has a second hard link"
    return _damage(path, found.st_size)


def _damage(path: Path, bytes_: int) -> str:
    """Return why the file cannot be one that SQLite closed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        header = file.read(HEADER)
    if len(header) < HEADER or not header.startswith(MAGIC):
        return "it is no SQLite file"
    size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    if bytes_ != pages * (1 << 16 if size == 1 else size):
        return "it was cut short, or something was written behind its end"
    return ""
