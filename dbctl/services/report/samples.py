"""The samples of a report: those of each app, and the sums of those of the instances of fleets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from heapq import nlargest
from math import ceil
from pathlib import Path

from dbctl.model import Struct
from dbctl.services.events.samples import DatabaseKey, Sample, discard_wrong_times, read_samples, read_series
from dbctl.services.history.growth import DatabaseGrowth, measure_database_growth
from dbctl.services.history.sums import SampleSum

#: Samples in a chart at most.
MAX_POINTS = 60
#: Samples that are this much older than the period count as those at its beginning.
_EARLIER = timedelta(days=8)


class ReportedSamples(Struct, frozen=True, kw_only=True):
    """The samples of apps and fleets, and the growth of instances."""

    series: Mapping[DatabaseKey, Sequence[Sample]]  #: in the order of time
    instances: Mapping[str, Sequence[InstanceGrowth]]  #: by app

    def list_growing(self, count: int) -> Sequence[DatabaseGrowth]:
        """Return the databases of instances that grow fastest."""
        growing = (
            entry.growth
            for entries in self.instances.values()
            for entry in entries
            if (entry.growth.bytes_per_day or 0) > 0
        )
        return nlargest(count, growing, key=lambda growth: growth.bytes_per_day or 0)


class InstanceGrowth(Struct, frozen=True):
    """The growth of a database of an instance, and its users in the last sample."""

    growth: DatabaseGrowth
    users: int | None


def read_reported_samples(
    folder: Path,
    config: str,
    *,
    apps: Sequence[str],
    fleets: Mapping[str, Sequence[str]],
    period: tuple[datetime, datetime],
) -> ReportedSamples:
    """Return the samples of a period.

    Args:
        folder: of the journal.
        config: the path of the configuration.
        apps: those that are no fleets.
        fleets: with their instances.
        period: its begin and its end.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    begin, end = period
    samples = read_samples(folder, config, apps=apps, since=begin) if apps else {}
    result = {key: series for key, recorded in samples.items() if (series := discard_wrong_times(recorded))}
    growth = dict[str, list[InstanceGrowth]]()
    times = _list_times(begin, end)
    for fleet, instances in fleets.items():
        sums = dict[str, SampleSum]()
        for recorded in read_series(folder, config, apps=instances, since=begin - _EARLIER):
            series = discard_wrong_times(recorded)
            if not series:
                continue
            last = series[-1]
            if last.database not in sums:
                sums[last.database] = SampleSum(fleet, last.database, times)
            sums[last.database].add(series)
            if recent := [sample for sample in series if sample.taken_at >= begin]:
                entry = InstanceGrowth(measure_database_growth(recent), last.users)
                growth.setdefault(last.app, []).append(entry)
        result |= {(fleet, database): total.create_series() for database, total in sums.items()}
    return ReportedSamples(series=result, instances=growth)


def _list_times(begin: datetime, end: datetime) -> Sequence[datetime]:
    """Return the end of the period, and times before it in equal intervals of whole days, oldest first."""
    interval = timedelta(days=ceil(max((end - begin) / timedelta(days=1), 1) / (MAX_POINTS - 1)))
    return list(_step_back(end, begin, interval))[::-1]


def _step_back(end: datetime, begin: datetime, interval: timedelta) -> Iterator[datetime]:
    while end >= begin:
        yield end
        end -= interval
