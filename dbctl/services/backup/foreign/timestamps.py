"""Time of a foreign file: from its name, otherwise its modification time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from dbctl.model import Struct, now

#: Formats of a time in a file name.
PATTERNS: Mapping[str, str] = {
    "iso": r"(?P<Y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)T(?P<H>\d\d)-(?P<M>\d\d)-(?P<S>\d\d)(?:-(?P<f>\d{3}))?(?P<Z>Z?)",
    "compact": r"(?P<Y>\d{4})(?P<m>\d\d)(?P<d>\d\d)(?:[_-]?(?P<H>\d\d)(?P<M>\d\d)(?P<S>\d\d))?(?P<Z>Z?)",
    "day": r"(?P<Y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)(?:[_-](?P<H>\d\d)-?(?P<M>\d\d)-?(?P<S>\d\d))?(?P<Z>Z?)",
    "epoch": r"(?P<ms>1\d{12})",
}
_ANY_PATTERN = [re.compile(rf"(?<!\d){pattern}(?!\d)") for pattern in PATTERNS.values()]
#: Accepted difference between the clocks of two machines.
CLOCK_TOLERANCE = timedelta(minutes=5)


class DetectedTime(Struct, frozen=True, kw_only=True):
    """A time and its source."""

    timestamp: datetime
    source: Literal["name", "file", "option", "manifest"]
    description: str


def detect_time(name: str, modified: float, *, is_utc: bool = False) -> DetectedTime:
    """Return the time of a file.

    Args:
        name: of the file, without its folder.
        modified: modification time, in seconds since the epoch.
        is_utc: whether the time in the name is UTC, as in names by dbctl; otherwise it is local time.
    """
    for pattern in _ANY_PATTERN:
        if (match := pattern.search(name)) and (timestamp := _parse_time(match, utc=is_utc)):
            zone = "UTC" if is_utc or not _is_local(match) else f"local time, {_zone_name(timestamp)}"
            if timestamp <= now() + CLOCK_TOLERANCE:
                day = (
                    "" if match.groupdict().get("H") or "ms" in match.groupdict() else ", without time of day"
                )
                return DetectedTime(
                    timestamp=timestamp, source="name", description=f"its name, read as {zone}{day}"
                )
    timestamp = datetime.fromtimestamp(max(0.0, modified), UTC)
    timestamp = timestamp.replace(microsecond=timestamp.microsecond // 1000 * 1000)
    return DetectedTime(timestamp=min(timestamp, now()), source="file", description="its modification time")


def _is_local(match: re.Match[str]) -> bool:
    fields = match.groupdict()
    return "ms" not in fields and not fields["Z"]


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


def _zone_name(timestamp: datetime) -> str:
    return timestamp.astimezone().tzname() or "?"
