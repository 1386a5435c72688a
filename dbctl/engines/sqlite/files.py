"""The files of a SQLite database: what stands beside it, how a path is written into a URI, and what is not safe."""

from __future__ import annotations

import os
from pathlib import Path

from dbctl.engines.contract import Housing
from dbctl.errors import NotSupportedError, ReadOnlyError, ValueInvalidError

#: What SQLite puts beside a database.
SIDE_FILES = ("-wal", "-shm", "-journal")
PARTIAL = ".partial"


def partials(path: Path) -> list[Path]:
    """Return what is being made to take the place of a database, or was by a dbctl that was killed, with what belongs to it."""
    from glob import escape

    return sorted(path.parent.glob(f".{escape(path.name)}.dbctl-*{PARTIAL}*"))


def partial_name(path: Path) -> Path:
    """Return a name beside a database under which another one is made."""
    import secrets

    return path.with_name(f".{path.name}.dbctl-{secrets.token_hex(4)}{PARTIAL}")


def quoted(path: Path) -> str:
    """Return ``path`` as it is written in a URI."""
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def refuse_unsafe(path: Path, target: str) -> None:
    """Refuse to write a file that this user may not write, or that others would see differently.

    Raises:
        ReadOnlyError: it, or its directory, may not be written, or it has a second hard link.
    """
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise ReadOnlyError(
            target=target,
            reason=f"{path} or its directory may not be written by this user",
            instead="Nothing was changed. Run dbctl as the user who owns the app's files.",
        )
    if path.stat().st_nlink > 1:
        raise ReadOnlyError(
            target=target,
            reason=f"{path} has a second hard link, whose users would not see this one's -wal",
            instead="Nothing was changed. Remove the other link, or make it a symbolic one.",
        )


def of(path: Path) -> Housing:
    """Return the files of the database at ``path``, which may be missing."""
    try:
        file = Path(os.path.realpath(path))
    except ValueError:
        raise ValueInvalidError(what="path", value=ascii(str(path)), reason="it holds a NUL") from None
    beside = [one for suffix in SIDE_FILES if os.path.lexists(one := Path(f"{file}{suffix}"))]
    waiting = _size(Path(f"{file}-wal"))
    return Housing(
        file=file,
        beside=beside,
        waiting_bytes=waiting,
        left=bool(waiting) and _forsaken(file),
        settle=["sqlite3", str(file), "pragma wal_checkpoint(truncate)"],
        shrink=["sqlite3", str(file), "vacuum"],
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _forsaken(file: Path) -> bool:
    """Whether the system tells of locks and open files, and nobody has this one."""
    from dbctl.engines.file_locks import holders_of

    try:
        return not holders_of(file)
    except NotSupportedError:
        return False
