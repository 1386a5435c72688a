"""The sound database that a damaged one is compared with: a file, or one that a backup holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dbctl.errors import BackupMissingError, FileMissingError
from dbctl.services.apps import App
from dbctl.services.backup_keys import Keys
from dbctl.services.backup_unpacked import unpacking
from dbctl.services.backups import ID, LATEST, Repository
from dbctl.services.restore_source import members

WHAT = "sound database"


@contextmanager
def sound(app: App, named: str, database: str, keys: Keys) -> Iterator[Path | None]:
    """Give the file of a sound database: the one that is named, or out of the backup of that id; None where none is.

    Raises:
        FileMissingError: there is neither.
        BackupMissingError: the backup is not there, or does not hold the database.
        CorruptError: it does not unpack to what was packed.
    """
    path = Path(named)
    if not named or os.path.exists(path):  # noqa: PTH110 - pathlib's raises where it may not look
        yield path if named else None
        return
    if named != LATEST and not ID.fullmatch(named):
        raise FileMissingError(what=WHAT, path=path)
    repository = Repository(app)
    manifest = repository.find(named)
    held_there = {one.database: one for one in members(app, repository, manifest, live=False)}
    if database not in held_there:
        place = repository.store.place
        raise BackupMissingError(name=manifest.id, app=app.target(database), place=place, near="")
    keys.ready(repository.store, manifest)
    one = held_there[database]
    with ExitStack() as held:
        unpacked = held.enter_context(unpacking(repository.store, keys))
        yield held.enter_context(unpacked.opened(manifest, one, app.target(database)))
