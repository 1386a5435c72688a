"""When a file was made that somebody else left: by its name, else by when it was last written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from dbctl.model import Value, now

#: How a name may tell a time.
PATTERNS: Mapping[str, str] = {
    "iso": r"(?P<Y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)T(?P<H>\d\d)-(?P<M>\d\d)-(?P<S>\d\d)(?:-(?P<f>\d{3}))?(?P<Z>Z?)",
    "compact": r"(?P<Y>\d{4})(?P<m>\d\d)(?P<d>\d\d)(?:[_-]?(?P<H>\d\d)(?P<M>\d\d)(?P<S>\d\d))?(?P<Z>Z?)",
    "day": r"(?P<Y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)(?:[_-](?P<H>\d\d)-?(?P<M>\d\d)-?(?P<S>\d\d))?(?P<Z>Z?)",
    "epoch": r"(?P<ms>1\d{12})",
}
_ANY = [re.compile(rf"(?<!\d){one}(?!\d)") for one in PATTERNS.values()]
#: A clock may be so much ahead of another one.
AHEAD = timedelta(minutes=5)


class Dated(Value, frozen=True, kw_only=True):
    """A time, and where it was taken from."""

    at: datetime
    by: Literal["name", "file", "asked", "manifest"]
    told: str  #: in words


def dated(name: str, modified: float, *, ours: bool = False) -> Dated:
    """Return when a file was made.

    Args:
        name: of the file.
        modified: when it was last written, as the system tells it.
        ours: whether dbctl called it so, whose names tell UTC; everybody else's tell local time.
    """
    for pattern in _ANY:
        if (found := pattern.search(name)) and (at := _moment(found, utc=ours)):
            zone = "UTC" if ours or not _is_local(found) else f"local time, {_zone(at)}"
            if at <= now() + AHEAD:
                day = (
                    ""
                    if found.groupdict().get("H") or "ms" in found.groupdict()
                    else ", a day without a time"
                )
                return Dated(at=at, by="name", told=f"its name, read as {zone}{day}")
    at = datetime.fromtimestamp(max(0.0, modified), UTC)
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    return Dated(at=min(at, now()), by="file", told="when it was last written")


def _is_local(found: re.Match[str]) -> bool:
    told = found.groupdict()
    return "ms" not in told and not told["Z"]


def _moment(found: re.Match[str], *, utc: bool) -> datetime | None:
    told = found.groupdict()
    if "ms" in told:
        return datetime.fromtimestamp(int(told["ms"]) / 1000, UTC)
    year, month, day, hour, minute, second = (int(told[part] or 0) for part in ("Y", "m", "d", "H", "M", "S"))
    millis = int(told.get("f") or 0)
    try:
        at = datetime(year, month, day, hour, minute, second, 1000 * millis)  # noqa: DTZ001 - its zone follows
    except ValueError:
        return None
    if not 1990 <= at.year < 9000:  # noqa: PLR2004 - before, nobody made such files; digits may mean anything
        return None
    try:
        return at.replace(tzinfo=UTC) if utc or told["Z"] else at.astimezone(UTC)
    except (OverflowError, OSError):
        return None


def _zone(at: datetime) -> str:
    return at.astimezone().tzname() or "?"
