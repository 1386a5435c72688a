"""Copy backups from one repository to another: the same ids and bytes, verified during the copy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from dbctl import progress
from dbctl.errors.backup import (
    BackupCorruptError,
    BackupDiffersError,
    BackupMissingError,
    BaseMissingError,
    RepositoryFailedError,
    RepositoryMissingError,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import InsufficientSpaceError
from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Effect, Finding, Plan, Row
from dbctl.services.backup import deltas, verification_record
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup.app_files import (
    BackupFailure,
    BackupOperation,
    describe_failure,
    find_status,
    name_completed,
)
from dbctl.services.backup.manifest import Manifest, ManifestInvalidError, omit_encryption
from dbctl.services.backup.repository import Repository
from dbctl.stores.base import FolderState

#: Errors of one backup; the copy continues with the next one. If one does not fit, an older, smaller one is better than none.
SINGLE_BACKUP_ERRORS = (
    BackupDiffersError,
    BackupCorruptError,
    BackupMissingError,
    BaseMissingError,
    InsufficientSpaceError,
    RepositoryFailedError,
)


class BackupsCopied(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup copy``."""

    is_timed = True

    source: str
    destination: str
    copied: Sequence[str]
    existing: Sequence[str]  #: already in the other repository, with the same manifest and all files
    failed: Sequence[BackupFailure]
    not_attempted: Sequence[str]  #: remaining when an error stopped the copy
    copied_bytes: int
    unrecorded: Sequence[str] = ()  #: errors of damage that could not be recorded next to the backup

    @property
    def effect(self) -> Effect | None:
        if not (self.copied or self.failed):
            return None
        return Effect(
            "copied",
            "backup",
            count=len(self.copied),
            place=f"to {self.destination}",
            counts={"copied before": len(self.existing), "failed": len(self.failed)},
            bytes=self.copied_bytes,
        )

    def summary(self) -> Row:
        summary: dict[str, object] = {
            "source": self.source,
            "destination": self.destination,
            "copied": self.copied,
            "existing": self.existing,
            "bytes": self.copied_bytes,
        }
        return summary | ({"not copied": [failure.id for failure in self.failed]} if self.failed else {})

    @property
    def remarks(self) -> Sequence[str]:
        messages = [*(failure.message for failure in self.failed), *self.unrecorded]
        return (
            [*messages, f"not attempted: {', '.join(self.not_attempted)}"] if self.not_attempted else messages
        )

    @property
    def exit_status(self) -> int:
        return find_status(self.failed, [*self.copied, *self.existing])


class CopyBackups(BackupOperation):
    def __init__(self, source: Repository, destination: Repository, names: Sequence[str]) -> None:
        """Select the named backups with their bases, or all with a readable manifest.

        Raises:
            BackupMissingError, BackupCorruptError: a named backup does not exist, or its manifest cannot be read.
            UsageError: both repositories are the same, or ``--db`` selects one database.
        """
        super().__init__(destination)
        self._source, self._unrecorded = source, list[str]()
        if self._app.only:
            raise UsageError(detail="--db: only complete backups can be copied; omit it")
        if source.store.location == destination.store.location:
            raise UsageError(detail=f"--to {destination.store.location}: this is the source repository")
        self._selected, self._unreadable = source.manifests()
        self._is_named = bool(names)
        if names:
            required = deltas.add_bases([manifest.id for manifest in source.find_all(names)], self._selected)
            self._selected = [manifest for manifest in self._selected if manifest.id in required]
            self._unreadable = {}
        states: Mapping[str, FolderState] = {}
        with suppress(RepositoryMissingError):  # the copy creates it
            states = destination.store.list_folders()
        self._missing, self._existing = self._split_selected(states)

    def _split_selected(self, states: Mapping[str, FolderState]) -> tuple[list[Manifest], list[Manifest]]:
        """Return the selected backups that the other repository lacks, and those that it has."""
        existing = [
            manifest
            for manifest in self._selected
            if states.get(manifest.id, FolderState.INCOMPLETE) is not FolderState.INCOMPLETE
        ]
        return [manifest for manifest in self._selected if manifest not in existing], existing

    def size(self) -> int:
        return sum(manifest.bytes for manifest in self._missing)

    def plan(self) -> Plan:
        """Return the backups to copy; writes nothing."""
        errors: dict[str, DbctlError | None] = {
            manifest.id: self._find_difference(manifest) for manifest in self._existing
        }
        present = {name for name, error in errors.items() if error is None}
        steps = list[str]()
        for manifest in deltas.sort_bases_first(self._missing):
            if error := self._find_missing_base(manifest, present):
                errors[manifest.id] = error
                continue
            present.add(manifest.id)
            steps.append(f"copy {manifest.id} ({manifest.bytes:,} bytes)")
        steps += [lock.plan_step] if steps and (lock := self._repository.object_lock) else []
        steps += [f"refuse {name}: {error}" for name, error in errors.items() if error is not None]
        steps += [f"refuse {name}: its manifest: {reason}" for name, reason in self._unreadable.items()]
        title = f"Copy from {self._source.store.location} to {self._repository.store.location}"
        return self._create_plan(title, steps)

    def apply(self, confirmed: str | None = None) -> BackupsCopied:
        """Copy the backups, newest first but after their bases; existing ones are compared and never overwritten.

        Raises:
            BusyError: another dbctl process uses the other repository.
            StorageFailedError, DiskFullError: the first copy failed.
        """
        del confirmed  # nothing is deleted, so no confirmation is required
        copied, existing, failed = list[Manifest](), list[str](), list[BackupFailure]()
        store = self._repository.store
        with self._lock(), name_completed("Copied", copied):
            states = store.list_folders()  # another process may have copied since the selection
            missing, shared = self._split_selected(states)
            pending = deltas.sort_bases_first(missing)
            for manifest in shared:
                try:
                    self._update_existing(manifest)
                    existing.append(manifest.id)
                except (BackupDiffersError, RepositoryFailedError) as error:
                    failed.append(describe_failure(manifest.id, error))
            for name, detail in self._unreadable.items():
                failed.append(
                    describe_failure(name, self._invalid_backup_error(name, f"its manifest: {detail}"))
                )
            while pending:
                manifest = pending.pop(0)
                try:
                    # Left by an interrupted copy: a running one would have the lock.
                    if manifest.id in states:
                        store.remove_folder(manifest.id)
                    if self._copy(manifest, present={*existing, *(copy.id for copy in copied)}):
                        copied.append(manifest)
                except SINGLE_BACKUP_ERRORS as error:
                    failed.append(describe_failure(manifest.id, error))
                except DbctlError as error:
                    if not (copied or existing or failed):
                        raise
                    failed.append(describe_failure(manifest.id, error))
                    break
        return BackupsCopied(
            source=self._source.store.location,
            destination=store.location,
            copied=[manifest.id for manifest in copied],
            existing=existing,
            failed=failed,
            not_attempted=[manifest.id for manifest in pending],
            copied_bytes=sum(manifest.bytes for manifest in copied),
            unrecorded=self._unrecorded,
        )

    def _update_existing(self, manifest: Manifest) -> None:
        """Copy the verification record of a backup that the other repository has; raises if it differs there."""
        if difference := self._find_difference(manifest):
            raise difference
        verification_record.copy_record(self._source.store, self._repository.store, manifest.id)

    def _copy(self, manifest: Manifest, present: Collection[str]) -> bool:
        """Copy one backup; return False if the source was deleted concurrently.

        ``present``: the backups that the other repository has, and that are the same.

        Raises:
            BackupMissingError: the source of a named backup was deleted concurrently.
            BaseMissingError: it requires another one.
            BackupCorruptError: it does not match its manifest; the copy was removed.
        """
        source, destination, name = self._source.store, self._repository.store, manifest.id
        manifest = deltas.reread(source, manifest)
        text, sizes = source.read_manifest(name), source.list_files(name)
        if text is None:  # perhaps together with its base
            return self._omit_deleted(name)
        if error := self._find_missing_base(manifest, present):
            raise error
        self._check(manifest, text, sizes)
        destination.require_space(manifest.bytes, staged=False)
        try:
            with destination.create_folder(name) as folder:
                for member in manifest.files:
                    blocks = progress.count_blocks(source.read(name, member.file))
                    stored = folder.write(member.file, blocks, member.bytes)
                    if (stored.bytes, stored.sha256) != (member.bytes, member.sha256):
                        reason = f"{member.file}: its SHA-256 does not match the manifest"
                        raise self._report_damage(manifest, reason)
                folder.write_manifest(text.decode(), deltas.add_bases(manifest.bases, self._selected))
            verification_record.copy_record(source, destination, name)
        except RepositoryFailedError:
            if self._source.is_deleted(manifest):
                return self._omit_deleted(name)
            if deltas.reread(source, manifest) != manifest:
                return self._copy(manifest, present)
            raise
        return True

    def _find_missing_base(self, manifest: Manifest, present: Collection[str]) -> BaseMissingError | None:
        """Return why a backup cannot be copied to the other repository, which has the backups ``present``; None: its bases are there."""
        base = next((base for base in manifest.bases if base not in present), "")
        return BaseMissingError(id=manifest.id, base=base, place=self._repository.address) if base else None

    def _omit_deleted(self, name: str) -> bool:
        """Return False for a backup that was deleted since its selection; raises if the user named it, or one that requires it."""
        if self._is_named:
            raise BackupMissingError(name=name, app=self.app, place=self._source.store.location)
        return False

    def _check(self, manifest: Manifest, text: bytes, sizes: Mapping[str, int]) -> None:
        try:
            parsed = backup_manifest.parse(text)
        except ManifestInvalidError as error:
            raise self._invalid_backup_error(manifest.id, f"its manifest: {error}") from error
        if parsed != manifest:
            raise self._invalid_backup_error(manifest.id, "its manifest was replaced during the copy")
        if manifest.app != self.app:
            raise self._invalid_backup_error(manifest.id, f"it is a backup of {manifest.app}")
        if reason := manifest.find_missing(sizes):
            raise self._report_damage(manifest, reason)

    def _report_damage(self, manifest: Manifest, reason: str) -> BackupCorruptError:
        """Record damage of the source, unless another process has deleted or replaced it, and return its error."""
        from dbctl.services.backup.verifier import record_result

        finding = Finding(self.app, "error", BackupCorruptError.code, f"backup {manifest.id}, {reason}")
        if not self._source.is_deleted(manifest) and deltas.reread(self._source.store, manifest) == manifest:
            self._unrecorded += record_result(self._source, manifest, [finding], all_files=False, deep=False)
        return self._invalid_backup_error(manifest.id, reason)

    def _invalid_backup_error(self, name: str, reason: str) -> BackupCorruptError:
        return BackupCorruptError(id=name, app=self.app, reason=reason)

    def _find_difference(self, manifest: Manifest) -> BackupDiffersError | None:
        """Return how the backup with the same id in the other repository differs, or None if it is the same."""
        store = self._repository.store
        try:
            text = store.read_manifest(manifest.id)
            stored = None if text is None else backup_manifest.parse(text)
            if stored is None or omit_encryption(stored) != omit_encryption(manifest):
                reason = "its manifest differs"
            else:
                reason = stored.find_missing(store.list_files(manifest.id))
        except (ManifestInvalidError, RepositoryFailedError) as error:
            reason = f"its manifest cannot be read: {error}"
        if not reason:
            return None
        return BackupDiffersError(id=manifest.id, place=self._repository.address, reason=reason)
