"""The safety backup of a database that migrations are about to change: it is kept whatever it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from dbctl.engines import registry
from dbctl.errors import (
    DbctlError,
    MigrationHalfDoneError,
    MigrationInDoubtError,
    RepositoryUnsetError,
    SafetyBackupUnsetError,
)
from dbctl.services.app import App
from dbctl.services.backup import Repository, Sealing, Source, make
from dbctl.services.migrations.ledger import Track
from dbctl.signals import Interrupted

if TYPE_CHECKING:
    from dbctl.services.backup import Repository


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


class Safety:
    """Whether what a database holds is kept before something of it is destroyed, and where."""

    def __init__(self, app: App, *, repository: str = "", wanted: bool = True) -> None:
        """Take what the options said: an address in place of the configured one, and whether a backup is wanted at all."""
        self._app, self._given, self._wanted = app, repository, wanted

    def steps(self, track: Track, names: Sequence[str]) -> list[str]:
        """Return the steps of a plan that keep a database before migrations of these ``names`` destroy something of it.

        Raises:
            SafetyBackupUnsetError: nothing says where backups are kept.
        """
        if not (names and self._wanted):
            return []
        place = self._repository(track, names).store.place
        return [f"keep {track.database} as it is now, as a safety backup in {place}"]

    @contextmanager
    def kept(self, track: Track, names: Sequence[str]) -> Iterator[str | None]:
        """Keep a database for the time that the migrations run, and give the id of the backup; None where none is made.

        Where they leave everything as it was, so that there is nothing to bring back, it goes again.
        """
        if not (names and self._wanted):
            yield None
            return
        repository = self._repository(track, names)
        made = self._make(repository, track.database)
        try:
            yield made
        except (DbctlError, Interrupted) as error:
            if _left_all_as_it_was(error):
                with suppress(DbctlError):  # one backup too many is no failure
                    repository.store.remove(made)
            else:
                error.hint += (
                    f" What was there before is kept: dbctl restore apply {made} --db {track.database}."
                )
            raise

    def _repository(self, track: Track, names: Sequence[str]) -> Repository:
        from dbctl.services.backup import Repository

        try:
            return Repository(self._app, self._given)
        except RepositoryUnsetError as error:
            told = ", ".join(names)
            raise SafetyBackupUnsetError(target=track.target, app=self._app.name, names=told) from error

    def _make(self, repository: Repository, database: str) -> str:

        with repository.store.lock("migrate", timeout=self._app.timeout):
            made = keep(self._app, repository, database)
        self._app.close()  # closing a reader later would drop the locks that this process holds on its file
        return made


def _left_all_as_it_was(error: DbctlError | Interrupted) -> bool:
    if isinstance(error, (MigrationHalfDoneError, MigrationInDoubtError, Interrupted)):
        return False
    return error.facts.get("applied", "none") == "none"
