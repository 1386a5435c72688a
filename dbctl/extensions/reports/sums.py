"""Samples of the instances of a fleet, added up."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from msgspec import structs

from dbctl.services.events.samples import Sample, TableSample


class SampleSum:
    """The sum of the samples of many databases at several times; at each, the last earlier sample of a database counts."""

    def __init__(self, app: str, database: str, times: Sequence[datetime]) -> None:
        """Begin with no sample; ``times`` increase."""
        self._times = times
        self._sums = [Sample(app=app, database=database, taken_at=time) for time in times]
        self._tables = [dict[str, TableSample]() for _ in times]
        self._figures = [defaultdict[str, float](float) for _ in times]
        self._newest: list[datetime | None] = [None for _ in times]

    def add(self, series: Sequence[Sample]) -> None:
        """Add the samples of one database, in the order of time."""
        recorded = [sample.taken_at for sample in series]
        for index, time in enumerate(self._times):
            if position := bisect_right(recorded, time):
                self._add(index, series[position - 1])

    def create_series(self) -> Sequence[Sample]:
        """Return the sums, without those of no sample."""
        return [
            structs.replace(total, tables=tables, figures=figures)
            for total, tables, figures, newest in zip(
                self._sums, self._tables, self._figures, self._newest, strict=True
            )
            if newest
        ]

    def _add(self, index: int, sample: Sample) -> None:
        total, newest = self._sums[index], self._newest[index]
        total = structs.replace(
            total, bytes=_add_known(total.bytes, sample.bytes), users=_add_known(total.users, sample.users)
        )
        # The free space of several disks has no sum.
        if newest and (total.disk, total.disk_bytes) != (sample.disk, sample.disk_bytes):
            total = structs.replace(total, disk="", disk_bytes=None, free_bytes=None)
        elif newest is None or newest < sample.taken_at:
            total = structs.replace(
                total, disk=sample.disk, disk_bytes=sample.disk_bytes, free_bytes=sample.free_bytes
            )
        self._sums[index], self._newest[index] = total, max(newest or sample.taken_at, sample.taken_at)
        tables, figures = self._tables[index], self._figures[index]
        for name, table in sample.tables.items():
            earlier = tables.get(name)
            tables[name] = table if earlier is None else _add_tables(earlier, table)
        for name, value in sample.figures.items():
            figures[name] += value


def _add_tables(table: TableSample, other: TableSample) -> TableSample:
    return TableSample(
        rows=_add_known(table.rows, other.rows),
        bytes=_add_known(table.bytes, other.bytes),
        estimated=table.estimated or other.estimated,
    )


def _add_known(value: int | None, other: int | None) -> int | None:
    """Return the sum of the values that are known."""
    if value is None or other is None:
        return other if value is None else value
    return value + other
