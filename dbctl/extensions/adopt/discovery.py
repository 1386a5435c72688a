"""Find backup files of scripts and users, and match them with databases of an app, by engine, tables and names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.file_type import FileType, detect_file_type
from dbctl.errors.backup import FileNotRestorableError
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.usage import UsageError, WrongAppError
from dbctl.extensions.adopt.timestamps import DetectedTime, detect_time
from dbctl.files.atomic import expand_home
from dbctl.profiles.model.profile import ForeignFiles
from dbctl.profiles.templates import find_prefixes
from dbctl.services.app.app import App
from dbctl.services.backup.app_files import find_database_identities, find_identity
from dbctl.services.backup.manifest import member_file_name
from dbctl.services.backup.repository import ID, Backup, Repository
from dbctl.stores.base import MANIFEST, FolderState

#: Placeholder of the time in documented file names.
TIME = "{time}"
#: Suffixes of files that were compressed separately.
COMPRESSION_SUFFIXES = ("", ".gz", ".zst")


def is_dbctl_file_name(app: App, path: Path) -> bool:
    """Whether the file has a name by dbctl, with a UTC time, and not one documented by the app."""
    if ID.fullmatch(path.parent.name):
        return True
    dbctl_prefixes = {member_file_name(app, name, "*").partition("*")[0] for name in app.profile.databases}
    documented_prefixes = tuple(
        pattern.name.partition(TIME)[0] for pattern in app.profile.backup.foreign if TIME in pattern.name
    )
    return path.name.startswith(tuple(dbctl_prefixes)) and not path.name.startswith(documented_prefixes)


def detect_database(app: App, engine: str, tables: Mapping[str, int], path: Path) -> str:
    """Return the database of the app to which a file belongs, by its engine and tables.

    Raises:
        FileNotRestorableError: no database of the app uses the engine.
        WrongAppError: required tables are missing.
        UsageError: it matches several databases.
    """
    databases = {name: database for name, database in app.profile.databases.items() if app.only in ("", name)}
    engines = {
        name: app.configured.databases[name].engine for name in databases if name in app.configured.databases
    }
    matches = [name for name, database_engine in engines.items() if database_engine == engine]
    if not matches:
        names = ", ".join(
            f"{name} in {registry.engine_title(database_engine)}" for name, database_engine in engines.items()
        )
        raise FileNotRestorableError(
            path=path,
            reason=f"its engine is {registry.engine_title(engine)}",
            hint=Remedy("{app} uses {used}. Import rows from other sources with: `data import TABLE FILE`"),
            app=app.name,
            used=names or "no configured database",
        )
    profile = app.base_profile  # the file may be from another version of the app
    complete = [name for name in matches if profile.prefix in find_prefixes(profile, name, tables)]
    if len(complete) == 1:
        return complete[0]
    if not complete:
        name = matches[0]
        missing = [table for table in databases[name].needs if table not in tables]
        description = f"table {', '.join(missing)}" if tables else "every table"
        partial_hint = "A partial dump can only restore tables that the database has."
        raise WrongAppError(
            target=path,
            profile=app.profile.title,
            missing=description,
            hint=f"Nothing was changed. {databases[name].find_wrong_app_hint(tables) or partial_hint}",
        )
    raise UsageError(
        detail=f"{path} matches {' and '.join(complete)}: select one with --db {' or --db '.join(complete)}"
    )


def find_partial_match(app: App, engine: str, tables: Mapping[str, int]) -> str:
    """Return the only server database that has all of the tables; empty without a unique match."""
    matches = list[str]()
    for name in app.profile.databases:
        if tables and app.only in ("", name):
            with suppress(DbctlError):  # an unreadable database does not match
                live = app.reader(name)
                if app.url(name).engine == engine and live.dumps and live.dumps.supports_partial:
                    matches += [name] if live.tables().keys() >= tables.keys() else []
    return matches[0] if len(matches) == 1 else ""


def match_name(pattern: str, name: str) -> re.Match[str] | None:
    """Match a documented file name, in which ``{time}`` is any time, with a name that may have a compression suffix."""
    expression = re.escape(pattern).replace(re.escape(TIME), r"(?P<time>\d[\dTZ_-]*)")
    return re.fullmatch(rf"{expression}(?:\.gz|\.zst)?", name)


def find_set(app: App, path: Path) -> Sequence[Path]:
    """Return the set of ``path``, one path per database, in the order of the profile.

    For a folder of databases, these are the databases; for a file, also the files with the same time next to it; otherwise
    only the path itself.
    """
    if path.is_dir():
        if os.path.lexists(path / MANIFEST) or registry.find_folder_engine(path) is not None:
            return [path]
        return list(find_in_folder(app, path).values()) or [path]
    paths = dict(_find_same_time(app, path))
    return [paths[name] for name in app.profile.databases if name in paths] or [path]


def find_missing_files(app: App, path: Path) -> Sequence[str]:
    """Return the databases that the app's scripts save together with ``path``, but whose files are missing."""
    if app.only or path.is_dir():
        return []
    paths = dict(_find_same_time(app, path))
    expected = {
        pattern.database for pattern in app.profile.backup.foreign if TIME in pattern.name
    } - paths.keys()
    return [
        name
        for name in _restorable_databases(app)
        if paths and name in expected and name in app.configured.databases
    ]


def _restorable_databases(app: App) -> Sequence[str]:
    """Return the databases that a restore includes; those of other programs require ``--db``."""
    databases = app.profile.databases
    return (
        [app.only]
        if app.only
        else [name for name, database in databases.items() if database.mode == "read-write"]
    )


def _find_same_time(app: App, path: Path) -> Iterator[tuple[str, Path]]:
    patterns = [
        pattern for pattern in app.profile.backup.foreign if TIME in pattern.name and pattern.database
    ]
    for pattern in patterns:
        if match := match_name(pattern.name, path.name):
            yield pattern.database, path
            break
    else:
        return
    for sibling_pattern in patterns:
        if (
            app.only
            or sibling_pattern.database == pattern.database
            or sibling_pattern.database not in _restorable_databases(app)
        ):
            continue
        plain = path.with_name(sibling_pattern.name.replace(TIME, match["time"]))
        for sibling in (plain.with_name(f"{plain.name}{suffix}") for suffix in COMPRESSION_SUFFIXES):
            if os.path.isfile(sibling):
                yield sibling_pattern.database, sibling
                break


def find_in_folder(app: App, folder: Path) -> Mapping[str, Path]:
    """Return the paths in a folder that have the name of a database of the app, in the order of the profile."""
    paths = dict[str, Path]()
    for name in _restorable_databases(app):
        database = app.profile.databases[name]
        url = app.configured.databases.get(name)
        names = [Path(url.path).name] if url and url.is_local else []
        names += [Path(file_name).name for file_name in database.find]
        for path in (folder / file_name for file_name in dict.fromkeys(names)):
            if not path.is_symlink() and (
                os.path.isfile(path) or registry.find_folder_engine(path) is not None
            ):
                paths[name] = path
                break
    return paths


#: Maximum number of entries to read from one folder; folders of backups have fewer.
MAX_FILES = 1000
#: Side files of a SQLite database that contain committed rows.
SIDE_FILE_SUFFIXES = ("-wal", "-journal")
#: Suffix of a copied database file, as in ``user.db.bak`` or ``chat.backup.db``.
COPY_SUFFIX = re.compile(r"[._-](?:bak|backup|old|orig|save|copy)\b.*", re.IGNORECASE)


class AdoptedFiles:
    """The files from which the backups of a repository were created."""

    def __init__(self, repository: Repository) -> None:
        manifests = sorted(repository.manifests()[0], key=lambda manifest: manifest.verified_at)
        self._manifests = {manifest.origin.path: manifest for manifest in manifests if manifest.origin}

    def find(self, paths: Sequence[Path]) -> str:
        """Return the backup of the files of a set; empty: none, or one of them was replaced since."""
        files = [*paths, *(Path(f"{path}{suffix}") for path in paths for suffix in SIDE_FILE_SUFFIXES)]
        # a copy can retain the time of the content, but not that of the status
        changed = max((file.stat().st_ctime for file in files if file.exists()), default=0)
        for path in paths:
            manifest = self._manifests.get(str(path.resolve()))
            if manifest and changed <= manifest.verified_at.timestamp():
                return manifest.id
        return ""


def find_foreign_backups(repository: Repository) -> list[Backup]:
    """Return the foreign backups, newest first."""
    app, seen_files, items = repository.app, find_database_identities(repository.app), list[Backup]()
    adopted = AdoptedFiles(repository)
    locations = list(_folders_to_scan(app, repository))
    for location, include_all in locations:
        for path in _list_files(location):
            pattern = _match_pattern(app, path)
            if not (pattern or include_all) or not os.path.isfile(path) or find_identity(path) in seen_files:
                continue
            with suppress(OSError):  # it was deleted, or is not readable
                file_type = detect_file_type(path)
                if file_type.engine or pattern:
                    items.append(_describe_file(app, path, file_type, pattern, adopted.find([path])))
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
    return [path for path in _list_files(folder) if os.path.isfile(path) and _match_pattern(app, path)]


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


def _list_entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry, _ in zip(entries, range(MAX_FILES), strict=False):
            if not entry.name.startswith("."):
                yield entry


def _list_files(folder: Path) -> Sequence[Path]:
    return [folder / name for name in sorted(entry.name for entry in _list_entries(folder))]


def _list_folders(app: App, folder: Path) -> Iterator[Path]:
    """Yield the subfolders that may contain copies; folders of live databases are excluded."""
    database_paths = {Path(url.path).resolve() for url in app.configured.databases.values() if url.is_local}
    for entry in _list_entries(folder):
        path = folder / entry.name
        if not entry.is_dir(follow_symlinks=False) or ID.fullmatch(entry.name):
            continue
        if not any(database_path.is_relative_to(path.resolve()) for database_path in database_paths):
            yield path
