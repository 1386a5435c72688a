"""What stores need of this machine: room, folders that nobody else writes, and its failures in their own words."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbctl.errors import DiskFullError, RepositoryFailedError, RepositoryUnsafeError, RoomMissingError
from dbctl.files import is_full


def want_room(place: Path, need: int) -> None:
    """Refuse what the disk of a directory cannot take.

    Raises:
        RoomMissingError: it has no room for ``need`` bytes.
    """
    if (found := room(place)) < need:
        raise RoomMissingError(place=place, need=need, room=found)


def room(place: Path) -> int:
    """Return how many bytes the disk of a directory can take."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def refuse_open(place: Path, told: os.stat_result) -> None:
    """Refuse a directory into which others may write; raises ``RepositoryUnsafeError``."""
    if told.st_mode & 0o022 and not told.st_mode & stat.S_ISVTX:
        raise RepositoryUnsafeError(place=place, mode=f"{stat.S_IMODE(told.st_mode):o}")


@contextmanager
def translated(place: object) -> Iterator[None]:
    """Tell a failure of the disk as one of ``place``; raises ``DiskFullError`` or ``RepositoryFailedError``."""
    try:
        yield
    except OSError as error:
        raise failed(place, error) from error


def failed(place: object, error: OSError) -> RepositoryFailedError | DiskFullError:
    """Return a failure of the disk as one of ``place``."""
    if is_full(error):
        return DiskFullError(target=place)
    path = f"{error.filename}: " if error.filename and str(error.filename) != str(place) else ""
    return RepositoryFailedError(place=place, reason=f"{path}{error.strerror or error}")
