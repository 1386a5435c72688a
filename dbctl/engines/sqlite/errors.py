"""What SQLite reports becomes a failure of ours: by the name of the error, for its text may change."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from dbctl.errors import (
    BusyError,
    ConstraintError,
    CorruptError,
    CutOffWriteError,
    DbctlError,
    DiskFullError,
    FileFailedError,
    FileUnsyncedError,
    NotADatabaseError,
    QueryFailedError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.model import Value

#: Less free space than this, in bytes, and an I/O error was the disk being full (SQLite often cannot tell).
NO_SPACE = 1 << 20

#: A journal that is gone, by which a change is done, and whose name the disk did not confirm to be gone.
UNSYNCED = "SQLITE_IOERR_DIR_FSYNC"

READ_ONLY_PLACE = "In WAL mode even reading needs a writable directory: copy the file together with its -wal elsewhere and read it there."


class Place(Value, frozen=True, kw_only=True):
    """What a message tells of the database that failed."""

    target: str  #: ``app/database``
    path: Path
    timeout: float  #: seconds that were waited for a lock
    reading: bool  #: whether it was opened for reading only


def name_of(error: sqlite3.Error) -> str:
    """Return ``SQLITE_BUSY_SNAPSHOT`` and the like; empty for what the driver itself refused."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name == "unknown":  # younger than this Python; what it is a kind of, is in the lowest byte
        kind = error.sqlite_errorcode & 0xFF
        return next((known for known in _FAILURES if getattr(sqlite3, known, None) == kind), "")
    return name


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds a lock, so that waiting may help."""
    return name_of(error).startswith(("SQLITE_BUSY", "SQLITE_PROTOCOL"))


def translated(error: sqlite3.Error, place: Place) -> DbctlError:
    """Return the failure that ``error`` is."""
    name = name_of(error)
    for prefix, make in _FAILURES.items():
        if name.startswith(prefix):
            return make(place, name, str(error))
    if "unsupported file format" in str(error):  # an error without a name of its own
        return unreachable(place, "a newer SQLite than this one wrote it")
    return QueryFailedError(target=place.target, reason=str(error))


def unmade(error: sqlite3.Error, place: Place) -> DbctlError:
    """Return the failure that ``error`` is of a file that was to be made, and goes away again: none of it stands."""
    name = name_of(error)
    return _input_output(place, name, str(error)) if name == UNSYNCED else translated(error, place)


def unreachable(place: Place, reason: str) -> UnreachableError:
    """Return the failure of a file that cannot be got at."""
    return UnreachableError(
        target=place.target,
        reason=reason,
        instead=f"Check owner and mode of {place.path} and of its directory.",
    )


def _busy(place: Place, _name: str, _reason: str) -> DbctlError:
    from dbctl.engines.file_locks import holder_of

    return BusyError(target=place.target, holder=holder_of(place.path), waited=f"{place.timeout:g}")


def _refused(place: Place, name: str, reason: str) -> DbctlError:
    wal = Path(f"{place.path}-wal")
    if not os.access(place.path.parent, os.W_OK) and wal.exists():
        return UnreachableError(target=place.target, reason=f"{reason} ({name})", instead=READ_ONLY_PLACE)
    if place.reading and name == "SQLITE_READONLY":
        return ReadOnlyError(
            target=place.target, reason="it was opened for reading", instead="Nothing was changed."
        )
    return unreachable(place, f"{reason} ({name})")


def _input_output(place: Place, name: str, reason: str) -> DbctlError:
    try:
        room = os.statvfs(place.path.parent)
    except OSError as error:
        return unreachable(place, error.strerror or str(error))
    if room.f_bavail * room.f_frsize < NO_SPACE:
        return DiskFullError(target=place.target)
    full = "the disk fails or is full, or a quota or limit is reached"
    cause = full if name in _WRITING else "the disk fails"
    return FileFailedError(path=place.path, reason=f"{reason} ({name}): {cause}")


#: What a quota, a limit on the size of files, or a disk that has room only until it is synced makes fail, too.
_WRITING = {
    "SQLITE_IOERR_WRITE",
    "SQLITE_IOERR_TRUNCATE",
    "SQLITE_IOERR_FSYNC",
    UNSYNCED,
    "SQLITE_IOERR_SHMSIZE",
}

#: The first prefix that fits counts. SQLITE_LOCKED is not among them: it is a conflict inside one connection.
_FAILURES: dict[str, Callable[[Place, str, str], DbctlError]] = {
    "SQLITE_BUSY": _busy,
    "SQLITE_PROTOCOL": _busy,
    "SQLITE_NOTADB": lambda place, *_: NotADatabaseError(
        target=place.target, path=place.path, engine="SQLite"
    ),
    "SQLITE_CORRUPT": lambda place, _, reason: CorruptError(target=place.target, reason=reason),
    "SQLITE_FULL": lambda place, *_: DiskFullError(target=place.target),
    UNSYNCED: lambda place, name, reason: FileUnsyncedError(path=place.path, reason=f"{reason} ({name})"),
    "SQLITE_IOERR": _input_output,
    "SQLITE_READONLY_ROLLBACK": lambda place, *_: CutOffWriteError(target=place.target),
    "SQLITE_READONLY": _refused,
    "SQLITE_CANTOPEN": _refused,
    "SQLITE_PERM": _refused,
    "SQLITE_CONSTRAINT": lambda place, _, reason: ConstraintError(target=place.target, reason=reason),
    "SQLITE_MISMATCH": lambda place, _, reason: ConstraintError(target=place.target, reason=reason),
}
