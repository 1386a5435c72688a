"""What was found out about a backup since it was made: the remark that is kept beside its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import structs

from dbctl.errors import RepositoryFailedError
from dbctl.model import Value, now
from dbctl.services.backup.manifest import Moment, Number, is_of_a_clock
from dbctl.stores import Store


class Drill(Value, frozen=True, kw_only=True):
    """One database of a backup that was restored on trial, and found to be what it was."""

    at: Moment
    #: until the database stood, its rows counted: what a restore takes, but for keeping what it replaces
    duration: timedelta
    bytes: Number  #: of the backup
    tables: Number
    rows: Number
    digests: Number  #: tables whose content was compared value by value
    checks: Number  #: things that the app keeps in several places, and that were found to agree
    host: str
    dbctl: str  #: its version


class Failure(Value, frozen=True, kw_only=True):
    """That a backup is not what it was."""

    at: Moment
    deep: bool  #: found by loading it; a look at its files alone does not take that back
    message: str


class Proven(Value, frozen=True, kw_only=True):
    """The remark."""

    verified_at: Moment | None = (
        None  #: when all its files were last read whole and found as they were written
    )
    failed: Failure | None = None  #: since then
    drills: Mapping[str, Drill] = {}  #: by database, the last one of each


def read(store: Store, folder: str) -> Proven:
    """Return what is known; nothing where the remark cannot be read, for then it is worth nothing."""
    try:
        noted = store.noted(folder)
        found = msgspec.json.decode(noted, type=Proven) if noted else Proven()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RepositoryFailedError):
        return Proven()
    return found if all(map(is_of_a_clock, _times(found))) else Proven()


def write(store: Store, folder: str, proven: Proven) -> None:
    """Keep what is known, in place of what was.

    Raises:
        RepositoryFailedError, DiskFullError: it cannot be kept; who may only read a repository can still look into it.
    """
    store.note(folder, msgspec.json.encode(proven).decode())


def record(
    store: Store,
    folder: str,
    wrong: Sequence[str],
    *,
    whole: bool,
    deep: bool,
    drills: Mapping[str, Drill] = {},
) -> None:
    """Keep how a look at a backup ended; raises as ``write`` does.

    Args:
        store: where it rests.
        folder: the backup.
        wrong: what was wrong with it.
        whole: whether all of its files were read.
        deep: whether they were loaded, too.
        drills: of the databases that were restored on trial.
    """
    known = read(store, folder)
    if wrong:
        failed = Failure(at=now(), deep=deep, message=wrong[0])
        write(store, folder, structs.replace(known, failed=failed))
    elif whole or drills:
        stays = known.failed is not None and (not whole or (known.failed.deep and not deep))
        proven = Proven(
            verified_at=now() if whole else known.verified_at,
            failed=known.failed if stays else None,
            drills={**known.drills, **drills},
        )
        write(store, folder, proven)


def carry(source: Store, destination: Store, folder: str) -> None:
    """Let what is known of a backup be known of its copy, too, which holds the very same bytes; raises as ``write`` does.

    When it was read does not follow, for that is about the disk. That it could not be loaded does, where nothing else is
    known of the copy.
    """
    here, there = read(source, folder), read(destination, folder)
    newer = {
        name: drill
        for name, drill in here.drills.items()
        if name not in there.drills or there.drills[name].at < drill.at
    }
    failed = here.failed if here.failed and here.failed.deep and there == Proven() else there.failed
    carried = structs.replace(there, drills={**there.drills, **newer}, failed=failed)
    if carried != there:
        write(destination, folder, carried)


def _times(found: Proven) -> Iterator[datetime]:
    if found.verified_at:
        yield found.verified_at
    if found.failed:
        yield found.failed.at
    yield from (one.at for one in found.drills.values())
