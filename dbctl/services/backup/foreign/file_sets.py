"""What belongs together of what somebody left: files that an app's script called by one time, or a folder of databases."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dbctl.engines import registry
from dbctl.files import is_regular
from dbctl.services.app import App
from dbctl.stores import LAST

#: How an app's documents write where the time stands, and what it may be.
TIME, _TIME = "{time}", r"(?P<time>\d[\dTZ_-]*)"
#: What may follow, where it was packed behind the script's back.
PACKED = ("", ".gz", ".zst")


def parts(app: App, path: Path) -> Sequence[Path]:
    """Return what is read where somebody names ``path``, one for each database, in the order of the profile.

    That is the path itself, but for a folder in which databases lie, and for a file beside which others of its time are.
    """
    if path.is_dir():
        if os.path.lexists(path / LAST) or registry.holds_tables(path):
            return [path]
        return list(inside(app, path).values()) or [path]
    found = dict(_of_one_time(app, path))
    return [found[name] for name in app.profile.databases if name in found] or [path]


def missing(app: App, path: Path) -> Sequence[str]:
    """Return the databases of the app that the scripts which left ``path`` keep with it, and that are not beside it."""
    if app.only or path.is_dir():
        return []
    found = dict(_of_one_time(app, path))
    kept = {one.database for one in app.profile.backup.foreign if TIME in one.name} - found.keys()
    return [name for name in _meant(app) if found and name in kept and name in app.configured.databases]


def _meant(app: App) -> Sequence[str]:
    """Return the databases that a restore may bring back: those of other programs want to be asked for."""
    told = app.profile.databases
    return [app.only] if app.only else [name for name, one in told.items() if one.mode == "read-write"]


def _of_one_time(app: App, path: Path) -> Iterator[tuple[str, Path]]:
    told = [one for one in app.profile.backup.foreign if TIME in one.name and one.database]
    for one in told:
        pattern = re.escape(one.name).replace(re.escape(TIME), _TIME)
        if named := re.fullmatch(rf"{pattern}(?:\.gz|\.zst)?", path.name):
            yield one.database, path
            break
    else:
        return
    for other in told:
        if app.only or other.database == one.database or other.database not in _meant(app):
            continue
        plain = path.with_name(other.name.replace(TIME, named["time"]))
        for beside in (plain.with_name(f"{plain.name}{ending}") for ending in PACKED):
            if is_regular(beside):
                yield other.database, beside
                break


def inside(app: App, folder: Path) -> Mapping[str, Path]:
    """Return what lies in a folder by the names that the databases of the app have, in the order of the profile."""
    found = dict[str, Path]()
    for name in _meant(app):
        told = app.profile.databases[name]
        url = app.configured.databases.get(name)
        names = [Path(url.path).name] if url and url.is_local else []
        names += [Path(one).name for one in told.find]
        for path in (folder / one for one in dict.fromkeys(names)):
            if not path.is_symlink() and (is_regular(path) or registry.holds_tables(path)):
                found[name] = path
                break
    return found
