"""When a disk will be full: a line through the free space of the last days, if they show a trend."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, TypeAlias

from dbctl.model import Struct
from dbctl.services.events.samples import Sample

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
_DAY_SECONDS = 86_400


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
            ((sample.taken_at - last.taken_at).total_seconds() / _DAY_SECONDS, float(sample.free_bytes or 0))
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
