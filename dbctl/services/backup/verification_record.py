"""Verification record of a backup: results after its creation, stored next to its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import structs

from dbctl.errors.backup import RepositoryFailedError
from dbctl.model import JSON_ERRORS, Struct, now
from dbctl.services.backup.manifest import Count, Timestamp, is_plausible_time
from dbctl.stores.base import Store


class Drill(Struct, frozen=True, kw_only=True):
    """A successful drill of one database of a backup."""

    at: Timestamp
    #: until the rows of the restored database were counted: a restore without its safety backup
    duration: timedelta
    bytes: Count  #: of the backup
    tables: Count
    rows: Count
    digests: Count  #: tables whose content was compared
    checks: Count  #: successful comparisons of data that the app stores twice
    host: str
    dbctl: str  #: its version
    as_of: Timestamp | None = None  #: the moment to which the log of its server was replayed before


class Failure(Struct, frozen=True, kw_only=True):
    """A failed verification."""

    at: Timestamp
    deep: bool  #: detected by loading the backup; comparing checksums does not clear it
    message: str


class Pin(Struct, frozen=True, kw_only=True):
    """Protection of a backup from deletion, until it is removed."""

    at: Timestamp
    by: str  #: user of the operating system
    reason: str


class Verification(Struct, frozen=True, kw_only=True):
    """The content of the record."""

    verified_at: Timestamp | None = None  #: last successful verification of all its files
    loaded_at: Timestamp | None = None  #: last one that also loaded them
    failed: Failure | None = None  #: after that
    drills: Mapping[str, Drill] = {}  #: the last drill of each database
    #: of the copy from which it began: the last drill of each database as of a moment
    moments: Mapping[str, Drill] = {}
    #: of the newest part of a log: when its server had written nothing after it
    fetched_at: Timestamp | None = None
    pin: Pin | None = None


#: Result of ``read`` for an invalid file. It may contain a pin, so its backup is not deleted by rules.
UNREADABLE = Verification()


def read(store: Store, folder: str) -> Verification:
    """Return the record; an empty one if there is none, and ``UNREADABLE`` if the file cannot be read or is invalid."""
    try:
        content = store.read_verification(folder)
        verification = msgspec.json.decode(content, type=Verification) if content else Verification()
    except (*JSON_ERRORS, RepositoryFailedError):
        return UNREADABLE
    return verification if all(map(is_plausible_time, _timestamps(verification))) else UNREADABLE


def write(store: Store, folder: str, verification: Verification) -> None:
    """Replace the record.

    Raises:
        RepositoryFailedError, DiskFullError: it cannot be written; verifying a read-only repository is still possible.
    """
    store.write_verification(folder, msgspec.json.encode(verification).decode())


def record(
    store: Store,
    folder: str,
    errors: Sequence[str],
    *,
    all_files: bool,
    deep: bool,
    drills: Mapping[str, Drill] = {},
) -> None:
    """Record the result of a verification; raises as ``write`` does.

    Args:
        store: of the backup.
        folder: of the backup.
        errors: the problems of the backup.
        all_files: whether all of its files were read.
        deep: whether they were also loaded.
        drills: the successful drills by database.
    """
    previous = read(store, folder)
    if errors:
        failed = Failure(at=now(), deep=deep, message=errors[0])
        write(store, folder, structs.replace(previous, failed=failed))
    elif all_files or drills:
        failure_remains = previous.failed is not None and (
            not all_files or (previous.failed.deep and not deep)
        )
        verification = structs.replace(
            previous,
            verified_at=now() if all_files else previous.verified_at,
            loaded_at=now() if all_files and deep else previous.loaded_at,
            failed=previous.failed if failure_remains else None,
            drills={**previous.drills, **drills},
        )
        write(store, folder, verification)


def record_moment(store: Store, folder: str, database: str, drill: Drill) -> None:
    """Record the drill of a database as of a moment, which began with a backup; raises as ``write`` does."""
    previous = read(store, folder)
    write(store, folder, structs.replace(previous, moments={**previous.moments, database: drill}))


def record_fetch(store: Store, folder: str, fetched_at: datetime) -> None:
    """Record that a server had written nothing after a part of its log; raises as ``write`` does."""
    write(store, folder, structs.replace(read(store, folder), fetched_at=fetched_at))


def copy_record(source: Store, destination: Store, folder: str) -> None:
    """Merge the record of a backup into the record of its copy; raises as ``write`` does.

    A pin is also copied. The time of verification is not copied, because it concerns the storage. A failure to load the backup is copied if the
    copy has no record.
    """
    source_record, existing = read(source, folder), read(destination, folder)
    failed = (
        source_record.failed
        if source_record.failed and source_record.failed.deep and existing == Verification()
        else existing.failed
    )
    pin = existing.pin or source_record.pin
    updated = structs.replace(
        existing,
        drills=_merge(existing.drills, source_record.drills),
        moments=_merge(existing.moments, source_record.moments),
        fetched_at=max(filter(None, [existing.fetched_at, source_record.fetched_at]), default=None),
        failed=failed,
        pin=pin,
    )
    if updated != existing:
        write(destination, folder, updated)


def _merge(existing: Mapping[str, Drill], other: Mapping[str, Drill]) -> Mapping[str, Drill]:
    """Return the later drill of each database."""
    newer = {
        name: drill for name, drill in other.items() if name not in existing or existing[name].at < drill.at
    }
    return {**existing, **newer}


def _timestamps(verification: Verification) -> Iterator[datetime]:
    yield from filter(None, [verification.verified_at, verification.loaded_at, verification.fetched_at])
    drills = (*verification.drills.values(), *verification.moments.values())
    yield from (part.at for part in (verification.pin, verification.failed, *drills) if part)
