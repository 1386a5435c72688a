"""The files of a SQLite database, looked at from outside."""

from __future__ import annotations

import os
from pathlib import Path

from dbctl.engines.base import Housing
from dbctl.engines.locks import holders_of
from dbctl.engines.sqlite.files import SIDE_FILES
from dbctl.errors import NotSupportedError, ValueInvalidError


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
    try:
        return not holders_of(file)
    except NotSupportedError:
        return False
