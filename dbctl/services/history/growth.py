"""Growth of databases and tables, from their samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from dbctl.errors.operations import TableNotSampledError
from dbctl.model import Page, PageRequest, Row, Struct, Trend
from dbctl.services.app.results import paginate
from dbctl.services.events.samples import DatabaseKey, Sample, TableSample, discard_wrong_times
from dbctl.services.history.forecast import ForecastState, predict_full_disk

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

    def summary(self) -> Row:
        names = ("target", "bytes", "bytes_per_day", "free_bytes", "days_until_full", "forecast", "samples")
        return {name: getattr(self, name) for name in names}


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


class TablePoint(Struct, frozen=True, kw_only=True):
    """One sample of a table."""

    at: datetime
    target: str
    rows: int | None
    rows_change: int | None  #: since the sample before
    bytes: int | None
    estimated: bool

    def summary(self) -> Row:
        rows = f"~{self.rows}" if self.estimated and self.rows is not None else self.rows
        fields = ("at", "target", "rows", "rows_change", "bytes")
        return {name: getattr(self, name) for name in fields} | {"rows": rows}


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


def list_table_points(
    samples: Mapping[DatabaseKey, Sequence[Sample]], table: str, page_request: PageRequest
) -> Page[TablePoint]:
    """Return the samples of a table, newest first; of every database that has a table of this name.

    Raises:
        TableNotSampledError: there are samples, and none has the table.
    """
    points = list[TablePoint]()
    for recorded in samples.values():
        points += _list_points(table, discard_wrong_times(recorded))
    if samples and not points:
        names = {name for recorded in samples.values() for sample in recorded for name in sample.tables}
        raise TableNotSampledError(table=table, name=table, candidates=sorted(names))
    points.sort(key=lambda point: point.at, reverse=True)
    return paginate(points, TablePoint, page_request)


def _list_points(table: str, series: Sequence[Sample]) -> Iterator[TablePoint]:
    previous: int | None = None
    for sample, size in _list_sizes(series, table):
        change = size.rows - previous if previous is not None and size.rows is not None else None
        yield TablePoint(
            at=sample.taken_at,
            target=f"{sample.app}/{sample.database}",
            rows=size.rows,
            rows_change=change,
            bytes=size.bytes,
            estimated=size.estimated,
        )
        previous = size.rows


def _measure_table(target: str, table: str, series: Sequence[Sample]) -> TableGrowth:
    sizes = list(_list_sizes(series, table))
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


def _list_sizes(series: Sequence[Sample], table: str) -> Iterator[tuple[Sample, TableSample]]:
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
