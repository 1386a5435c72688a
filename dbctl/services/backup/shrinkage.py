"""Loss of rows: a backup with far fewer rows than the backups before it, as after a deletion by mistake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median_low

from msgspec import structs

from dbctl.config.model import BackupConfig
from dbctl.model import Struct, format_count, now
from dbctl.services.backup import verification_record
from dbctl.services.backup.manifest import Manifest
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.verification_record import UNREADABLE, Pin

#: The largest and smallest number of earlier backups that are compared. The median follows an intended loss after half.
COMPARED, REQUIRED = 10, 3
#: The share of rows that a backup may lack without ``max_shrink``.
DEFAULT_LIMIT = 0.5


class Shrinkage(Struct, frozen=True, kw_only=True):
    """The loss of rows of one database in a backup."""

    database: str
    rows: int  #: in the backup
    median: int  #: rows in the compared backups before it
    compared: int  #: their number
    lost: float  #: the missing share of the median, 0 to 1
    larger: str  #: the newest of the compared backups with at least the median of rows


def describe_shrinkage(shrinkage: Shrinkage, backup: str) -> str:
    """Return the message about the loss in the backup of this id."""
    percent = (shrinkage.median - shrinkage.rows) * 100 // shrinkage.median
    return (
        f"backup {backup} has {format_count(shrinkage.rows, 'row')}, {percent}% fewer than the "
        f"median of the {shrinkage.compared} backups before it ({shrinkage.median:,})"
    )


def find_shrinkage(
    database: str, backups: Sequence[Manifest], settings: BackupConfig | None
) -> Shrinkage | None:
    """Return the loss of rows of a database in the first of its backups, if it is over the limit.

    Args:
        database: its name.
        backups: of any kind, newest first; only complete ones with the database are compared.
        settings: of the app, with the limit.
    """
    limit = settings.max_shrink if settings and settings.max_shrink else DEFAULT_LIMIT
    counts = [
        (manifest.id, sum(member.rows.values()))
        for manifest in backups
        if manifest.kind == "backup" and (member := manifest.restorable_member(database))
    ]
    if not counts or counts[0][0] != backups[0].id:
        return None
    (_, rows), *earlier = counts[: COMPARED + 1]
    if len(earlier) < REQUIRED:
        return None
    median = median_low(count for _, count in earlier)
    if rows >= median * (1 - limit):
        return None
    return Shrinkage(
        database=database,
        rows=rows,
        median=median,
        compared=len(earlier),
        lost=1 - rows / median,
        larger=next(name for name, count in earlier if count >= median),
    )


def pin_larger(repository: Repository, shrunken: Sequence[Shrinkage], backup: str) -> Iterator[str]:
    """Pin the larger backups before a shrunken one, and yield their ids; the caller has the lock of the repository.

    Raises:
        RepositoryFailedError, DiskFullError: a record cannot be written.
    """
    for name in dict.fromkeys(shrinkage.larger for shrinkage in shrunken):
        record = verification_record.read(repository.store, name)
        if (
            record is not UNREADABLE and record.pin is None
        ):  # prune retains a backup with an unreadable record
            pin = Pin(at=now(), by="dbctl", reason=f"backup {backup} has far fewer rows")
            verification_record.write(repository.store, name, structs.replace(record, pin=pin))
        yield name
