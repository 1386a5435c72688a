"""Translate errors of SQLite by their name, because their text may change."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import (
    BusyError,
    ConstraintError,
    CorruptError,
    DiskFullError,
    FileFailedError,
    FileUnsyncedError,
    InterruptedWriteError,
    NotADatabaseError,
    QueryFailedError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.usage import NotSupportedError
from dbctl.model import Struct

#: The remedy of damage.
SALVAGE = Remedy(
    "Stop the app, copy its files, and restore a backup; without one, salvage SQLite with: `restore recover`"
)
#: With less free space than this, in bytes, an I/O error means a full disk; SQLite often does not report that.
MIN_FREE_BYTES = 1 << 20

#: The messages of SQLite about a function or a collation that only the app defines; they have no error name. The first one is of generated columns.
MISSING = r"(?:unknown|no such) (function|collation)(?: sequence)?: (.+?)(?:\(\))?$"
NEWER_HINT = (
    "The definition may have a form that only a newer SQLite reads. Install dbctl for a Python that brings one:"
    " uv tool install --managed-python DIR. Only if that cannot read it either, the file is damaged."
)
#: The journal was deleted, which commits the change, but the deletion was not synced to disk.
UNSYNCED = "SQLITE_IOERR_DIR_FSYNC"

READ_ONLY_DIRECTORY_HINT = (
    "Copy the file together with its -wal and read the copy: in WAL mode reading needs a writable directory."
)


class ErrorContext(Struct, frozen=True, kw_only=True):
    """The facts about a database that its error messages contain."""

    target: str  #: ``app/database``
    path: Path
    timeout: float = 0  #: for a lock, in seconds
    read_only: bool = False


def get_error_name(error: sqlite3.Error) -> str:
    """Return the name, for example ``SQLITE_BUSY_SNAPSHOT``; empty for an error of the driver."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name == "unknown":  # newer than this Python; the lowest byte is the primary code
        kind = error.sqlite_errorcode & 0xFF
        return next((prefix for prefix in _TRANSLATIONS if getattr(sqlite3, prefix, None) == kind), "")
    return name


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds a lock, so that waiting may help."""
    return get_error_name(error).startswith(("SQLITE_BUSY", "SQLITE_PROTOCOL"))


#: The driver cannot decode the message of SQLite about such a definition.
NOT_UTF8 = "the definition of a table or another object is damaged: it contains bytes that are not UTF-8"


def translate_error(error: sqlite3.Error, context: ErrorContext) -> DbctlError:
    name = get_error_name(error)
    for prefix, translate in _TRANSLATIONS.items():
        if name.startswith(prefix):
            return translate(context, name, str(error))
    if "unsupported file format" in str(error):  # SQLite has no error name for this
        return build_unreachable_error(context, "it was written by a newer version of SQLite")
    return QueryFailedError(target=context.target, reason=str(error))


def translate_create_error(error: sqlite3.Error, context: ErrorContext) -> DbctlError:
    """Return the dbctl error for a file that could not be created and is removed again."""
    name = get_error_name(error)
    return _translate_io(context, name, str(error)) if name == UNSYNCED else translate_error(error, context)


#: The other causes of SQLITE_FULL.
FULL_HINT = (
    "Nothing was changed. Check the disk of temporary files, quotas, and whether a table with AUTOINCREMENT has a row with the"
    " largest number, 9223372036854775807, after which SQLite adds none."
)


def build_unreachable_error(context: ErrorContext, reason: str) -> UnreachableError:
    """Return the error for a file that cannot be opened."""
    return UnreachableError(
        target=context.target,
        reason=reason,
        hint=f"Check owner and mode of {context.path} and of its directory.",
    )


def _translate_busy(context: ErrorContext, _name: str, _reason: str) -> DbctlError:
    from dbctl.engines.file_locks import describe_lock_holders

    return BusyError(
        target=context.target, holder=describe_lock_holders(context.path), waited=f"{context.timeout:g}"
    )


def _has_no_inodes(folder: Path) -> bool:
    """Whether no file can be created on the disk of a folder, although it may have free space."""
    from dbctl.files.mounts import read_volume

    try:
        return read_volume(folder).free_files == 0
    except OSError:
        return False


def _translate_access(context: ErrorContext, name: str, reason: str) -> DbctlError:
    if name == "SQLITE_CANTOPEN" and _has_no_inodes(context.path.parent):  # for the journal or the -wal
        return DiskFullError(target=context.target)
    wal = Path(f"{context.path}-wal")
    if not os.access(context.path.parent, os.W_OK) and wal.exists():
        return UnreachableError(
            target=context.target, reason=f"{reason} ({name})", hint=READ_ONLY_DIRECTORY_HINT
        )
    if context.read_only and name == "SQLITE_READONLY":
        return ReadOnlyError(
            target=context.target, reason="it was opened for reading", hint="Nothing was changed."
        )
    return build_unreachable_error(context, f"{reason} ({name})")


def _has_space(folder: Path) -> bool:
    """Whether the disk of a folder has free space for this user; raises OSError."""
    file_system = os.statvfs(folder)
    return file_system.f_bavail * file_system.f_frsize >= MIN_FREE_BYTES


def _translate_full(context: ErrorContext, name: str, reason: str) -> DbctlError:
    with suppress(OSError):
        if _has_space(context.path.parent):  # SQLite reports other causes in the same way
            full = f"{reason} ({name}), although the disk has space"
            error = FileFailedError(path=context.path, reason=full)
            error.hint = FULL_HINT
            return error
    return DiskFullError(target=context.target)


def _translate_io(context: ErrorContext, name: str, reason: str) -> DbctlError:
    try:
        has_space = _has_space(context.path.parent)
    except OSError as error:
        return build_unreachable_error(context, error.strerror or str(error))
    if not has_space:
        return DiskFullError(target=context.target)
    full = "the disk is faulty or full, or a quota or limit was reached"
    cause = full if name in _WRITE_ERRORS else "the disk is faulty"
    return FileFailedError(path=context.path, reason=f"{reason} ({name}): {cause}")


def _translate_corrupt(context: ErrorContext, _name: str, reason: str) -> DbctlError:
    """Return the error for damage, or for a definition that a newer SQLite wrote: both are reported in the same way."""
    written = _read_writer_version(context.path) if reason.startswith("malformed database schema") else ()
    if written > sqlite3.sqlite_version_info:
        return NotSupportedError(
            feature=f"{context.target}, which SQLite {'.'.join(map(str, written))} wrote,",
            subject=f"SQLite {sqlite3.sqlite_version}, which this Python uses: {reason}",
            hint=NEWER_HINT,
        )
    return CorruptError(target=context.target, reason=reason, hint=SALVAGE)


@cache
def _read_writer_version(path: Path) -> tuple[int, ...]:
    """Return the version of SQLite that has last changed a file, from its header; empty if it cannot be read.

    The file remains open, once for each path: closing it would drop the locks that SQLite has on it in this process.
    """
    try:
        number = int.from_bytes(os.pread(os.open(path, os.O_RDONLY), 4, 96))
    except OSError:
        return ()
    return number // 1_000_000, number // 1000 % 1000, number % 1000


#: Errors that a quota, a file size limit, or delayed allocation on a full disk can also cause.
_WRITE_ERRORS = {
    "SQLITE_IOERR_WRITE",
    "SQLITE_IOERR_TRUNCATE",
    "SQLITE_IOERR_FSYNC",
    UNSYNCED,
    "SQLITE_IOERR_SHMSIZE",
}

#: The first matching prefix is used. SQLITE_LOCKED is missing because it is a conflict inside one connection.
_TRANSLATIONS: dict[str, Callable[[ErrorContext, str, str], DbctlError]] = {
    "SQLITE_BUSY": _translate_busy,
    "SQLITE_PROTOCOL": _translate_busy,
    "SQLITE_NOTADB": lambda place, *_: NotADatabaseError(
        target=place.target, path=place.path, engine="SQLite"
    ),
    "SQLITE_CORRUPT": _translate_corrupt,
    "SQLITE_FULL": _translate_full,
    UNSYNCED: lambda place, name, reason: FileUnsyncedError(path=place.path, reason=f"{reason} ({name})"),
    "SQLITE_IOERR": _translate_io,
    "SQLITE_READONLY_ROLLBACK": lambda place, *_: InterruptedWriteError(target=place.target, reason=""),
    "SQLITE_READONLY": _translate_access,
    "SQLITE_CANTOPEN": _translate_access,
    "SQLITE_PERM": _translate_access,
    "SQLITE_CONSTRAINT": lambda place, _, reason: ConstraintError(target=place.target, reason=reason),
    "SQLITE_MISMATCH": lambda place, _, reason: ConstraintError(target=place.target, reason=reason),
}
