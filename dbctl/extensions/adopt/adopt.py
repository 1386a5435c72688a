"""Adopt foreign backups: verify their files and create backups from copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from msgspec import structs

from dbctl import progress
from dbctl.errors.backup import (
    AlreadyAdoptedError,
    BackupCorruptError,
    BackupEmptyError,
    FileNotRestorableError,
    RepositoryMissingError,
)
from dbctl.errors.base import Remedy
from dbctl.errors.usage import UsageError
from dbctl.extensions.adopt.discovery import AdoptedFiles, find_in_folder, find_set, list_known_files
from dbctl.files import atomic
from dbctl.files.atomic import hash_blocks
from dbctl.files.codecs import SUFFIXES
from dbctl.model import ChangeResult, Compression, Effect, Plan, Row, format_count
from dbctl.progress import Progress, no_progress
from dbctl.services.backup.app_files import BackupOperation
from dbctl.services.backup.create import create_backup
from dbctl.services.backup.encryption import DecryptionKeys, is_encrypted
from dbctl.services.backup.increments import DELTA_SUFFIX
from dbctl.services.backup.manifest import Manifest, Member, Origin, member_file_name
from dbctl.services.backup.member_files import BackupWriter, open_reader
from dbctl.services.backup.named_files import count_bytes, stage_backup
from dbctl.services.backup.repository import Backup, Repository
from dbctl.services.backup.sources import MemberSource, count_in_bytes
from dbctl.services.backup.verifier import BackupVerifier
from dbctl.stores.base import MANIFEST

#: Suffixes of dump files by form: of compressed forms, and of uncompressed ones.
COMPRESSED_SUFFIXES: Mapping[str, str] = {"plain": ".sql.gz"}
UNCOMPRESSED_SUFFIXES: Mapping[str, str] = {"custom": ".dump", "lance": ".tar"}


#: The fields of a member that another copy of its file changes.
STORED_FIELDS = ("file", "bytes", "sha256", "encryption", "inner_bytes", "inner_sha256")


class BackupAdopted(Backup, frozen=True, kw_only=True):
    """A backup created from one file or folder."""

    source: str
    time: str  #: description of the source of its time


class BackupsAdopted(ChangeResult, frozen=True, kw_only=True):
    """Result of ``backup adopt``."""

    is_timed = True

    adopted: Sequence[BackupAdopted]
    remarks: Sequence[str] = ()

    @property
    def effect(self) -> Effect | None:
        if not self.adopted:
            return None
        rows = sum(sum(member.rows.values()) for backup in self.adopted for member in backup.members)
        size = sum(backup.bytes for backup in self.adopted)
        names = [backup.id for backup in self.adopted]
        return Effect("adopted", "backup", names, counts={"rows": rows}, bytes=size)

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


class AdoptBackup(BackupOperation):
    def __init__(
        self,
        repository: Repository,
        paths: Sequence[Path],
        keys: DecryptionKeys,
        *,
        created_at: datetime | None = None,
    ) -> None:
        """Group the files; each set becomes a backup.

        Args:
            repository: the destination.
            paths: files and folders. Of a folder of a script's backups, the files with names in the profile are adopted, if
                no backup was created from them yet.
            keys: for encrypted backups.
            created_at: time of the only file; None: from its name or its modification time.

        Raises:
            UsageError: a time for several files.
        """
        super().__init__(repository)
        expanded = {path: self._expand(path) for path in paths}
        self._from_folders = {file for path, files in expanded.items() if files != [path] for file in files}
        paths = [file for files in expanded.values() for file in files]
        if created_at is not None and len(paths) != 1:
            raise UsageError(detail="--at: requires exactly one file")
        self._keys, self._created_at = keys, created_at
        # Files of one set become one backup, regardless of which of them is named.
        path_by_set = {tuple(find_set(self._app, path)): path for path in reversed(paths)}
        self._paths = [*reversed(path_by_set.values())]

    def _expand(self, path: Path) -> list[Path]:
        """Return the files of a folder that are adopted, or the path itself."""
        if not path.is_dir() or (path / MANIFEST).exists() or find_in_folder(self._app, path):
            return [path]
        files = new = list_known_files(self._app, path)
        with suppress(RepositoryMissingError):  # it will be created
            adopted = AdoptedFiles(self._repository)
            new = [file for file in files if not adopted.find(find_set(self._app, file))]
        return new if files else [path]

    def size(self) -> int:
        return count_bytes(self._paths)

    def plan(self) -> Plan:
        """Return the backups to create; the files are read and verified, and nothing is written.

        Raises:
            As ``stage_backup`` and ``apply``.
        """
        steps = []
        for path in self._paths:
            with (
                progress.uncounted(),
                stage_backup(self._repository, path, created_at=self._created_at, trial=False) as staged,
            ):
                description, manifest = staged[0].description, staged[0].manifest
                if self._find_duplicate(path, manifest):
                    continue
                rows = format_count(sum(sum(member.rows.values()) for member in manifest.members), "row")
                origin = f" ({manifest.origin.time})" if manifest.origin else ""
                steps.append(
                    f"create a backup from {path}: {description}, {rows} of {', '.join(manifest.databases)},"
                    f" of {manifest.created_at:%Y-%m-%d %H:%M} UTC{origin}"
                )
        return self._create_plan(f"Adopt into {self._repository.store.location}", steps)

    def apply(self, confirmed: str | None = None) -> BackupsAdopted:
        """Create the backups in order; an error stops the operation and leaves the previous backups.

        Files of a folder with the content of an existing backup are skipped.

        Raises:
            AlreadyAdoptedError: a backup has the same content.
            BackupCorruptError: a folder does not match its manifest.
            As ``stage_backup``.
        """
        del confirmed  # nothing is deleted, so no confirmation is required
        adopted, remarks, repository = list[BackupAdopted](), list[str](), self._repository
        with self._lock():
            for path in self._paths:
                with stage_backup(repository, path, created_at=self._created_at, trial=True) as (
                    backup,
                    overlay,
                ):
                    if duplicate := self._find_duplicate(path, backup.manifest):
                        remarks.append(str(duplicate))
                        continue
                    created = self._create_backup(path, backup.manifest, overlay)
                remarks += backup.remarks
                time = created.origin.time if created.origin else ""
                adopted.append(repository.describe(created, BackupAdopted, source=str(path), time=time))
        return BackupsAdopted(adopted=adopted, remarks=remarks)

    def _create_backup(self, path: Path, manifest: Manifest, overlay: Repository) -> Manifest:
        origin = manifest.origin
        if origin is None:
            if is_encrypted(manifest):
                hint = Remedy("Copy encrypted backups with: `backup copy --from REPOSITORY --to REPOSITORY`")
                raise FileNotRestorableError(path=path, reason="it is encrypted", hint=hint)
            self._require_valid(manifest, overlay)
            time = f"its manifest, created by dbctl on {manifest.host}"
            origin = Origin(path=str(path.resolve()), sha256=_hash_manifest(path), time=time)
        return create_backup(
            self._repository,
            [CopiedSource(manifest, overlay)],
            left_out=manifest.left_out,
            # A safety backup of another repository becomes a normal backup.
            kind=manifest.kind if manifest.kind in ("partial", "recovered") else "backup",
            backup_time=manifest.created_at,
            origin=origin,
        )

    def _require_valid(self, manifest: Manifest, overlay: Repository) -> None:
        verifier = BackupVerifier(overlay, self._keys, deep=True)
        for finding in verifier.find_problems(manifest):
            if finding.severity == "error":
                reason = finding.message.removeprefix(f"backup {manifest.id}").lstrip(", ")
                raise BackupCorruptError(id=manifest.id, app=self.app, reason=reason)

    def _find_duplicate(self, path: Path, manifest: Manifest) -> AlreadyAdoptedError | None:
        """Return the error about a file with the content of a backup; raise it unless the file is one of a folder."""
        sha256 = manifest.origin.sha256 if manifest.origin else _hash_manifest(path)
        with suppress(RepositoryMissingError):  # it will be created
            for existing in self._repository.manifests()[0]:
                is_same_backup = manifest.origin is None and _content_identity(existing) == _content_identity(
                    manifest
                )
                if is_same_backup or (existing.origin and existing.origin.sha256 == sha256):
                    error = AlreadyAdoptedError(path=path, id=existing.id)
                    if path in self._from_folders:
                        return error
                    raise error
        return None


def _hash_manifest(folder: Path) -> str:
    return hash_blocks(atomic.read_blocks(folder / MANIFEST)).sha256


def _content_identity(manifest: Manifest) -> tuple[datetime, list[str]]:
    """Return values that are unique for a backup."""
    return manifest.created_at, [member.sha256 for member in manifest.members]


class CopiedSource(MemberSource):
    """The files of a backup of another repository, copied unchanged, or those of another program, compressed."""

    def __init__(self, manifest: Manifest, overlay: Repository) -> None:
        self._manifest, self._overlay = manifest, overlay

    def size(self) -> int:
        return sum(member.size if member.delta else member.bytes for member in self._manifest.members)

    def write_members(self, folder: BackupWriter) -> list[Member]:
        """Copy the files into a folder.

        Raises:
            BackupCorruptError: a file changed during the copy.
            BackupEmptyError: a dump has no table.
        """
        manifest, members = self._manifest, list[Member]()
        for member in manifest.members:
            compress: Compression = "none"
            report: Progress = no_progress
            file = member.file
            if manifest.origin:
                file, compress = self._choose_file(member, folder.name)
                report = count_in_bytes((member.bytes, progress.advance))
            with open_reader(self._overlay.store, None) as reader:
                if member.delta:  # its base may be missing in this repository, or encrypted in another way
                    path = reader.decode(manifest, member, f"{manifest.app}/{member.database}")
                    file = member.file.removesuffix(SUFFIXES[member.compress]).removesuffix(DELTA_SUFFIX)
                    file, compress = file + SUFFIXES[member.compress], member.compress
                    member = structs.replace(member, delta=None, sha256=member.content_sha256)  # noqa: PLW2901
                else:
                    path = reader.stored_path(manifest.id, member)
                member = structs.replace(member, stored_in="")  # noqa: PLW2901
                stored = folder.compress(path, file, compress, report)
            if compress == "none" and member.sha256 != (stored.inner_sha256 or stored.sha256):
                reason = f"{member.file} changed during the copy"
                raise BackupCorruptError(id=manifest.id, app=manifest.app, reason=reason)
            digests = member.digests if stored.encryption == "none" else {}
            copied = structs.replace(
                member, digests=digests, **{name: getattr(stored, name) for name in STORED_FIELDS}
            )
            if compress != "none":
                copied = structs.replace(copied, compress=compress, plain_bytes=stored.plain_bytes)
            members.append(copied)
        return members

    def _choose_file(self, member: Member, backup_id: str) -> tuple[str, Compression]:
        """Return the name and the compression of the file of another program in the backup."""
        app, form = self._overlay.app, member.facts.get("format", "")
        if not member.rows:
            raise BackupEmptyError(target=app.target(member.database))
        compress = app.configured.backup_settings.compress
        if form in COMPRESSED_SUFFIXES:
            compress = "none"
        ending = COMPRESSED_SUFFIXES.get(form) or UNCOMPRESSED_SUFFIXES.get(form, "")
        name = member_file_name(app, member.database, backup_id, ending=ending)
        return name + SUFFIXES[compress], compress
