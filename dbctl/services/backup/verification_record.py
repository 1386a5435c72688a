"""Verification record of a backup: results after its creation, stored next to its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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


#: Result of ``read`` for an invalid file. It may contain a pin, so its backup is not deleted.
UNREADABLE = Verification()
#: Why such a backup is not deleted, and the reason of the pin in the record that replaces the file.
UNREADABLE_RECORD = "its record cannot be read, and may contain a pin"


def read(store: Store, folder: str) -> Verification:
    """Return the record; an empty one if there is none, and ``UNREADABLE`` if the file cannot be read or is invalid."""
    try:
        content = store.read_verification(folder)
        verification = msgspec.json.decode(content, type=Verification) if content else Verification()
    except (*JSON_ERRORS, RepositoryFailedError):
        return UNREADABLE
    return verification if all(map(is_plausible_time, _timestamps(verification))) else UNREADABLE


def update(store: Store, folder: str, change: Callable[[Verification], Verification]) -> None:
    """Replace the record by what ``change`` makes of it, or of one with a pin, if it cannot be read.

    Raises:
        RepositoryFailedError, DiskFullError: it cannot be written; verifying a read-only repository is still possible.
        BusyError: as ``Store.lock_record``.
    """
    with store.lock_record(folder):
        existing = _read_pinned(store, folder)
        if (updated := change(existing)) != existing:
            store.write_verification(folder, msgspec.json.encode(updated).decode())


def _read_pinned(store: Store, folder: str) -> Verification:
    """Return the record, or one with a pin instead of one that cannot be read."""
    if (existing := read(store, folder)) is not UNREADABLE:
        return existing
    return Verification(pin=Pin(at=now(), by="dbctl", reason=UNREADABLE_RECORD))


def record(
    store: Store,
    folder: str,
    errors: Sequence[str],
    *,
    all_files: bool,
    deep: bool,
    drills: Mapping[str, Drill] = {},
) -> None:
    """Record the result of a verification, with its successful drills by database; raises as ``update`` does.

    ``all_files``: all of its files were read; ``deep``: they were also loaded.
    """

    def change(previous: Verification) -> Verification:
        if errors:
            is_deep = deep or (previous.failed is not None and previous.failed.deep)
            return structs.replace(previous, failed=Failure(at=now(), deep=is_deep, message=errors[0]))
        if not (all_files or drills):
            return previous
        failure_remains = previous.failed is not None and (
            not all_files or (previous.failed.deep and not deep)
        )
        return structs.replace(
            previous,
            verified_at=now() if all_files else previous.verified_at,
            loaded_at=now() if all_files and deep else previous.loaded_at,
            failed=previous.failed if failure_remains else None,
            drills={**previous.drills, **drills},
        )

    update(store, folder, change)


def copy_record(source: Store, destination: Store, folder: str) -> None:
    """Merge the record of a backup into the record of its copy; raises as ``update`` does.

    A pin is also copied. The time of verification is not copied, because it concerns the storage. A failure to load the backup is copied if the
    copy has no record.
    """
    other = _read_pinned(source, folder)

    def merge(existing: Verification) -> Verification:
        has_failure = other.failed is not None and other.failed.deep and existing == Verification()
        return structs.replace(
            existing,
            drills=_merge(existing.drills, other.drills),
            moments=_merge(existing.moments, other.moments),
            fetched_at=max(filter(None, [existing.fetched_at, other.fetched_at]), default=None),
            failed=other.failed if has_failure else existing.failed,
            pin=existing.pin or other.pin,
        )

    update(destination, folder, merge)


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
