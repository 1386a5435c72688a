"""Samples of databases, tables and figures of the profile, their growth, and when a disk will be full."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from msgspec import structs

from dbctl.engines.contract.database import Readable
from dbctl.errors.base import DbctlError
from dbctl.files.mounts import read_volume
from dbctl.model import PageRequest, Row, Struct, Trend, now
from dbctl.services.app.app import App
from dbctl.services.app.results import paginate
from dbctl.services.app.user_table import users_database
from dbctl.services.backup.manifest import Manifest
from dbctl.services.events.runs import JournalLocation
from dbctl.services.events.samples import DatabaseKey, Sample, TableSample, discard_wrong_times, save_samples
from dbctl.services.stats import reports

#: Why there is no prediction; ``ok``: there is one.
ForecastState: TypeAlias = Literal[
    "ok",  # the disk becomes full
    "unknown",  # the free space is not known, as on most servers
    "too-few-samples",  # fewer days than ``MIN_DAYS``, or a shorter period than ``MIN_SPAN``
    "not-filling",  # the free space does not decrease
    "no-trend",  # the free space varies more than it decreases
    "distant",  # later than ``HORIZON``
]
#: Days with a sample, and time between the first and the last of them, that a prediction requires.
MIN_DAYS, MIN_SPAN = 5, timedelta(days=4)
HORIZON = timedelta(days=5 * 365)
#: Standard errors by which a slope must differ from 0: about 95 %.
_CONFIDENCE = 2.0
_DAY = 86_400


class DiskForecast(Struct, frozen=True, kw_only=True):
    """When the disk of a database will be full."""

    state: ForecastState
    days_until_full: float | None = None  #: from the last sample; None: no prediction
    free_bytes: int | None = None  #: at the last sample
    free_bytes_per_day: int | None = None  #: the slope of the line


def predict_full_disk(samples: Sequence[Sample]) -> DiskForecast:
    """Return when the disk of a database will be full, from its samples in the order of time."""
    last = samples[-1] if samples else None
    if last is None or last.free_bytes is None:
        return DiskForecast(state="unknown")
    # A disk that was replaced or enlarged shows no trend.
    comparable = [
        sample
        for sample in samples
        if sample.free_bytes is not None and (sample.disk, sample.disk_bytes) == (last.disk, last.disk_bytes)
    ]
    daily = list({sample.taken_at.date(): sample for sample in comparable}.values())
    if len(daily) < MIN_DAYS or daily[-1].taken_at - daily[0].taken_at < MIN_SPAN:
        return DiskForecast(state="too-few-samples", free_bytes=last.free_bytes)
    slope, error = fit_line(
        [
            ((sample.taken_at - last.taken_at).total_seconds() / _DAY, float(sample.free_bytes or 0))
            for sample in daily
        ]
    )
    known = DiskForecast(state="ok", free_bytes=last.free_bytes, free_bytes_per_day=round(slope))
    if slope >= 0:
        return _change_state(known, "not-filling")
    if slope + _CONFIDENCE * error >= 0:
        return _change_state(known, "no-trend")
    days = last.free_bytes / -slope
    if days > HORIZON.days:
        return _change_state(known, "distant")
    return DiskForecast(
        state="ok",
        days_until_full=round(days, 1),
        free_bytes=last.free_bytes,
        free_bytes_per_day=round(slope),
    )


def fit_line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope of the least-squares line through at least three points, and its standard error."""
    count = len(points)
    mean_x, mean_y = (sum(values) / count for values in zip(*points, strict=True))
    variance = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / variance
    residuals = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return slope, (residuals / (count - 2) / variance) ** 0.5


def _change_state(forecast: DiskForecast, state: ForecastState) -> DiskForecast:
    from msgspec import structs

    return structs.replace(forecast, state=state)


T = TypeVar("T")
#: The age of the oldest sample that is used, unless the user selects another.
DEFAULT_PERIOD = timedelta(days=30)
#: The shortest period with a growth per day.
MIN_PERIOD = timedelta(days=1)
#: Values of a trend at most.
TREND_LENGTH = 16
_DAY_SECONDS = 86_400


class TableGrowth(Struct, frozen=True, kw_only=True):
    """Growth of one table between its first and its last sample; negative if it became smaller."""

    target: str
    table: str
    rows: int | None  #: in the last sample
    rows_change: int | None = None
    rows_per_day: float | None = None  #: None: the samples are from less than a day
    bytes: int | None = None  #: in the last sample that measured it, with indexes
    bytes_change: int | None = None
    bytes_per_day: int | None = None
    estimated: bool = False  #: whether a number of rows is an estimate
    samples: int
    first_at: datetime
    last_at: datetime
    trend: Sequence[int] = ()  #: rows, at most ``TREND_LENGTH`` values in equal intervals of samples

    def summary(self) -> Row:
        names = ("target", "table", "rows", "rows_change", "rows_per_day", "bytes", "bytes_per_day")
        row = {name: getattr(self, name) for name in names}
        if self.estimated and self.rows is not None:
            row["rows"] = f"~{self.rows}"
        return row | {"trend": Trend(self.trend)}


class DatabaseGrowth(Struct, frozen=True, kw_only=True):
    """Growth of one database, and the free space on its disk."""

    target: str
    bytes: int | None
    bytes_change: int | None = None
    bytes_per_day: int | None = None
    free_bytes: int | None = None
    free_bytes_per_day: int | None = None  #: by a line through one sample per day
    days_until_full: float | None = None  #: None: no prediction; ``forecast`` is the reason
    forecast: ForecastState
    samples: int
    ignored_samples: int  #: of a wrong clock
    first_at: datetime
    last_at: datetime

    listed = ("target", "bytes", "bytes_per_day", "free_bytes", "days_until_full", "forecast", "samples")


class GrowthHistory(Struct, frozen=True, kw_only=True):
    """Result of ``stats history``."""

    since: datetime
    databases: Sequence[DatabaseGrowth]
    tables: Sequence[TableGrowth]  #: those of the last samples, by growth of rows
    total: int  #: the number of tables

    def summary(self) -> Sequence[Row]:
        return [table.summary() for table in self.tables]

    def sections(self) -> Mapping[str, Sequence[object]]:
        return {"databases": [database.summary() for database in self.databases]}


def measure_growth(
    samples: Mapping[DatabaseKey, Sequence[Sample]], since: datetime, page_request: PageRequest | None = None
) -> GrowthHistory:
    """Return the growth of every database, and of the requested tables, since a time."""
    databases, tables = list[DatabaseGrowth](), list[TableGrowth]()
    for recorded in samples.values():
        series = discard_wrong_times(recorded)
        if not series:
            continue
        databases.append(measure_database_growth(series, ignored=len(recorded) - len(series)))
        target = databases[-1].target
        tables += [_measure_table(target, name, series) for name in series[-1].tables]
    tables.sort(key=lambda table: (-(table.rows_per_day or 0), -(table.rows or 0), table.target, table.table))
    page = paginate(tables, TableGrowth, page_request or PageRequest())
    return GrowthHistory(since=since, databases=databases, tables=page.items, total=page.total)


def measure_database_growth(series: Sequence[Sample], *, ignored: int = 0) -> DatabaseGrowth:
    """Return the growth of one database from its samples, in the order of time."""
    first, last, forecast = series[0], series[-1], predict_full_disk(series)
    change, per_day = _measure_change([(sample.taken_at, sample.bytes) for sample in series])
    return DatabaseGrowth(
        target=f"{last.app}/{last.database}",
        bytes=last.bytes,
        bytes_change=change,
        bytes_per_day=None if per_day is None else round(per_day),
        free_bytes=forecast.free_bytes,
        free_bytes_per_day=forecast.free_bytes_per_day,
        days_until_full=forecast.days_until_full,
        forecast=forecast.state,
        samples=len(series),
        ignored_samples=ignored,
        first_at=first.taken_at,
        last_at=last.taken_at,
    )


def _measure_table(target: str, table: str, series: Sequence[Sample]) -> TableGrowth:
    sizes = list(list_sizes(series, table))
    rows = [(sample.taken_at, size.rows) for sample, size in sizes]
    sized = [(sample.taken_at, size.bytes) for sample, size in sizes if size.bytes is not None]
    rows_change, rows_per_day = _measure_change(rows)
    bytes_change, bytes_per_day = _measure_change(sized)
    return TableGrowth(
        target=target,
        table=table,
        rows=rows[-1][1],
        rows_change=rows_change,
        rows_per_day=None if rows_per_day is None else round(rows_per_day, 1),
        bytes=sized[-1][1] if sized else None,
        bytes_change=bytes_change,
        bytes_per_day=None if bytes_per_day is None else round(bytes_per_day),
        estimated=any(size.estimated for _, size in (sizes[0], sizes[-1])),
        samples=len(sizes),
        first_at=sizes[0][0].taken_at,
        last_at=sizes[-1][0].taken_at,
        trend=[count for _, count in select_evenly(rows, TREND_LENGTH) if count is not None],
    )


def list_sizes(series: Sequence[Sample], table: str) -> Iterator[tuple[Sample, TableSample]]:
    """Yield the samples that have a table, each with the size of the table."""
    for sample in series:
        if size := sample.tables.get(table):
            yield sample, size


def _measure_change(points: Sequence[tuple[datetime, int | None]]) -> tuple[int | None, float | None]:
    """Return the difference between the first and the last known value, and per day."""
    known = [(at, value) for at, value in points if value is not None]
    if len(known) <= 1:
        return None, None
    (first_at, first), (last_at, last) = known[0], known[-1]
    period = last_at - first_at
    change = last - first
    per_day = change / (period.total_seconds() / _DAY_SECONDS) if period >= MIN_PERIOD else None
    return change, per_day


def select_evenly(values: Sequence[T], count: int) -> Sequence[T]:
    """Return at most ``count`` of the values, in equal intervals, with the first and the last one."""
    if len(values) <= count:
        return values
    return [values[round(index * (len(values) - 1) / (count - 1))] for index in range(count)]


def read_figures(app: App, database: str) -> Mapping[str, float]:
    """Return the figures of a database by ``report.column``; a report whose tables are missing is omitted."""
    figures = dict[str, float]()
    for report in app.profile.report:
        if not report.sampled or app.resolve_database(report) != database:
            continue
        with suppress(DbctlError):
            for row in reports.run(app, report.name, {}, PageRequest(limit=1)).items:
                for column, value in row.items():
                    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
                        figures[f"{report.name}.{column}"] = value if isinstance(value, int) else float(value)
    return figures


def record_backup(location: JournalLocation, app: App, manifest: Manifest) -> None:
    """Record the databases of a complete backup, with the rows that its manifest has; a failure is ignored.

    The journal reports that it cannot be written when it records the run. Without a configuration or a journal nothing is recorded,
    because nothing identifies the app.
    """
    if location.folder is None or not location.config or manifest.kind != "backup":
        return
    samples = []
    for name in manifest.databases:
        members = [member for member in manifest.members if member.database == name]
        tables = {
            table: TableSample(rows=rows)
            for member in members
            for table, rows in member.rows.items()
            if table not in member.schema_only
        }
        with suppress(DbctlError):
            sample = measure_storage(app.reader(name), measure_database(app, name))
            samples.append(_add_tables(app, sample, tables))
    with suppress(DbctlError):
        save_samples(location.folder, location.config, samples)


def measure_database(app: App, name: str) -> Sample:
    """Return a sample with the size of the file of a database, and of its disk; nothing is opened."""
    url, files = app.url(name), app.engine(name).database_files(app.url(name))
    sample = Sample(app=app.name, database=name, taken_at=now())
    with suppress(OSError):
        sample = structs.replace(sample, bytes=files.file.stat().st_size if files else None)
    if url.is_local:
        with suppress(OSError):
            folder = Path(os.path.realpath(url.path)).parent
            volume, status = read_volume(folder), os.statvfs(folder)
            sample = structs.replace(
                sample,
                disk=volume.mount,
                free_bytes=volume.free_bytes,
                disk_bytes=status.f_blocks * status.f_frsize,
            )
    return sample


def measure_storage(db: Readable, sample: Sample) -> Sample:
    """Return a sample with the size of its open database, if that is not the size of a file."""
    return (
        structs.replace(sample, bytes=db.storage.measure_storage().bytes) if sample.bytes is None else sample
    )


def measure_tables(app: App, db: Readable, sample: Sample) -> Sample:
    """Return a sample with the rows and bytes of every table, the users, and the figures of the profile."""
    tables = {
        size.table: TableSample(rows=size.rows, bytes=size.bytes, estimated=size.estimated)
        for size in db.storage.measure_tables(exact=False)
    }
    return structs.replace(_add_tables(app, sample, tables), figures=read_figures(app, sample.database))


def _add_tables(app: App, sample: Sample, tables: Mapping[str, TableSample]) -> Sample:
    """Return a sample with its tables, and with the users if each row of their table is one."""
    users = app.profile.users
    has_users = users and sample.database == users_database(app) and not (users.only or users.excluded)
    user_table = tables.get(users.table.removesuffix("?")) if users and has_users else None
    return structs.replace(sample, tables=tables, users=user_table.rows if user_table else None)
