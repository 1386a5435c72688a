"""Sets of foreign files: files with the same time in their names, or a folder of databases."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dbctl.engines import registry
from dbctl.files import is_regular
from dbctl.services.app import App
from dbctl.stores import MANIFEST

#: Placeholder of the time in documented file names, and the pattern that it matches.
TIME, _TIME_PATTERN = "{time}", r"(?P<time>\d[\dTZ_-]*)"
#: Suffixes of files that were compressed separately.
COMPRESSION_SUFFIXES = ("", ".gz", ".zst")


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


def find_missing(app: App, path: Path) -> Sequence[str]:
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
        expression = re.escape(pattern.name).replace(re.escape(TIME), _TIME_PATTERN)
        if match := re.fullmatch(rf"{expression}(?:\.gz|\.zst)?", path.name):
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
