"""The safety backup of a database before a destructive migration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from dbctl.errors.backup import (
    RepositoryNotConfiguredError,
    SafetyBackupNotConfiguredError,
)
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.migrations import MigrationInDoubtError, MigrationPartialError
from dbctl.services.app.app import App
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.signals import Interrupted

if TYPE_CHECKING:
    from dbctl.services.backup.repository import Repository


def create_safety_backup(app: App, repository: Repository, database: str) -> str:
    """Back up a database and return the id of the backup; the caller holds the lock of the repository."""
    from dbctl.services.backup.create import create_backup
    from dbctl.services.backup.sources import Source, ignore_bytes

    source = Source(app, database, ignore_bytes)
    app.close()
    url, target = app.url(database), app.target(database)
    with closing(app.engine(database).open_for_reading(url, target, timeout=app.timeout)) as db:
        # A partly migrated database may lack tables of the app.
        source.allow_empty, source.familiar_tables = True, list(db.tables())
    return create_backup(repository, [source], kind="migration").id


_RESTORE = Remedy("Restore the previous state with: `restore apply {id} --db {database}`")


class SafetyBackup:
    """Safety backup of a database before a destructive migration; can be disabled."""

    def __init__(self, app: App, *, repository: str = "", enabled: bool = True) -> None:
        """Set the options: the address of another repository than the configured one, and whether to create backups."""
        self._app, self._repository_address, self._enabled = app, repository, enabled

    def describe_steps(self, target: MigrationTarget, names: Sequence[str]) -> list[str]:
        """Return the steps of the plan: a safety backup if ``names`` contains destructive migrations.

        Raises:
            SafetyBackupNotConfiguredError: no repository is configured.
        """
        if not (names and self._enabled):
            return []
        address = self._open_repository(target, names).store.location
        return [f"create a safety backup of {target.database} in {address}"]

    @contextmanager
    def protect(self, target: MigrationTarget, names: Sequence[str]) -> Iterator[str | None]:
        """Create the safety backup and yield its id, or None if none is required.

        If the migrations fail without any effect, the backup is deleted again.
        """
        if not (names and self._enabled):
            yield None
            return
        repository = self._open_repository(target, names)
        backup_id = self._create(repository, target.database)
        try:
            yield backup_id
        except (DbctlError, Interrupted) as error:
            if _left_unchanged(error):
                with suppress(DbctlError):  # an unneeded backup that remains is not an error
                    repository.store.remove_folder(backup_id)
            else:
                facts = {"id": backup_id, "database": target.database}
                error.hint += f" {_RESTORE.write(self._app.name, facts)}"
            raise

    def _open_repository(self, target: MigrationTarget, names: Sequence[str]) -> Repository:
        from dbctl.services.backup.repository import Repository

        try:
            return Repository(self._app, self._repository_address)
        except RepositoryNotConfiguredError as error:
            joined = ", ".join(names)
            raise SafetyBackupNotConfiguredError(
                target=target.name, app=self._app.name, names=joined
            ) from error

    def _create(self, repository: Repository, database: str) -> str:
        with repository.store.lock(self._app.spec.name, timeout=self._app.timeout):
            backup_id = create_safety_backup(self._app, repository, database)
        self._app.close()  # closing a reader later would drop the locks that this process holds on its file
        return backup_id


def _left_unchanged(error: DbctlError | Interrupted) -> bool:
    if isinstance(error, (MigrationPartialError, MigrationInDoubtError, Interrupted)):
        return False
    return error.context.get("applied", "none") == "none"
