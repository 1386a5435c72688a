"""Deletion of backups by id, independent of the retention; the last valid backup is never deleted."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.errors import LastBackupError, PlanChangedError, UsageError
from dbctl.model import ChangeResult, Plan
from dbctl.services.app import App
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.repository import ID, Repository


class BackupsDeleted(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup delete``."""

    deleted: Sequence[str]
    freed_bytes: int


class DeleteBackups:
    """A planned ``backup delete``."""

    def __init__(self, app: App, repository: Repository, names: Sequence[str], *, timeout: float) -> None:
        """Check the ids.

        Raises:
            UsageError: a name is not an id; ``latest`` may be another backup than the user expects.
        """
        for name in names:
            if not ID.fullmatch(name):
                raise UsageError(detail=f"{name!r} is not a backup id; list ids with: dbctl backup list")
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._repository, self._names, self._timeout = repository, names, timeout

    def plan(self) -> Plan:
        """Return what would be deleted.

        Raises:
            BackupMissingError: a backup does not exist.
            BackupCorruptError: a manifest cannot be read.
            LastBackupError: no other valid backup of a database would remain.
        """
        steps = [
            f"delete {manifest.id} ({manifest.kind}, {manifest.created_at:%Y-%m-%d %H:%M} UTC):"
            f" {', '.join(manifest.affected_databases)}"
            for manifest in self._select()
        ]
        title = f"Delete backups in {self._repository.store.location}"
        return Plan(title=title, target=self.target, steps=steps, rows={}, destructive=True)

    def apply(self, confirmed: str | None = None) -> BackupsDeleted:
        """Delete the backups.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was deleted.
            BusyError: another dbctl process uses the repository.
            BackupMissingError, BackupCorruptError, LastBackupError: as ``plan``.
        """
        store = self._repository.store
        store.list_folders()  # before the lock, which would create the repository
        with store.lock("backup delete", timeout=self._timeout):
            if confirmed is not None and self.plan().digest != confirmed:
                raise PlanChangedError(target=self.target)
            selected = self._select()
            for manifest in selected:
                store.remove_folder(manifest.id)
        return BackupsDeleted(
            deleted=[manifest.id for manifest in selected],
            freed_bytes=sum(member.bytes for manifest in selected for member in manifest.members),
        )

    def _select(self) -> Sequence[Manifest]:
        repository = self._repository
        selected = repository.find_all(self._names)
        ids = {manifest.id for manifest in selected}
        remaining = {
            database
            for manifest in repository.manifests()[0]
            if manifest.id not in ids
            and manifest.kind == "backup"
            and not repository.find_damage(manifest, repository.read_verification(manifest))
            for database in manifest.databases
        }
        at_risk = {
            database for manifest in selected if manifest.kind == "backup" for database in manifest.databases
        }
        if unprotected := sorted(at_risk - remaining):
            raise LastBackupError(ids=", ".join(sorted(ids)), databases=", ".join(unprotected))
        return selected
