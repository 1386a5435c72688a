"""Where a sample goes: directories that do not stay where it could not be made, and databases that must be empty."""

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
def made(wanted: Iterable[Path]) -> Iterator[None]:
    """Make the directories that are missing; what was made is removed again when the work fails."""
    new: list[Path] = []
    try:
        for path in wanted:
            missing = [one for one in [path, *path.parents] if not os.path.lexists(one)]
            path.mkdir(parents=True, exist_ok=True)
            new += reversed(missing)
        yield
    except BaseException:  # also on a signal: nothing is to be left of what was not finished
        for path in reversed(new):
            with suppress(OSError):  # somebody has put something there
                path.rmdir()
        raise


def refuse_full(db: Writable, profile: Profile) -> None:
    """Refuse a database that holds anything but what a sample that was cut off has left: its migrations, and no row.

    Raises:
        DatabaseNotEmptyError: nothing was changed.
    """
    tables: Sequence[str] = list(db.tables())
    migrations = profile.databases["main"].migrations
    ledger = ledger_detection.named(profile, migrations.ledger).table if migrations else ""
    full = [name for name in tables if name != ledger and db.count(name)]
    if full or (tables and ledger not in tables):
        raise DatabaseNotEmptyError(target=db.target, tables=", ".join((full or tables)[:5]))
