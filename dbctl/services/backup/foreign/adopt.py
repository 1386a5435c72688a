"""Adopt foreign backups: verify their files and create backups from copies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from msgspec import structs

from dbctl.engines.contract import DumpResult, Dumps, DumpVerification
from dbctl.errors import (
    AlreadyAdoptedError,
    BackupCorruptError,
    FileNotRestorableError,
    RepositoryMissingError,
    UsageError,
)
from dbctl.files import Progress, atomic, no_progress
from dbctl.model import ChangeResult, Compression, Plan, Row, format_count
from dbctl.services.app import App
from dbctl.services.backup import verify
from dbctl.services.backup.create import create_backup
from dbctl.services.backup.encryption import DecryptionKeys, EncryptionPolicy, is_encrypted
from dbctl.services.backup.foreign import file_sets
from dbctl.services.backup.foreign.dump_import import StagedBackup
from dbctl.services.backup.foreign.staging import stage_backup
from dbctl.services.backup.manifest import Kind, Manifest, Member, Origin
from dbctl.services.backup.repository import Backup, Repository
from dbctl.services.backup.sources import ByteProgress, Source
from dbctl.services.backup.writer import BackupWriter
from dbctl.stores import MANIFEST, hash_blocks

#: Suffixes of dump files by form: of compressed forms, and of uncompressed ones.
COMPRESSED_SUFFIXES: Mapping[str, str] = {"custom": ".dump", "plain": ".sql.gz"}
UNCOMPRESSED_SUFFIXES: Mapping[str, str] = {"lance": ".tar"}


class BackupAdopted(Backup, frozen=True, kw_only=True):
    """A backup created from one file or folder."""

    source: str
    time: str  #: description of the source of its time


class BackupsAdopted(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup adopt``."""

    adopted: Sequence[BackupAdopted]
    remarks: Sequence[str] = ()

    def summary(self) -> Row:
        return {
            "adopted": [
                {
                    "id": backup.id,
                    "source": backup.source,
                    "created_at": backup.created_at,
                    "time": backup.time,
                    "databases": backup.databases,
                    "bytes": backup.bytes,
                    "rows": sum(sum(member.rows.values()) for member in backup.members),
                }
                for backup in self.adopted
            ]
        }


class AdoptBackup:
    """A planned ``backup adopt``."""

    purpose = "backup adopt"

    def __init__(
        self,
        app: App,
        repository: Repository,
        paths: Sequence[Path],
        keys: DecryptionKeys,
        *,
        created_at: datetime | None,
        timeout: float,
        advance: ByteProgress = lambda _bytes: None,
    ) -> None:
        """Group the files; each set becomes a backup.

        Args:
            app: the app.
            repository: the destination.
            paths: files and folders.
            keys: for encrypted backups.
            created_at: time of the only file; None: from its name or its modification time.
            timeout: seconds to wait for a lock.
            advance: receives the number of bytes processed since the last call.

        Raises:
            UsageError: a time for several files.
        """
        if created_at is not None and len(paths) != 1:
            raise UsageError(detail="--at: requires exactly one file")
        self.app, self.protected, self.target = app.name, app.protected, app.name
        self._app, self._repository, self._timeout = app, repository, timeout
        self._keys, self._encryption = keys, EncryptionPolicy(app)
        # Files of one set become one backup, regardless of which of them is named.
        path_by_set = {tuple(file_sets.find_set(app, path)): path for path in reversed(paths)}
        self._paths, self._created_at, self._advance = [*reversed(path_by_set.values())], created_at, advance

    def plan(self) -> Plan:
        """Return the backups to create; the files are read and verified, and nothing is written.

        Raises:
            As ``stage_backup`` and ``apply``.
        """
        steps = []
        for path in self._paths:
            with stage_backup(
                self._app, self._repository, path, created_at=self._created_at, trial=False
            ) as (
                backup,
                _,
            ):
                self._refuse_duplicate(path, backup.manifest)
                manifest = backup.manifest
                rows = sum(sum(member.rows.values()) for member in manifest.members)
                origin = f" ({manifest.origin.time})" if manifest.origin else ""
                steps.append(
                    f"create a backup from {path}: {backup.description}, {format_count(rows, 'row')} of {', '.join(manifest.databases)},"
                    f" of {manifest.created_at:%Y-%m-%d %H:%M} UTC{origin}"
                )
        title = f"Adopt into {self._repository.store.location}"
        return Plan(title=title, target=self.target, steps=steps, rows={})

    def apply(self, confirmed: str | None = None) -> BackupsAdopted:
        """Create the backups in order; an error stops the operation and leaves the previous backups.

        Raises:
            AlreadyAdoptedError: a backup has the same content.
            BackupCorruptError: a folder does not match its manifest.
            As ``stage_backup``.
        """
        del confirmed  # nothing is deleted, so no confirmation is required
        adopted, remarks = list[BackupAdopted](), list[str]()
        with self._repository.store.lock(self.purpose, timeout=self._timeout):
            for path in self._paths:
                with stage_backup(
                    self._app,
                    self._repository,
                    path,
                    created_at=self._created_at,
                    trial=True,
                    advance=self._advance,
                ) as (backup, overlay):
                    self._refuse_duplicate(path, backup.manifest)
                    created = self._create_backup(path, backup, overlay)
                remarks += backup.remarks
                time = created.origin.time if created.origin else ""
                adopted.append(self._repository.describe(created, BackupAdopted, source=str(path), time=time))
        return BackupsAdopted(adopted=adopted, remarks=remarks)

    def _create_backup(self, path: Path, backup: StagedBackup, overlay: Repository) -> Manifest:
        manifest = backup.manifest
        if manifest.origin is None:
            if is_encrypted(manifest):
                hint = "Copy encrypted backups with: dbctl backup copy --from REPOSITORY"
                raise FileNotRestorableError(path=path, reason="it is encrypted", hint=hint)
            self._require_valid(manifest, overlay)
            sha256 = hash_blocks(atomic.read_blocks(path / MANIFEST)).sha256
            time = f"its manifest, created by dbctl on {manifest.host}"
            manifest = structs.replace(
                manifest, origin=Origin(path=str(path.resolve()), sha256=sha256, time=time)
            )
            sources: list[Source | CopiedBackupSource] = [CopiedBackupSource(manifest, overlay)]
        else:
            sources = [
                AdoptedSource(self._app, member, overlay, manifest, self._advance)
                for member in manifest.members
            ]
        # A safety backup of another repository becomes a normal backup.
        kind: Kind = "partial" if manifest.kind == "partial" else "backup"
        return create_backup(
            self._app,
            self._repository,
            sources,
            self._encryption,
            left_out=manifest.left_out,
            kind=kind,
            backup_time=manifest.created_at,
            origin=manifest.origin,
        )

    def _require_valid(self, manifest: Manifest, overlay: Repository) -> None:
        findings = verify.find_problems(
            self._app, overlay.store, manifest, deep=True, keys=self._keys, advance=self._advance
        )
        for finding in findings:
            if finding.severity == "error":
                reason = finding.message.removeprefix(f"backup {manifest.id}").lstrip(", ")
                raise BackupCorruptError(id=manifest.id, app=self.app, reason=reason)

    def _manifests(self) -> Sequence[Manifest]:
        """Return the manifests of the repository; empty if it does not exist yet."""
        try:
            return self._repository.manifests()[0]
        except RepositoryMissingError:
            return []

    def _refuse_duplicate(self, path: Path, manifest: Manifest) -> None:
        sha256 = (
            manifest.origin.sha256
            if manifest.origin
            else hash_blocks(atomic.read_blocks(path / MANIFEST)).sha256
        )
        for existing in self._manifests():
            is_same_backup = manifest.origin is None and _content_identity(existing) == _content_identity(
                manifest
            )
            if is_same_backup or (existing.origin and existing.origin.sha256 == sha256):
                raise AlreadyAdoptedError(path=path, id=existing.id)


def _content_identity(manifest: Manifest) -> tuple[datetime, list[str]]:
    """Return values that are unique for a backup."""
    return manifest.created_at, [member.sha256 for member in manifest.members]


class CopiedBackupSource:
    """The files of a backup of another repository, copied unchanged."""

    def __init__(self, manifest: Manifest, overlay: Repository) -> None:
        self._manifest, self._overlay = manifest, overlay

    def pin_snapshot(self) -> bool:
        """Return False: no process writes the files."""
        return False

    def size(self) -> int:
        """Return the number of bytes to copy."""
        return sum(member.bytes for member in self._manifest.members)

    def stored_size(self) -> int:
        """Return the number of bytes in the backup."""
        return self.size()

    def write_members(self, folder: BackupWriter) -> list[Member]:
        """Copy the files into a folder.

        Raises:
            BackupCorruptError: a file changed during the copy.
        """
        members = []
        for member in self._manifest.members:
            with self._overlay.store.open_locally(self._manifest.id, member.file) as path:
                stored = folder.copy(path, member.file)
            if member.sha256 != (stored.inner_sha256 or stored.sha256):
                raise BackupCorruptError(
                    id=self._manifest.id,
                    app=self._manifest.app,
                    reason=f"{member.file} changed during the copy",
                )
            digests = member.digests if stored.encryption == "none" else {}
            members.append(structs.replace(member, **structs.asdict(stored), digests=digests))
        return members


class AdoptedSource(Source):
    """A database that another program copied, with the time of that copy."""

    def __init__(
        self, app: App, member: Member, overlay: Repository, manifest: Manifest, advance: ByteProgress
    ) -> None:
        backup_config = app.configured.backup
        compress: Compression = backup_config.compress if backup_config else "gzip"
        self._dumps = _AdoptedDump(member, overlay, manifest)
        super().__init__(
            app, member.database, advance, form=self._dumps.form, tables=member.only, compress=compress
        )
        self.engine = member.engine

    def _open_source(self) -> Dumps:
        return self._dumps


class _AdoptedDump:
    """A file that replaces its database as the source of a dump: it is copied."""

    supports_partial = False

    def __init__(self, member: Member, overlay: Repository, manifest: Manifest) -> None:
        self._member, self._overlay, self._manifest = member, overlay, manifest
        self.form = member.facts.get("format", "")
        self.is_compressed = self.form in COMPRESSED_SUFFIXES
        self.forms: Mapping[str, str] = {
            self.form: COMPRESSED_SUFFIXES.get(self.form) or UNCOMPRESSED_SUFFIXES.get(self.form, "")
        }

    def blocks_writers(self) -> bool:
        """Return False: no process writes the file."""
        return False

    def estimate_dump_size(self) -> int:
        """Return its size in bytes."""
        return self._member.bytes

    def dump(
        self,
        destination: Path,
        *,
        form: str = "",
        tables: Collection[str] = (),
        progress: Progress = no_progress,
    ) -> DumpResult:
        """Copy the file."""
        del form, tables  # the file has one form and is copied completely
        with self._overlay.store.open_locally(self._manifest.id, self._member.file) as path:
            atomic.copy_file(path, destination)
        progress(1.0)
        verification = DumpVerification(tables=self._member.rows, schema=self._member.schema, problems=())
        return DumpResult(
            taken_at=self._member.taken_at,
            metadata=self._member.facts,
            verification=verification,
            sha256=self._member.sha256,
        )
