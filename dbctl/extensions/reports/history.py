"""``dbctl stats history``: the growth of tables and databases, from their samples."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated

from dbctl.cli._support.emit import emit, note
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument
from dbctl.cli._support.parameters import Limit, Offset, period_option, requested_page
from dbctl.cli._support.session import Session
from dbctl.errors.base import Remedy
from dbctl.errors.operations import TableNotSampledError
from dbctl.model import Page, PageRequest, Row, Struct, time_before
from dbctl.services.app.results import paginate
from dbctl.services.events.samples import DatabaseKey, Sample, discard_wrong_times, read_samples
from dbctl.services.history import DEFAULT_PERIOD, GrowthHistory, list_sizes, measure_growth
from dbctl.spec import EVERYWHERE, Example

GROUP = Group("stats")


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


@Example("stats history", on=EVERYWHERE)
@Example("stats history users --since 1y -o json", on="flashpoint-web")
@GROUP.command("history", answers=lambda: (GrowthHistory, Page[TablePoint]))
def history(
    session: Session,
    table: Annotated[str, argument("[TABLE]", "Show each sample of this table.")] = "",
    since: Annotated[
        timedelta | None, period_option("--since", "30d", "Use samples up to this age; default: 30d.")
    ] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> int:
    """Show the growth of each table and database, and when the disk will be full.

    Each backup records the rows and sizes, and dbctl status --record also the sizes of tables and the figures of the
    profile. There is no prediction without samples of five days, or if the free space shows no trend.
    """
    with session.open_app() as app:
        location = session.journal
        start = time_before(since or DEFAULT_PERIOD)
        samples = read_samples(location.require_folder(), location.config, apps=[app.name], since=start)
        samples = {key: recorded for key, recorded in samples.items() if app.only in ("", key[1])}
        if not samples:
            note(
                session,
                Remedy("no samples were recorded in this period; record one with: `status --record`").write(),
            )
        page_request = requested_page(limit, offset, "")
        if table:
            points = list_table_points(samples, table, page_request)
            return emit(session, points, target=app.name)
        return emit(session, measure_growth(samples, start, page_request), target=app.name)


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
    for sample, size in list_sizes(series, table):
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
