"""The safety backup of a database that migrations are about to change: it is kept whatever it holds."""

from __future__ import annotations

from contextlib import closing

from dbctl.engines import registry
from dbctl.services.apps import App
from dbctl.services.backup_create import Source, make
from dbctl.services.backup_keys import Sealing
from dbctl.services.backups import Repository


def keep(app: App, repository: Repository, database: str) -> str:
    """Back a database up, and return the id of the backup; whoever calls holds the lock of the repository."""
    return make(app, repository, [_Whole(app, database)], Sealing(app), kind="migration").id


class _Whole(Source):
    """A database whatever it holds: one that is half migrated need not look like its app's."""

    may_be_empty = True

    def __init__(self, app: App, database: str) -> None:
        super().__init__(app, database, lambda _bytes: None)
        app.close()
        url, target = app.url(database), app.target(database)
        with closing(registry.open_for_reading(url, target, timeout=app.timeout)) as db:
            self.like = list(db.tables())
