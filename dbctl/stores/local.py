"""Local checks of stores: free space, private folders, and the translation of disk errors."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbctl.errors import DiskFullError, InsufficientSpaceError, RepositoryFailedError, RepositoryUnsafeError
from dbctl.files import is_full


def require_space(path: Path, required_bytes: int) -> None:
    """Check the free space on the disk of a directory.

    Raises:
        InsufficientSpaceError: it is less than ``required_bytes``.
    """
    if (free_bytes := free_space(path)) < required_bytes:
        raise InsufficientSpaceError(place=path, required=required_bytes, free=free_bytes)


def free_space(path: Path) -> int:
    """Return the free space on the disk of a directory in bytes."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def require_private(path: Path, status: os.stat_result) -> None:
    """Refuse a directory that other users can write to; raises ``RepositoryUnsafeError``."""
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise RepositoryUnsafeError(place=path, mode=f"{stat.S_IMODE(status.st_mode):o}")


@contextmanager
def translate_errors(location: object) -> Iterator[None]:
    """Translate ``OSError`` into an error of ``location``: ``DiskFullError`` or ``RepositoryFailedError``."""
    try:
        yield
    except OSError as error:
        raise to_error(location, error) from error


def to_error(location: object, error: OSError) -> RepositoryFailedError | DiskFullError:
    """Return an ``OSError`` as an error of ``location``."""
    if is_full(error):
        return DiskFullError(target=location)
    path = f"{error.filename}: " if error.filename and str(error.filename) != str(location) else ""
    return RepositoryFailedError(place=location, reason=f"{path}{error.strerror or error}")
