"""Find the files of an app's databases and migrations below a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from dbctl.config.environment import state_folder
from dbctl.engines import registry
from dbctl.errors.base import DbctlError
from dbctl.errors.databases import DatabaseNotFoundError
from dbctl.errors.usage import UsageError
from dbctl.files.atomic import expand_home
from dbctl.profiles.model.databases import Database
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.templates import find_prefixes
from dbctl.services.setup import addresses
from dbctl.url import PATH_ENGINE, locate_path

MAX_DEPTH = 5  #: searched levels below the directory
#: Large folders without databases.
SKIPPED_FOLDERS = frozenset({"node_modules", ".git", ".venv", "__pycache__"})


def find_database(
    profile: Profile, name: str, directory: Path, mismatches: list[str], *, new: bool = False
) -> Path | None:
    """Return the path of a database below ``directory``, or None for a missing optional database.

    With ``new``, a missing file of a required SQLite database has its usual path. If none is found, why files with its names are not
    the database, such as damage, is added to ``mismatches``.
    """
    section = profile.databases[name]
    if section.environment and not (section.find or section.optional):
        expected = (
            f"{' or '.join(section.environment.find)} that sets {addresses.join_variable_names(section)}"
        )
        raise DatabaseNotFoundError(
            name=name, profile=profile.title, files=expected, directory=directory, notes=""
        )
    for pattern in section.find:
        if _has_database_type(directory / pattern, section) and not find_mismatch(
            directory / pattern, profile, name
        ):
            return directory / pattern
    file_names = {Path(pattern).name for pattern in section.find}
    unreadable: list[str] = []
    files = {
        os.path.realpath(path): path
        for path in walk_directory(directory, unreadable)
        if path.name in file_names and _has_database_type(path, section)
    }
    reasons = {path: find_mismatch(path, profile, name) for path in files.values()}
    valid = [path for path, reason in reasons.items() if not reason]
    nearest = [path for path in valid if len(path.parts) == min(len(candidate.parts) for candidate in valid)]
    if len(nearest) > 1:
        names = ", ".join(str(path) for path in nearest)
        raise UsageError(
            detail=f"several files match the database {name}: {names}; select one with --url {name}=PATH"
        )
    if nearest:
        return nearest[0]
    mismatches += [f"{path} does not match: {reason}" for path, reason in reasons.items()]
    if section.optional:
        return None
    if new and not reasons and section.find and PATH_ENGINE in section.engines:
        return directory / section.find[0]
    notes = [f" {mismatch}." for mismatch in mismatches]
    notes += [f" {folder} is not readable." for folder in unreadable]
    raise DatabaseNotFoundError(
        name=name,
        profile=profile.title,
        files=" or ".join(sorted(file_names)) or "any file",
        directory=directory,
        notes="".join(notes),
    )


def find_app_directory(profile: Profile, *, new: bool = False) -> Path:
    """Return the usual directory of the app if only that contains a database, otherwise the current directory.

    With ``new``, the usual directory is returned if the app has one, unless the current one contains a database.
    """
    current = Path()
    if new and profile.home and not _contains_database(profile, current):
        return expand_home(profile.home[0])
    for path in profile.home:
        try:
            home = expand_home(path)
        except UsageError:  # the user has no home directory
            continue
        if (
            home.is_dir()
            and not _contains_database(profile, current, excluding=home)
            and _contains_database(profile, home)
        ):
            return home
    return current


def _contains_database(profile: Profile, directory: Path, *, excluding: Path | None = None) -> bool:
    """Whether a directory contains a required database, outside of ``excluding``."""
    for name, section in profile.databases.items():
        if section.optional or not section.find:
            continue
        try:
            path = find_database(profile, name, directory, [])
        except DatabaseNotFoundError:
            continue
        except UsageError:  # several files match
            return True
        if path and not (excluding and path.resolve().is_relative_to(excluding.resolve())):
            return True
    return False


def strip_pattern(section: Database, path: Path) -> Path | None:
    """Return the directory of the app, derived from the path of a database, or None if it is ambiguous."""
    for pattern in sorted(section.find, key=lambda candidate: -len(Path(candidate).parts)):
        parts = Path(pattern).parts
        if len(parts) > 1 and path.parts[-len(parts) :] == parts:
            return Path(*path.parts[: -len(parts)])
    return None


def walk_directory(directory: Path, unreadable: list[str]) -> Iterator[Path]:
    """Yield files and folders below ``directory``, without dbctl's own; adds unreadable folders to ``unreadable``."""
    own = state_folder()
    for root, folders, files in os.walk(directory, onerror=lambda error: unreadable.append(error.filename)):
        folders[:] = sorted(name for name in set(folders) - SKIPPED_FOLDERS if Path(root, name) != own)
        if len(Path(root).relative_to(directory).parts) >= MAX_DEPTH:
            folders.clear()
        for name in sorted([*files, *folders]):
            yield Path(root) / name


def _has_database_type(path: Path, section: Database) -> bool:
    """Whether a path is a file, or a folder for engines that store databases in folders."""
    is_folder = locate_path(path, section.engines).is_folder
    # unlike the methods of pathlib, these raise no error for a folder of another user
    return os.path.isdir(path) if is_folder else os.path.isfile(path)


def find_mismatch(path: Path, profile: Profile, name: str) -> str:
    """Return why a file is not the database, or an empty string."""
    section = profile.databases[name]
    try:
        url = locate_path(path, section.engines)
        with closing(registry.load_engine(url.engine).open_for_reading(url, name, timeout=1)) as db:
            tables = db.tables()
    except DbctlError as error:
        return str(error)
    missing = [table for table in section.needs if table not in tables]
    if not missing or find_prefixes(profile, name, tables):
        return ""
    recognised = section.find_wrong_app_hint(tables)
    return f"it lacks table {', '.join(missing)}" + (f" ({recognised})" if recognised else "")


def find_migrations(section: Database, directory: Path) -> list[Path]:
    """Return the first existing folder of migrations, if any."""
    if section.migrations is None:
        return []
    return [directory / folder for folder in section.migrations.find if (directory / folder).is_dir()][:1]
