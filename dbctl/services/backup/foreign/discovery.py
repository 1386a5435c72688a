"""Files that the app's own scripts, or somebody's hands, left as backups: found by name and by what they begin with.

They are unproven. Nothing but their beginning is read, and links are not followed.
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
from dbctl.engines.file_type import Recognised, recognise
from dbctl.errors import UsageError
from dbctl.files import expand_home
from dbctl.profiles.model import Loose
from dbctl.services.app import App
from dbctl.services.backup.foreign import file_sets
from dbctl.services.backup.foreign.detect import is_ours
from dbctl.services.backup.foreign.timestamps import dated
from dbctl.services.backup.manifest import file_name
from dbctl.services.backup.repository import ID, Backup, Repository
from dbctl.stores import State

#: Files of one folder that are looked at; where there are more, it is no folder of backups.
MOST = 1000
#: What may follow the name of a database whose file somebody copied beside it, as ``user.db.bak`` or ``chat.backup.db``.
COPIES = re.compile(r"[._-](?:bak|backup|old|orig|save|copy)\b.*", re.IGNORECASE)
_TIME = r"\d[\dTZ_-]*"


def found(app: App, repository: Repository) -> list[Backup]:
    """Return them, the newest first."""
    seen, items = _identities(app), list[Backup]()
    adopted = {one.origin.path: one.id for one in repository.manifests()[0] if one.origin}
    for place, everything in _places(app, repository):
        for path in _files(place):
            kind = _kind(app, path)
            if not (kind or everything) or (identity := _identity(path)) in seen or identity is None:
                continue
            with suppress(OSError):  # it went away, or this user may not read it
                what = recognise(path)
                if what.engine or kind:
                    items.append(_told(app, path, what, kind, adopted.get(str(path.resolve()), "")))
                    seen.add(identity)
    folders = {}
    for place, everything in _places(app, repository):
        for folder in _folders(app, place) if everything else ():
            held = file_sets.inside(app, folder)
            together = len(held) > 1 or any(one.is_dir() for one in held.values())
            if together and folder.resolve() not in folders:
                folders[folder.resolve()] = _told_folder(app, folder, held)
    return sorted([*items, *folders.values()], key=lambda one: one.created_at, reverse=True)


def _told_folder(app: App, folder: Path, held: Mapping[str, Path]) -> Backup:
    when = dated(folder.name, folder.stat().st_mtime)
    names = ", ".join(one.name for one in held.values())
    return Backup(
        id=str(folder),
        kind="foreign",
        app=app.name,
        created_at=when.at,
        path=str(folder),
        bytes=sum(one.lstat().st_size for path in held.values() for one in (path, *path.rglob("*"))),
        complete=False,
        databases=list(held),
        verified_at=None,
        recipients=(),
        taken_within=timedelta(0),
        drills={},
        members=(),
        left_out=(),
        note=f"a folder with {names}; time: {when.told}",
    )


def _told(app: App, path: Path, what: Recognised, kind: Loose | None, adopted: str) -> Backup:
    told = path.stat()
    when = dated(path.name, told.st_mtime, ours=is_ours(app, path))
    database = kind.database if kind else ""
    if not database:
        fitting = [
            name
            for name, url in app.configured.databases.items()
            if url.engine == what.engine and name in app.profile.databases
        ]
        database = fitting[0] if len(fitting) == 1 else ""
    notes = [what.told, *([kind.says] if kind and kind.says else []), f"time: {when.told}"]
    notes += [f"adopted as {adopted}"] if adopted else []
    return Backup(
        id=str(path),
        kind="foreign",
        app=app.name,
        created_at=when.at,
        path=str(path),
        bytes=told.st_size,
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


def _places(app: App, repository: Repository) -> Iterator[tuple[Path, bool]]:
    """Yield folders, and whether everything counts in them that could be restored, or only what is called so."""
    top = app.configured.directory
    place = Path(repository.store.place)
    if place.is_absolute():  # else it is no folder of this machine
        yield place.parent, True
        yield place, True
        with suppress(OSError):
            for name, state in repository.store.folders().items():
                if state is State.FOREIGN or (state is State.INCOMPLETE and not ID.fullmatch(name)):
                    yield place / name, True
    for told in app.profile.backup.places:
        with suppress(UsageError):  # the user has no home directory
            yield top / expand_home(told), True
    yield top, False
    for url in app.configured.databases.values():
        if housing := registry.housing(url):
            yield housing.file.parent, False


def _kind(app: App, path: Path) -> Loose | None:
    """Return what the profile says of files that are called so, or that it is a copy beside a database."""
    for one in app.profile.backup.foreign:
        if _pattern(one.name).fullmatch(path.name):
            return one
    for name in app.profile.databases:
        if _pattern(file_name(app, name, "{time}")).fullmatch(path.name):
            return Loose(name="{time}", database=name)
    for name, url in app.configured.databases.items():
        housing = registry.housing(url)
        if housing and name in app.profile.databases and _is_copy(path.name, housing.file):
            return Loose(name=housing.file.name, database=name)
    return None


def _is_copy(name: str, database: Path) -> bool:
    for begin in (database.name, database.stem):
        if name.startswith(begin) and COPIES.fullmatch(name[len(begin) :]):
            return True
    return False


def _pattern(name: str) -> re.Pattern[str]:
    plain = re.escape(name).replace(re.escape("{time}"), _TIME)
    return re.compile(rf"{plain}(?:\.gz|\.zst)?")


def _files(place: Path) -> Sequence[Path]:
    try:
        with os.scandir(place) as entries:
            names = [
                entry.name
                for entry, _ in zip(entries, range(MOST), strict=False)
                if not entry.name.startswith(".")
            ]
    except OSError:
        return ()
    return [place / name for name in sorted(names)]


def _folders(app: App, place: Path) -> Iterator[Path]:
    """Yield the folders of one that may hold what somebody copied, and not what the app itself works on."""
    live = {Path(url.path).resolve() for url in app.configured.databases.values() if url.is_local}
    with suppress(OSError), os.scandir(place) as entries:
        for entry, _ in zip(entries, range(MOST), strict=False):
            path = place / entry.name
            if (
                entry.name.startswith(".")
                or not entry.is_dir(follow_symlinks=False)
                or ID.fullmatch(entry.name)
            ):
                continue
            if not any(one == path.resolve() or one.is_relative_to(path.resolve()) for one in live):
                yield path


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what a regular file is known by; None of everything else."""
    try:
        told = path.lstat()
    except OSError:
        return None
    return (told.st_dev, told.st_ino) if S_ISREG(told.st_mode) else None


def _identities(app: App) -> set[tuple[int, int] | None]:
    """Return what the files of the app's databases are known by, which are not opened here."""
    housings = [housing for url in app.configured.databases.values() if (housing := registry.housing(url))]
    return {_identity(path.resolve()) for one in housings for path in (one.file, *one.beside)} - {None}
