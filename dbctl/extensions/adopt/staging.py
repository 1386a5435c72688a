"""Read a foreign file or folder as a backup: detect its content and verify it, without changing it.

The file is copied into a temporary folder first, and only the copy is read: later changes of the file do not affect the
verified data. The staged backup is available through an overlay of the repository while it is in use.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from shlex import quote

from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.file_type import TOC_FILE, detect_file_type
from dbctl.errors.backup import FileNotRestorableError
from dbctl.errors.databases import SameFileError
from dbctl.extensions.adopt.discovery import find_missing_files, find_set
from dbctl.extensions.adopt.import_file import ForeignImport
from dbctl.files import age, atomic
from dbctl.services.app.app import App
from dbctl.services.backup.app_files import list_database_files
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.manifest import Origin
from dbctl.services.backup.named_files import StagedBackup, stat_file
from dbctl.services.backup.repository import Repository
from dbctl.stores.base import MANIFEST


@contextmanager
def stage_foreign(
    repository: Repository,
    path: Path,
    *,
    created_at: datetime | None,
    trial: bool,
    keys: DecryptionKeys | None,
) -> Iterator[tuple[StagedBackup, Repository]]:
    """Yield a file or folder of another program as ``stage_backup`` does.

    Raises:
        FileMissingError, FileFailedError: a file of its set does not exist, or cannot be read.
        FileNotRestorableError: it cannot be restored here.
        FileInvalidError: it is incomplete or damaged.
        FileUnsafeError: other users may write it.
        WrongAppError: it is a database of another app.
        UsageError: it matches several databases.
        SameFileError: it is a live database of the app.
        BusyError, ChangedWhileReadError: another process is writing it.
        KeyWrongError, KeyInvalidError: the identities cannot decrypt it.
        DecompressionLimitError, InsufficientSpaceError, DiskFullError: it is too large.
    """
    app = repository.app
    set_paths = find_set(app, path)
    if path.is_dir() and set_paths == [path] and registry.find_folder_engine(path) is None:
        raise _create_folder_error(path)
    for set_path in set_paths:
        stat_file(set_path)
        _refuse_live(app, set_path)
    encryption = repository.encryption  # with encryption, the repository must not contain plain files
    staging_folder = encryption.staging if encryption else None
    if keys and keys.file_identities and any(map(_is_encrypted, set_paths)):
        staging_folder = keys.staging
    open_temp_dir = staging_folder.folder if staging_folder else repository.store.temp_dir
    with open_temp_dir(sum(set_path.stat().st_size for set_path in set_paths)) as temp_dir:
        folder = temp_dir / "folder"
        folder.mkdir(mode=0o700)
        staged_files = list[StagedBackup]()
        for index, set_path in enumerate(set_paths):
            file_dir = temp_dir / str(index)
            file_dir.mkdir(mode=0o700)
            if keys and keys.file_identities and _is_encrypted(set_path):
                set_path = _decrypt(set_path, file_dir / "decrypted", keys)  # noqa: PLW2901
            file_import = ForeignImport(app, set_path, file_dir, created_at, source_name=path.name)
            staged_files.append(file_import.stage(folder, trial=trial))
        backup = _join(app, path, staged_files)
        yield backup, repository.overlay(backup.manifest.id, folder)


def _is_encrypted(path: Path) -> bool:
    return os.path.isfile(path) and detect_file_type(path).content == "encrypted"


def _decrypt(path: Path, folder: Path, keys: DecryptionKeys) -> Path:
    """Return a decrypted copy of a file, with its times."""
    folder.mkdir(mode=0o700)
    copy = folder / path.name.removesuffix(".age")
    with atomic.open_regular(path) as source, atomic.create_file(copy, temporary=True) as file:
        age.decrypt(source.read, file.write, keys.file_identities, target=str(path), name=path.name)
        status = os.fstat(source.fileno())
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    return copy


def _join(app: App, path: Path, parts: Sequence[StagedBackup]) -> StagedBackup:
    """Combine the files of a set into one backup, with the time of the first."""
    manifests, first = [part.manifest for part in parts], parts[0].manifest
    origins = [manifest.origin.sha256 for manifest in manifests if manifest.origin]
    sha256 = origins[0] if len(parts) == 1 else hashlib.sha256("\n".join(origins).encode()).hexdigest()
    time = first.origin.time if first.origin else ""
    remarks = [remark for part in parts for remark in part.remarks]
    if missing := find_missing_files(app, path):
        remarks.append(f"{path}: no copy of {', '.join(missing)} with the same time is next to it")
    return StagedBackup(
        manifest=structs.replace(
            first,
            id=str(path.resolve()),
            origin=Origin(path=str(path.resolve()), sha256=sha256, time=time),
            members=[member for manifest in manifests for member in manifest.members],
        ),
        description=" and ".join(dict.fromkeys(part.description for part in parts)),
        remarks=remarks,
        is_loaded=any(part.is_loaded for part in parts),
    )


def _refuse_live(app: App, path: Path) -> None:
    """Refuse a live database of the app: opening it would release the locks that this process has on it."""
    for url in app.configured.databases.values():
        if url.is_folder and path.resolve() == Path(url.path).resolve():
            raise SameFileError(path=path)
    for live_file in list_database_files(app):
        with suppress(OSError):
            if path.samefile(live_file):
                raise SameFileError(path=path)


def _create_folder_error(path: Path) -> FileNotRestorableError:
    """Return the error about a folder without a database that dbctl can read."""
    contents = path / TOC_FILE
    if os.path.isfile(contents) and detect_file_type(contents).content == "postgresql-directory":
        hint = f"Convert it with: pg_restore --file=dump.sql {quote(str(path))}"
        return FileNotRestorableError(path=path, reason="it is a PostgreSQL dump (directory)", hint=hint)
    hint = "Name a file in it, or a folder of a backup created by dbctl."
    return FileNotRestorableError(path=path, reason=f"it is a folder without {MANIFEST}", hint=hint)
