"""Files and folders that a user names in place of a backup; an extension reads those that dbctl did not create."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from shlex import quote

from msgspec import structs

from dbctl.engines import registry as engines
from dbctl.errors.backup import (
    FileInvalidError,
    FileNotRestorableError,
    FileUnsafeError,
    RepositoryNotConfiguredError,
)
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import FileFailedError, FileMissingError
from dbctl.extensions import registry
from dbctl.files import atomic
from dbctl.model import Struct
from dbctl.services.app.app import App
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.manifest import Manifest, ManifestInvalidError
from dbctl.services.backup.repository import Backup, ListedKind, Repository
from dbctl.stores.base import MANIFEST, MAX_MANIFEST_BYTES

#: Limit of the decompressed size: this number of bytes or, if larger, this multiple of the compressed size.
MIN_DECOMPRESSION_LIMIT, MAX_COMPRESSION_RATIO = 64 << 20, 100
#: Fact of a member from a foreign dump program, which may have omitted tables: the type of its content.
CONTENT_FACT = "written_as"


class StagedBackup(Struct, frozen=True, kw_only=True):
    """A file or folder as a backup."""

    manifest: Manifest
    description: str
    remarks: list[str]  #: warnings for the user
    is_loaded: bool = False  #: whether a server has loaded it


def repository_or_temp_dir(app: App, address: str) -> Repository:
    """Return the repository, where files are decompressed; without one, use the temporary folder."""
    try:
        return Repository(app, address)
    except RepositoryNotConfiguredError:
        return Repository(app, tempfile.gettempdir())


def stat_file(path: Path) -> os.stat_result:
    """Return the status of a file that the user named; it may be a folder.

    Raises:
        FileMissingError, FileFailedError: it does not exist, or cannot be read.
        FileUnsafeError: other users may write it.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise FileMissingError(kind="file", path=path) from error
    except (OSError, ValueError) as error:
        raise FileFailedError(path=path, reason=getattr(error, "strerror", "") or str(error)) from error
    if stat.S_IMODE(status.st_mode) & stat.S_IWOTH:
        raise FileUnsafeError(path=path, mode=f"{stat.S_IMODE(status.st_mode):o}", quoted=quote(str(path)))
    return status


def decompression_limit(compressed_bytes: int) -> int:
    """Return the most bytes to which a file may be decompressed."""
    return max(MIN_DECOMPRESSION_LIMIT, MAX_COMPRESSION_RATIO * compressed_bytes)


def count_bytes(paths: Sequence[Path]) -> int:
    """Return the number of bytes to read; missing files have 0 bytes."""
    return sum(path.stat().st_size for path in paths if os.path.isfile(path))


def find_foreign_backups(repository: Repository, kind: ListedKind | None) -> Sequence[Backup]:
    """Return the files that dbctl did not create, newest first; without the extension, none.

    Raises:
        NotSupportedError: only they are listed, and the extension is not installed.
    """
    purpose = "find_foreign"
    if kind not in (None, "foreign") or (kind is None and registry.find_place(purpose) is None):
        return ()
    find: Callable[[Repository], Sequence[Backup]] = registry.require(
        purpose, "listing files that dbctl did not create", "Install all of dbctl."
    )
    return find(repository)


def find_missing_live_tables(app: App, database: str, tables: Mapping[str, int]) -> list[str]:
    """Return the live tables that are not in ``tables``; empty if the database cannot be read."""
    with suppress(DbctlError):  # a missing or damaged database is a reason for restoring
        live = app.reader(database, allow_empty=True, familiar_tables=tables).list_dump_tables()
        return sorted(name for name in live if name not in tables)
    return []


@contextmanager
def stage_backup(
    repository: Repository,
    path: Path,
    *,
    created_at: datetime | None = None,
    trial: bool,
    keys: DecryptionKeys | None = None,
) -> Iterator[tuple[StagedBackup, Repository]]:
    """Yield a file or folder as a backup, and the repository through which it is read.

    Args:
        repository: provides temporary space; its backups are not changed.
        path: a backup folder that dbctl created, or, with an extension, a file or folder of another program.
        created_at: time of the backup, unless it has a manifest; None: from the name of the file or its modification time.
        trial: whether to load a dump of another program into a temporary database on its server.
        keys: decrypt an encrypted file; None: it is refused.

    Raises:
        FileMissingError, FileFailedError: it does not exist, or cannot be read.
        FileNotRestorableError: it cannot be restored here.
        FileInvalidError: it is incomplete or damaged.
        FileUnsafeError: other users may write it.
        NotSupportedError: dbctl did not create it, and the extension is not installed.
        Others, as ``dbctl.extensions.adopt.staging.stage_foreign``.
    """
    status = stat_file(path)
    if (
        stat.S_ISDIR(status.st_mode)
        and os.path.lexists(path / MANIFEST)
        and engines.find_folder_engine(path) is None
    ):
        manifest, remarks = _read_backup_folder(repository.app, path)
        backup = StagedBackup(manifest=manifest, description="a backup created by dbctl", remarks=remarks)
        yield backup, repository.overlay(manifest.id, path.resolve())
        return
    hint = f"Name a backup folder that dbctl created, which contains {MANIFEST}."
    stage = registry.require("stage_foreign", f"reading {path} as a backup", hint)
    with stage(repository, path, created_at=created_at, trial=trial, keys=keys) as staged:
        yield staged


def _read_backup_folder(app: App, path: Path) -> tuple[Manifest, list[str]]:
    """Return the manifest of a folder that dbctl created on any machine, and warnings."""
    try:
        manifest = backup_manifest.parse(atomic.read_whole(path / MANIFEST, MAX_MANIFEST_BYTES))
    except ManifestInvalidError as error:
        raise FileInvalidError(path=path, reason=f"its manifest: {error}") from error
    except OSError as error:
        raise FileFailedError(path=path / MANIFEST, reason=error.strerror or str(error)) from error
    if manifest.profile != app.profile.name:
        raise FileNotRestorableError(
            path=path,
            reason=f"it is a backup of {manifest.app} ({manifest.profile})",
            hint=f"{app.name} is {app.profile.title}; select another app with --app.",
        )
    if retained := [member.database for member in manifest.members if member.form == "kept"]:
        raise FileNotRestorableError(
            path=path,
            reason=f"for {', '.join(retained)} it has no data: the server retained the database",
            hint=Remedy("Restore it from its repository with: `restore apply ID`"),
        )
    remarks = []
    if (manifest.app, manifest.host) != (app.name, os.uname().nodename):
        remarks.append(f"{path}: it is a backup of {manifest.app} on {manifest.host}")
    manifest = backup_manifest.mark_foreign(manifest)
    return structs.replace(manifest, id=str(path.resolve()), app=app.name), remarks
