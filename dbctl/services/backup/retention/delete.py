"""Delete backups by id; the last valid backup and pinned ones are never deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dbctl.errors.backup import (
    BackupPinnedError,
    BackupRequiredError,
    BackupRetainedError,
    LastBackupError,
    LogRequiredError,
)
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Effect, Plan, group
from dbctl.services.backup import deltas
from dbctl.services.backup.app_files import BackupOperation
from dbctl.services.backup.log_range import find_required_log
from dbctl.services.backup.manifest import Manifest, Member
from dbctl.services.backup.repository import LATEST, Repository
from dbctl.services.backup.retention.prune import delete_folders, unreadable_error
from dbctl.services.backup.verification_record import UNREADABLE, UNREADABLE_RECORD


class BackupsDeleted(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup delete``."""

    deleted: Sequence[str]
    freed_bytes: int
    dropped: Sequence[str] = ()  #: names of retained databases that were dropped on their server
    remarks: Sequence[str] = ()  #: what could not be dropped

    @property
    def effect(self) -> Effect | None:
        counts = {"databases dropped": len(self.dropped)}
        return Effect("deleted", "backup", self.deleted, counts=counts, bytes=self.freed_bytes)


class DeleteBackups(BackupOperation):
    """A planned ``backup delete``: it is independent of the retention, and never deletes the last valid backup."""

    def __init__(
        self, repository: Repository, names: Sequence[str], *, with_dependents: bool = False
    ) -> None:
        """Select the backups by their ids, or by the first characters of these.

        ``with_dependents``: also delete the backups that require one of them as their base.

        Raises:
            UsageError: ``latest``, which may be another backup than the user expects.
        """
        super().__init__(repository)
        self._names, self._with_dependents = names, with_dependents
        if LATEST in names:
            raise UsageError(
                detail=f"{LATEST!r} is not a backup id", hint=Remedy("List ids with: `backup list`")
            )

    def plan(self) -> Plan:
        """Return what would be deleted.

        Raises:
            BackupMissingError: a backup does not exist.
            AmbiguousIdError: several ids begin with the text.
            BackupCorruptError: a manifest cannot be read.
            LastBackupError: no other valid backup of a database would remain.
            BackupPinnedError: a backup is pinned.
            BackupRequiredError: a backup is the base of others.
            RepositoryUnreadableError: a backup may be the base of one whose manifest cannot be read.
            LogRequiredError: a backup is a part of the log since a copy of its server.
            BackupRetainedError: the storage retains a backup.
        """
        selected = self._select()
        steps = [
            f"delete {manifest.id} ({manifest.kind}, {manifest.created_at:%Y-%m-%d %H:%M} UTC):"
            f" {', '.join(manifest.affected_databases)}"
            for manifest in selected
        ]
        steps += [
            f"drop the retained database {member.facts['kept']} on its server"
            for member in self._find_retained(selected)
        ]
        title = f"Delete backups in {self._repository.store.location}"
        return self._create_plan(title, steps, destructive=True)

    def apply(self, confirmed: str | None = None) -> BackupsDeleted:
        """Delete the backups.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was deleted.
            BusyError: another dbctl process uses the repository.
            BackupMissingError, AmbiguousIdError, BackupCorruptError, LastBackupError, BackupPinnedError,
            BackupRequiredError, RepositoryUnreadableError, BackupRetainedError: as ``plan``.
        """
        self._repository.store.list_folders()  # before the lock, which would create the repository
        with self._lock():
            self._require_confirmed(confirmed)
            selected = self._select()
            retained = self._find_retained(selected)
            delete_folders(self._repository, selected)
            dropped, remarks = self._drop_retained(retained)
        return BackupsDeleted(
            deleted=[manifest.id for manifest in selected],
            freed_bytes=sum(manifest.bytes for manifest in selected),
            dropped=dropped,
            remarks=remarks,
        )

    def _find_retained(self, selected: Sequence[Manifest]) -> Sequence[Member]:
        """Return the members of the selected backups that are databases on their server, and that only these backups require."""
        lost = self._repository.find_lost_databases(selected)
        members = [
            member
            for manifest in selected
            for member in manifest.members
            if member.form == "kept" and manifest.id not in lost
        ]
        copied = self._name_copied() if members else ()
        return [member for member in members if copied is not None and member.facts["kept"] not in copied]

    def _name_copied(self) -> Collection[str] | None:
        """Return the retained databases of the configured repository if this is another one, whose backups may be copies; None: unknown."""
        if not self._app.configured.backup_settings.repository:
            return ()
        configured = Repository(self._app)
        if configured.store.location == self._repository.store.location:
            return ()
        try:
            manifests, unreadable = configured.manifests()
        except DbctlError:  # the next restore drops them, too
            return None
        members = (member for manifest in manifests for member in manifest.members)
        return None if unreadable else {member.facts["kept"] for member in members if member.form == "kept"}

    def _drop_retained(self, retained: Sequence[Member]) -> tuple[list[str], list[str]]:
        """Drop the databases that deleted backups retained on their server; return those that are dropped, and why others are not."""
        dropped, remarks = list[str](), list[str]()
        for database, members in group((member.database, member) for member in retained).items():
            # others belong to backups of other repositories, or to those whose manifests cannot be read
            names = {member.facts["kept"] for member in members}
            try:
                restore_target = self._app.restore_target(database)
                remarks += restore_target.drop_retained(names.__contains__)
                dropped += restore_target.find_missing([member.dump for member in members])
            except DbctlError as error:
                remarks.append(f"the retained database of {database} was not dropped: {error}")
        return dropped, remarks

    def _select(self) -> Sequence[Manifest]:
        repository = self._repository
        selected, content = list(repository.find_all(self._names)), repository.read_content()
        if content.unreadable and any(
            member.content_sha256 for manifest in selected for member in manifest.members
        ):
            raise unreadable_error(repository, content)  # each of them may require one of these as its base
        selected += self._find_dependents(selected, content.manifests)
        ids = {manifest.id for manifest in selected}
        _require_log(content.valid, ids)
        remaining = [manifest for manifest in content.valid if manifest.id not in ids]
        if unprotected := sorted(self._name_databases(selected) - self._name_databases(remaining)):
            raise LastBackupError(ids=", ".join(sorted(ids)), databases=", ".join(unprotected))
        for manifest in selected:
            record = repository.read_verification(manifest)
            if record is UNREADABLE:
                raise BackupPinnedError(id=manifest.id, reason=UNREADABLE_RECORD, by="dbctl")
            if pin := record.pin:
                raise BackupPinnedError(id=manifest.id, reason=pin.reason, by=pin.by)
            if refusal := repository.store.read_protection(manifest.id).refusal:
                raise BackupRetainedError(place=repository.store.location, id=manifest.id, reason=refusal)
        return selected

    def _name_databases(self, manifests: Sequence[Manifest]) -> set[str]:
        """Return the databases of complete backups, those of other apps with their addresses."""
        databases = set[str]()
        for manifest in manifests:
            others = self._repository.find_others(manifest) if manifest.kind == "backup" else {}
            for name in manifest.databases if manifest.kind == "backup" else ():
                databases.add(f"{name} ({others[name]})" if name in others else name)
        return databases

    def _find_dependents(
        self, selected: Sequence[Manifest], manifests: Sequence[Manifest]
    ) -> Sequence[Manifest]:
        """Return the other backups that require one of the selected ones, also by way of others; raises if they must not be deleted."""
        ids = {manifest.id for manifest in selected}
        dependents = [
            manifest
            for manifest in manifests
            if manifest.id not in ids and deltas.add_bases([manifest.id], manifests) & ids
        ]
        if dependents and not self._with_dependents:
            raise BackupRequiredError(
                ids=", ".join(sorted(ids)), dependents=", ".join(manifest.id for manifest in dependents)
            )
        return dependents


def _require_log(manifests: Sequence[Manifest], deleted: Collection[str]) -> None:
    """Refuse to delete a part of the log of a server that follows a remaining copy: no later moment could be recovered."""
    remaining = [manifest.id for manifest in manifests if manifest.id not in deleted]
    required = find_required_log(manifests, remaining)
    if parts := sorted(part for part in required if part in deleted):
        raise LogRequiredError(
            ids=", ".join(parts), reasons=", ".join(dict.fromkeys(required[part] for part in parts))
        )
