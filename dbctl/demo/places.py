"""Directories and databases of a sample: created, removed after a failure, required to be empty."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dbctl.engines.contract import Writable
from dbctl.errors import DatabaseNotEmptyError
from dbctl.profiles.model import Profile
from dbctl.services.app import ledger_detection


@contextmanager
def create_directories(paths: Iterable[Path]) -> Iterator[None]:
    """Create missing directories; remove them again if the block fails."""
    new: list[Path] = []
    try:
        for path in paths:
            missing = [parent for parent in [path, *path.parents] if not os.path.lexists(parent)]
            path.mkdir(parents=True, exist_ok=True)
            new += reversed(missing)
        yield
    except BaseException:  # also after a signal: an incomplete sample is removed
        for path in reversed(new):
            with suppress(OSError):  # another process created files in it
                path.rmdir()
        raise


def require_empty(db: Writable, profile: Profile) -> None:
    """Refuse a database with rows; an interrupted sample leaves only migrations.

    Raises:
        DatabaseNotEmptyError: nothing was changed.
    """
    tables: Sequence[str] = list(db.tables())
    migrations = profile.databases["main"].migrations
    ledger = ledger_detection.resolve_ledger(profile, migrations.ledger).table if migrations else ""
    full = [name for name in tables if name != ledger and db.count(name)]
    if full or (tables and ledger not in tables):
        raise DatabaseNotEmptyError(target=db.target, tables=", ".join((full or tables)[:5]))
