"""Time of a foreign file: from its name, otherwise its modification time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from dbctl.model import now

#: A time of day after a date in a file name. Digits that are none are not part of the time, such as those of a number.
_CLOCK = r"(?P<H>[01]\d|2[0-3])[:h-]?(?P<M>[0-5]\d)(?:[:m-]?(?P<S>[0-5]\d)(?:[.-](?P<f>\d{3}))?)?"
#: Formats of a time in a file name.
PATTERNS: Mapping[str, str] = {
    "day": rf"(?P<Y>\d{{4}})-(?P<m>\d\d)-(?P<d>\d\d)(?:[T_ -]{_CLOCK})?(?P<Z>Z?)",
    "compact": rf"(?P<Y>\d{{4}})(?P<m>\d\d)(?P<d>\d\d)(?:[T_ -]?{_CLOCK})?(?P<Z>Z?)",
    "epoch": r"(?P<ms>1\d{12})",
}
_ANY_PATTERN = [re.compile(rf"(?<!\d){pattern}(?!\d)") for pattern in PATTERNS.values()]
#: Accepted difference between the clocks of two machines.
CLOCK_TOLERANCE = timedelta(minutes=5)


class DetectedTime(NamedTuple):
    """A time and its source."""

    timestamp: datetime
    description: str


def detect_time(name: str, modified: float, *, is_utc: bool = False) -> DetectedTime:
    """Return the time in ``name``, that of a file without its folder, otherwise ``modified``, in seconds since the epoch.

    The time in a name is local time, unless ``is_utc``, as in names by dbctl.
    """
    for pattern in _ANY_PATTERN:
        if (match := pattern.search(name)) and (timestamp := _parse_time(match, utc=is_utc)):
            fields = match.groupdict()
            is_local = not (is_utc or "ms" in fields or fields["Z"])
            zone = f"local time, {timestamp.astimezone().tzname() or '?'}" if is_local else "UTC"
            if timestamp <= now() + CLOCK_TOLERANCE:
                day = "" if fields.get("H") or "ms" in fields else ", without time of day"
                return DetectedTime(timestamp, f"its name, read as {zone}{day}")
    timestamp = datetime.fromtimestamp(max(0.0, modified), UTC)
    timestamp = timestamp.replace(microsecond=timestamp.microsecond // 1000 * 1000)
    return DetectedTime(min(timestamp, now()), "its modification time")


def _parse_time(match: re.Match[str], *, utc: bool) -> datetime | None:
    fields = match.groupdict()
    if "ms" in fields:
        return datetime.fromtimestamp(int(fields["ms"]) / 1000, UTC)
    year, month, day, hour, minute, second = (
        int(fields[field] or 0) for field in ("Y", "m", "d", "H", "M", "S")
    )
    millis = int(fields.get("f") or 0)
    try:
        timestamp = datetime(year, month, day, hour, minute, second, 1000 * millis)  # noqa: DTZ001 - the zone is set below
    except ValueError:
        return None
    if not 1990 <= timestamp.year < 9000:  # noqa: PLR2004 - other numbers are not years
        return None
    try:
        return timestamp.replace(tzinfo=UTC) if utc or fields["Z"] else timestamp.astimezone(UTC)
    except (OverflowError, OSError):
        return None
