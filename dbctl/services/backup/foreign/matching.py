"""Match foreign files with databases of an app, by engine, tables and names; files of one time form a set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dumps, list_dump_tables
from dbctl.errors.backup import FileNotRestorableError
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.usage import UsageError, WrongAppError
from dbctl.files.atomic import is_regular
from dbctl.profiles.table_prefix import find_prefixes
from dbctl.services.app.app import App
from dbctl.services.backup.manifest import member_file_name
from dbctl.services.backup.repository import ID
from dbctl.stores.base import MANIFEST

#: Placeholder of the time in documented file names.
TIME = "{time}"
#: Suffixes of files that were compressed separately.
COMPRESSION_SUFFIXES = ("", ".gz", ".zst")
#: Fact of a member from a foreign dump program, which may have omitted tables: the type of its content.
CONTENT_FACT = "written_as"


def find_missing_live_tables(app: App, database: str, tables: Mapping[str, int]) -> list[str]:
    """Return the live tables that are not in ``tables``; empty if the database cannot be read."""
    with suppress(DbctlError):  # a missing or damaged database is a reason for restoring
        live = list_dump_tables(app.reader(database, allow_empty=True, familiar_tables=tables))
        return sorted(name for name in live if name not in tables)
    return []


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
                dumps = live.part(Dumps)
                if app.url(name).engine == engine and dumps and dumps.supports_partial:
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
            if is_regular(sibling):
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
            if not path.is_symlink() and (is_regular(path) or registry.find_folder_engine(path) is not None):
                paths[name] = path
                break
    return paths
