"""The files of a SQLite database: side files, temporary files, URIs and checks before writing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.engines.contract.checks import DatabaseFiles
from dbctl.errors.connection import ReadOnlyError
from dbctl.errors.usage import NotSupportedError, ValueInvalidError

if TYPE_CHECKING:  # the files of a database are also listed without opening one
    import sqlite3

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


def build_uri(path: Path, parameters: str) -> str:
    """Return the URI of a file for SQLite, with characters escaped that would end the path."""
    quoted = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file://{quoted}?{parameters}"


def connect(path: Path, parameters: str, *, timeout: float = 5.0) -> sqlite3.Connection:
    """Open a file with parameters of its URI; the driver begins no transactions.

    Python's driver opens it, because sqlite-utils has neither the parameters nor such connections.
    """
    import sqlite3

    return sqlite3.connect(build_uri(path, parameters), uri=True, isolation_level=None, timeout=timeout)


def refuse_unsafe(path: Path, target: str) -> None:
    """Refuse to write a file without write access, or with a second hard link.

    Raises:
        ReadOnlyError: the file or its directory is not writable, or the file has a second hard link.
    """
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise ReadOnlyError(
            target=target,
            reason=f"{path} or its directory is not writable for this user",
            hint="Nothing was changed. Run dbctl as the owner of the app's files.",
        )
    if path.stat().st_nlink > 1:
        raise ReadOnlyError(
            target=target,
            reason=f"{path} has a second hard link, and its users would not read this -wal",
            hint="Nothing was changed. Remove the other link, or replace it with a symbolic link.",
        )


def find_files(path: Path) -> DatabaseFiles:
    """Return the files of the database at ``path``, which may be missing."""
    try:
        file = Path(os.path.realpath(path))
    except ValueError:
        raise ValueInvalidError(name="path", value=ascii(str(path)), reason="it contains a NUL") from None
    side_files = [side_file for suffix in SIDE_FILES if os.path.lexists(side_file := Path(f"{file}{suffix}"))]
    wal_bytes = _read_size(Path(f"{file}-wal"))
    return DatabaseFiles(
        file=file,
        side_files=side_files,
        pending_bytes=wal_bytes,
        has_leftover_changes=bool(wal_bytes) and _is_unused(file),
        checkpoint_command=["sqlite3", str(file), "pragma wal_checkpoint(truncate)"],
        vacuum_command=["sqlite3", str(file), "vacuum"],
    )


def _read_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_unused(file: Path) -> bool:
    """Whether no process has the file open; False if the system does not report open files."""
    from dbctl.engines.file_locks import list_lock_holders

    try:
        return not list_lock_holders(file)
    except NotSupportedError:
        return False
