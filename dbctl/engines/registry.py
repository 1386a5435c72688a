"""Which engine opens which URL, and in which mode; the only place that knows engines by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl.engines.base import Holder, Readable, Script, Writable
from dbctl.errors import DatabaseMissingError, NotSupportedError
from dbctl.url import Url


def open_for_reading(url: Url, target: str, *, timeout: float) -> Readable:
    """Open the database at ``url`` so that nothing can be written through what is returned."""
    from dbctl.engines.sqlite import SQLiteReader  # noqa: PLC0415 - a driver loads when it is used

    return SQLiteReader(_file(url, target), target, timeout=timeout)


def open_for_writing(
    url: Url,
    target: str,
    *,
    timeout: float,
    pragmas: Mapping[str, str],
    create: Mapping[str, str] | None = None,
) -> Writable:
    """Open the database at ``url`` for writing; ``create`` gives the pragmas of one that is made where none is."""
    from dbctl.engines.sqlite import SQLiteWriter  # noqa: PLC0415 - as above

    path = _file(url, target)
    if create is not None and not os.path.isdir(path.parent):  # noqa: PTH112 - pathlib's raises where it may not look
        raise DatabaseMissingError(target=target, path=path.parent)
    return SQLiteWriter(path, target, timeout=timeout, pragmas=pragmas, create=create)


def open_scratch(url: Url, target: str) -> Writable:
    """Open an empty database of the kind that is at ``url``, which nobody else sees and which ends when it is closed.

    Args:
        url: the other one; it is not opened.
        target: its name, for messages.
    """
    from dbctl.engines.sqlite.scratch import SQLiteScratch  # noqa: PLC0415 - as above

    _file(url, target)
    return SQLiteScratch(target)


def holders(url: Url, target: str) -> Sequence[Holder]:
    """Return the processes that have the database at ``url`` open; the database itself is not opened.

    Raises:
        DatabaseMissingError: there is none.
    """
    from dbctl.engines import locks  # noqa: PLC0415 - as above

    path = Path(os.path.realpath(_file(url, target)))
    if not os.path.lexists(path):
        raise DatabaseMissingError(target=target, path=path)
    return locks.holders_of(path)


def split_script(url: Url, text: str) -> Script:
    """Take a script for the database at ``url`` apart, as its ``Migrates.split`` does; the database may be missing."""
    from dbctl.engines import sqlite_script  # noqa: PLC0415 - as above

    _file(url, str(url))
    return sqlite_script.split(text)


def _file(url: Url, target: str) -> Path:
    if url.engine != "sqlite":
        raise NotSupportedError(
            what=f"opening {target} ({url})",
            by="this version of dbctl",
            instead="It opens SQLite databases only.",
        )
    return Path(url.path)
