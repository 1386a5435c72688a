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

from dbctl.engines import registry
from dbctl.engines.file_type import FileType, detect_file_type
from dbctl.errors.usage import UsageError
from dbctl.files.atomic import expand_home, is_regular
from dbctl.profiles.model.profile import ForeignFiles
from dbctl.services.app.app import App
from dbctl.services.backup.app_files import find_database_identities, find_identity
from dbctl.services.backup.foreign.matching import find_in_folder, is_dbctl_file_name, match_name
from dbctl.services.backup.foreign.timestamps import DetectedTime, detect_time
from dbctl.services.backup.manifest import member_file_name
from dbctl.services.backup.repository import ID, Backup, Repository
from dbctl.stores.base import FolderState

#: Maximum number of entries to read from one folder; folders of backups have fewer.
MAX_FILES = 1000
#: Suffix of a copied database file, as in ``user.db.bak`` or ``chat.backup.db``.
COPY_SUFFIX = re.compile(r"[._-](?:bak|backup|old|orig|save|copy)\b.*", re.IGNORECASE)


def find_foreign_backups(repository: Repository) -> list[Backup]:
    """Return the foreign backups, newest first."""
    app, seen_files, items = repository.app, find_database_identities(repository.app), list[Backup]()
    adopted = {manifest.origin.path: manifest.id for manifest in repository.manifests()[0] if manifest.origin}
    locations = list(_folders_to_scan(app, repository))
    for location, include_all in locations:
        for path in _list_files(location):
            pattern = _match_pattern(app, path)
            if not (pattern or include_all) or not is_regular(path) or find_identity(path) in seen_files:
                continue
            with suppress(OSError):  # it was deleted, or is not readable
                file_type = detect_file_type(path)
                if file_type.engine or pattern:
                    items.append(
                        _describe_file(app, path, file_type, pattern, adopted.get(str(path.resolve()), ""))
                    )
                    seen_files.add(find_identity(path))
    folders = {}
    for location, include_all in locations:
        for folder in _list_folders(app, location) if include_all else ():
            members = find_in_folder(app, folder)
            is_set = len(members) > 1 or any(member_path.is_dir() for member_path in members.values())
            if is_set and folder.resolve() not in folders:
                folders[folder.resolve()] = _describe_folder(app, folder, members)
    return sorted([*items, *folders.values()], key=lambda backup: backup.created_at, reverse=True)


def list_known_files(app: App, folder: Path) -> list[Path]:
    """Return the files of a folder with names in the profile, and the copies of a configured database."""
    return [path for path in _list_files(folder) if is_regular(path) and _match_pattern(app, path)]


def _describe_folder(app: App, folder: Path, members: Mapping[str, Path]) -> Backup:
    time = detect_time(folder.name, folder.stat().st_mtime)
    names = ", ".join(entry.name for entry in members.values())
    byte_count = sum(entry.lstat().st_size for path in members.values() for entry in (path, *path.rglob("*")))
    return _describe(
        app, folder, time, byte_count, list(members), f"a folder with {names}; time: {time.description}"
    )


def _describe_file(
    app: App, path: Path, file_type: FileType, pattern: ForeignFiles | None, adopted: str
) -> Backup:
    status = path.stat()
    time = detect_time(path.name, status.st_mtime, is_utc=is_dbctl_file_name(app, path))
    databases = [pattern.database] if pattern and pattern.database else []
    if not databases:
        matches = [
            name
            for name, url in app.configured.databases.items()
            if url.engine == file_type.engine and name in app.profile.databases
        ]
        databases = matches if len(matches) == 1 else []
    notes = [file_type.description]
    notes += [pattern.note] if pattern and pattern.note else []
    notes.append(f"time: {time.description}")
    notes += [f"adopted as {adopted}"] if adopted else []
    return _describe(app, path, time, status.st_size, databases, "; ".join(notes))


def _describe(
    app: App, path: Path, time: DetectedTime, byte_count: int, databases: Sequence[str], note: str
) -> Backup:
    return Backup(
        id=str(path),
        kind="foreign",
        app=app.name,
        created_at=time.timestamp,
        path=str(path),
        bytes=byte_count,
        complete=False,
        databases=databases,
        verified_at=None,
        recipients=(),
        taken_within=timedelta(0),
        drills={},
        members=(),
        left_out=(),
        note=note,
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
        if match_name(pattern.name, path.name):
            return pattern
    for name in app.profile.databases:
        if match_name(member_file_name(app, name, "{time}"), path.name):
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
