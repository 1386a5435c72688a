"""Pin backups: neither the retention nor ``backup delete`` deletes them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from dbctl.config.environment import operator_name
from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Effect, Plan, now
from dbctl.services.backup import verification_record
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.operation import BackupOperation
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verification_record import Pin, Verification

LONGEST_REASON = 500  # characters


class BackupsPinned(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup pin`` and ``backup unpin``."""

    backups: Sequence[str]  #: those that changed
    reason: str | None  #: None: they are no longer pinned

    @property
    def effect(self) -> Effect | None:
        verb = "unpinned" if self.reason is None else "pinned"
        return Effect(verb, "backup", self.backups) if self.backups else None


class PinBackups(BackupOperation):
    """Pin backups, or remove their pins."""

    def __init__(self, repository: Repository, names: Sequence[str], reason: str | None) -> None:
        """Select the backups by id or ``latest``; ``reason`` None removes their pins.

        Raises:
            UsageError: the reason is empty or too long.
        """
        super().__init__(repository)
        if reason is not None and not 0 < len(reason.strip()) <= LONGEST_REASON:
            raise UsageError(detail=f"--reason: write 1 to {LONGEST_REASON} characters")
        self._names, self._reason = names, reason

    def plan(self) -> Plan:
        """Return the backups to change.

        Raises:
            BackupMissingError, BackupCorruptError: as ``Repository.find``.
        """
        steps = [
            f"unpin {manifest.id}: {record.pin.reason if record.pin else ''}"
            if self._reason is None
            else f"pin {manifest.id}: {self._reason}"
            for manifest, record in self._select()
        ]
        return self._create_plan(f"Change the pins of backups in {self._repository.store.location}", steps)

    def apply(self, confirmed: str | None = None) -> BackupsPinned:
        """Write the records.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was changed.
            BusyError: another dbctl process uses the repository.
            BackupMissingError, BackupCorruptError: as ``plan``.
            RepositoryFailedError, DiskFullError: a record cannot be written.
        """
        store = self._repository.store
        store.list_folders()  # before the lock, which would create the repository
        with self._lock():
            self._require_confirmed(confirmed)
            selected = self._select()
            pin = None if self._reason is None else Pin(at=now(), by=operator_name(), reason=self._reason)
            for manifest, record in selected:
                verification_record.write(store, manifest.id, structs.replace(record, pin=pin))
        return BackupsPinned(backups=[manifest.id for manifest, _ in selected], reason=self._reason)

    def _select(self) -> list[tuple[Manifest, Verification]]:
        """Return the selected backups that the operation changes, with their records."""
        records = [
            (manifest, self._repository.read_verification(manifest))
            for manifest in self._repository.find_all(self._names)
        ]
        return [
            (manifest, record)
            for manifest, record in records
            if (record.pin.reason if record.pin else None) != self._reason
        ]
