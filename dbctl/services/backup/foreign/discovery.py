"""Find backup files of scripts and users, by their names and first bytes.

The files are not verified: only their first bytes are read. Links are not followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from stat import S_ISREG

from dbctl.engines import registry
from dbctl.engines.file_type import FileType, detect_file_type
from dbctl.errors import UsageError
from dbctl.files import expand_home
from dbctl.profiles.model import ForeignFiles
from dbctl.services.app import App
from dbctl.services.backup.foreign import file_sets
from dbctl.services.backup.foreign.matching import is_dbctl_file_name
from dbctl.services.backup.foreign.timestamps import detect_time
from dbctl.services.backup.manifest import member_file_name
from dbctl.services.backup.repository import ID, Backup, Repository
from dbctl.stores import FolderState

#: Maximum number of entries to read from one folder; folders of backups have fewer.
MAX_FILES = 1000
#: Suffix of a copied database file, as in ``user.db.bak`` or ``chat.backup.db``.
COPY_SUFFIX = re.compile(r"[._-](?:bak|backup|old|orig|save|copy)\b.*", re.IGNORECASE)
_TIME_PATTERN = r"\d[\dTZ_-]*"


def find_foreign_backups(app: App, repository: Repository) -> list[Backup]:
    """Return the foreign backups, newest first."""
    seen_files, items = _database_identities(app), list[Backup]()
    adopted = {manifest.origin.path: manifest.id for manifest in repository.manifests()[0] if manifest.origin}
    for location, include_all in _folders_to_scan(app, repository):
        for path in _list_files(location):
            kind = _match_pattern(app, path)
            if not (kind or include_all) or (identity := _identity(path)) in seen_files or identity is None:
                continue
            with suppress(OSError):  # it was deleted, or is not readable
                file_type = detect_file_type(path)
                if file_type.engine or kind:
                    items.append(
                        _describe_file(app, path, file_type, kind, adopted.get(str(path.resolve()), ""))
                    )
                    seen_files.add(identity)
    folders = {}
    for location, include_all in _folders_to_scan(app, repository):
        for folder in _list_folders(app, location) if include_all else ():
            members = file_sets.find_in_folder(app, folder)
            is_set = len(members) > 1 or any(member_path.is_dir() for member_path in members.values())
            if is_set and folder.resolve() not in folders:
                folders[folder.resolve()] = _describe_folder(app, folder, members)
    return sorted([*items, *folders.values()], key=lambda backup: backup.created_at, reverse=True)


def _describe_folder(app: App, folder: Path, members: Mapping[str, Path]) -> Backup:
    time = detect_time(folder.name, folder.stat().st_mtime)
    names = ", ".join(entry.name for entry in members.values())
    return Backup(
        id=str(folder),
        kind="foreign",
        app=app.name,
        created_at=time.timestamp,
        path=str(folder),
        bytes=sum(entry.lstat().st_size for path in members.values() for entry in (path, *path.rglob("*"))),
        complete=False,
        databases=list(members),
        verified_at=None,
        recipients=(),
        taken_within=timedelta(0),
        drills={},
        members=(),
        left_out=(),
        note=f"a folder with {names}; time: {time.description}",
    )


def _describe_file(
    app: App, path: Path, file_type: FileType, pattern: ForeignFiles | None, adopted: str
) -> Backup:
    status = path.stat()
    time = detect_time(path.name, status.st_mtime, is_utc=is_dbctl_file_name(app, path))
    database = pattern.database if pattern else ""
    if not database:
        matches = [
            name
            for name, url in app.configured.databases.items()
            if url.engine == file_type.engine and name in app.profile.databases
        ]
        database = matches[0] if len(matches) == 1 else ""
    notes = [
        file_type.description,
        *([pattern.note] if pattern and pattern.note else []),
        f"time: {time.description}",
    ]
    notes += [f"adopted as {adopted}"] if adopted else []
    return Backup(
        id=str(path),
        kind="foreign",
        app=app.name,
        created_at=time.timestamp,
        path=str(path),
        bytes=status.st_size,
        complete=False,
        databases=[database] if database else [],
        verified_at=None,
        recipients=(),
        taken_within=timedelta(0),
        drills={},
        members=(),
        left_out=(),
        note="; ".join(notes),
    )


def _folders_to_scan(app: App, repository: Repository) -> Iterator[tuple[Path, bool]]:
    """Yield folders, each with whether to include all restorable files or only those with a matching name."""
    app_dir = app.configured.directory
    repository_path = Path(repository.store.location)
    if repository_path.is_absolute():  # otherwise the store is remote
        yield repository_path.parent, True
        yield repository_path, True
        with suppress(OSError):
            for name, state in repository.store.list_folders().items():
                if state is FolderState.FOREIGN or (
                    state is FolderState.INCOMPLETE and not ID.fullmatch(name)
                ):
                    yield repository_path / name, True
    for location in app.profile.backup.foreign_folders:
        with suppress(UsageError):  # the user has no home directory
            yield app_dir / expand_home(location), True
    yield app_dir, False
    for url in app.configured.databases.values():
        if database_files := registry.load_engine(url.engine).database_files(url):
            yield database_files.file.parent, False


def _match_pattern(app: App, path: Path) -> ForeignFiles | None:
    """Return the pattern of the profile for a file name, or one for a copy next to its database."""
    for pattern in app.profile.backup.foreign:
        if _name_pattern(pattern.name).fullmatch(path.name):
            return pattern
    for name in app.profile.databases:
        if _name_pattern(member_file_name(app, name, "{time}")).fullmatch(path.name):
            return ForeignFiles(name="{time}", database=name)
    for name, url in app.configured.databases.items():
        database_files = registry.load_engine(url.engine).database_files(url)
        if database_files and name in app.profile.databases and _is_copy(path.name, database_files.file):
            return ForeignFiles(name=database_files.file.name, database=name)
    return None


def _is_copy(name: str, database: Path) -> bool:
    for begin in (database.name, database.stem):
        if name.startswith(begin) and COPY_SUFFIX.fullmatch(name[len(begin) :]):
            return True
    return False


def _name_pattern(name: str) -> re.Pattern[str]:
    plain = re.escape(name).replace(re.escape("{time}"), _TIME_PATTERN)
    return re.compile(rf"{plain}(?:\.gz|\.zst)?")


def _list_files(folder: Path) -> Sequence[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry, _ in zip(entries, range(MAX_FILES), strict=False)
                if not entry.name.startswith(".")
            ]
    except OSError:
        return ()
    return [folder / name for name in sorted(names)]


def _list_folders(app: App, folder: Path) -> Iterator[Path]:
    """Yield the subfolders that may contain copies; folders of live databases are excluded."""
    database_paths = {Path(url.path).resolve() for url in app.configured.databases.values() if url.is_local}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry, _ in zip(entries, range(MAX_FILES), strict=False):
            path = folder / entry.name
            if (
                entry.name.startswith(".")
                or not entry.is_dir(follow_symlinks=False)
                or ID.fullmatch(entry.name)
            ):
                continue
            if not any(
                database_path == path.resolve() or database_path.is_relative_to(path.resolve())
                for database_path in database_paths
            ):
                yield path


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the identity of a regular file; None for other types."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if S_ISREG(status.st_mode) else None


def _database_identities(app: App) -> set[tuple[int, int] | None]:
    """Return the identities of the app's database files, which must not be opened here."""
    all_files = [
        files
        for url in app.configured.databases.values()
        if (files := registry.load_engine(url.engine).database_files(url))
    ]
    return {_identity(path.resolve()) for entry in all_files for path in (entry.file, *entry.side_files)} - {
        None
    }
