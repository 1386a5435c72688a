"""Samples: what is stored of a database at one time, and how long."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from dbctl.model import MAX_SKEW, Struct, group, now
from dbctl.services.events.store import EventStore

if TYPE_CHECKING:
    from dbctl.sqlite_library import Database

#: App and database.
DatabaseKey: TypeAlias = tuple[str, str]

#: All samples of this age are retained, then the last of each hour, day, and week.
ALL, HOURLY, DAILY = timedelta(days=2), timedelta(days=28), timedelta(days=730)
#: Characters of the time (``2026-11-22T03:00:00+00:00``) that samples of one hour, and of one day, have in common.
_HOUR, _DAY = 13, 10
#: The clock must be wrong for this number of samples before it thins out samples too early.
_WITNESSES = 8


class TableSample(Struct, frozen=True, kw_only=True, array_like=True):
    """Size of a table."""

    rows: int | None
    bytes: int | None = None  #: with its indexes; None: not measured
    estimated: bool = False  #: whether ``rows`` is an estimate


class Sample(Struct, frozen=True, kw_only=True):
    """Measurements of one database at one time; unknown values are None."""

    app: str
    database: str
    taken_at: datetime
    bytes: int | None = None
    free_bytes: int | None = None  #: on the disk of the database
    disk_bytes: int | None = None  #: size of that disk
    disk: str = ""  #: where it is mounted
    users: int | None = None
    tables: Mapping[str, TableSample] = {}
    figures: Mapping[str, float] = {}  #: of the profile, by ``report.column``

    @property
    def rows(self) -> int | None:
        """The rows of all tables; None if those of a table are unknown."""
        counts = [table.rows for table in self.tables.values()]
        known = [count for count in counts if count is not None]
        return sum(known) if known and len(known) == len(counts) else None


_DECODER = msgspec.json.Decoder(Sample)


def save_samples(folder: Path, config: str, samples: Sequence[Sample]) -> None:
    """Record samples, and thin out old ones of the same databases once a day.

    Raises:
        JournalUnavailableError, JournalCorruptError: they were not recorded.
    """
    with EventStore(folder).writing() as connection:
        for sample in samples:
            key = (config, sample.app, sample.database)
            earlier = _list_times(connection, key)
            taken_at = sample.taken_at.isoformat()
            connection.execute(
                "insert into samples (config, app, database, taken_at, record) values (?, ?, ?, ?, ?)",
                (*key, taken_at, msgspec.json.encode(sample)),
            )
            if earlier and earlier[-1][1][:_DAY] != taken_at[:_DAY]:
                witnesses = [*(time for _, time in earlier[-_WITNESSES:]), taken_at]
                surplus = select_surplus(earlier, datetime.fromisoformat(min(witnesses)))
                connection.executemany("delete from samples where id = ?", [(row_id,) for row_id in surplus])


def read_samples(
    folder: Path, config: str, *, apps: Sequence[str] = (), since: datetime | None = None
) -> Mapping[DatabaseKey, Sequence[Sample]]:
    """Return the samples of each database of a configuration, in the order of recording.

    Args:
        folder: of the journal.
        config: the path of the configuration.
        apps: only these; empty: all.
        since: only samples since this time.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    condition, values = (f" and app in ({', '.join('?' * len(apps))})", apps) if apps else ("", ())
    with EventStore(folder).reading() as db:
        samples = _select(db, config, since, condition, values) if db else ()
        return group(((sample.app, sample.database), sample) for sample in samples)


def read_series(
    folder: Path, config: str, *, apps: Sequence[str], since: datetime
) -> Iterator[Sequence[Sample]]:
    """Yield the samples of each database of many apps, app by app, in the order of recording.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    with EventStore(folder).reading() as db:
        if db is None:
            return
        for app in apps:
            samples = _select(db, config, since, " and app = ?", (app,))
            yield from group((sample.database, sample) for sample in samples).values()


def select_surplus(samples: Sequence[tuple[int, str]], reference: datetime) -> list[int]:
    """Return the ids of the samples (id, time) that the retention does not cover, if ``reference`` is the time.

    The last sample of each interval is retained.
    """
    retained, surplus = set[str](), list[int]()
    for row_id, text in reversed(samples):
        time = datetime.fromisoformat(text)
        age = reference - time
        if age <= ALL:
            continue
        year, week, _ = time.isocalendar()
        interval = text[:_HOUR] if age <= HOURLY else text[:_DAY] if age <= DAILY else f"week {year}-{week}"
        if interval in retained:
            surplus.append(row_id)
        retained.add(interval)
    return surplus


def discard_wrong_times(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples, in the order of recording, without those that a wrong clock recorded.

    These are samples in the future, and those outside of the longest series whose times increase: a clock that was set back
    records times that contradict the order.
    """
    limit = now() + MAX_SKEW
    samples = [sample for sample in samples if sample.taken_at <= limit]
    ends, last, previous = list[datetime](), list[int](), list[int]()
    for index, sample in enumerate(samples):
        length = bisect_left(ends, sample.taken_at)
        previous.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [sample.taken_at]
        last[length : length + 1] = [index]
    series, index = list[Sample](), last[-1] if last else -1
    while index >= 0:
        series.append(samples[index])
        index = previous[index]
    return series[::-1]


def _list_times(connection: sqlite3.Connection, key: tuple[str, str, str]) -> list[tuple[int, str]]:
    sql = "select id, taken_at from samples where config = ? and app = ? and database = ? order by id"
    return connection.execute(sql, key).fetchall()


def _select(
    db: Database, config: str, since: datetime | None, condition: str, values: Sequence[str]
) -> Iterator[Sample]:
    """Yield the samples of a configuration since a time that fulfill a condition, in the order of recording."""
    where = f"config = ? and taken_at >= ?{condition}"
    rows = db["samples"].rows_where(
        where, (config, since.isoformat() if since else "", *values), "id", "record"
    )
    # All rows at once: a query that is open would prevent writers, if the store has no write-ahead log.
    for row in list(rows):
        yield _DECODER.decode(row["record"])
