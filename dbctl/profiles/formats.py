"""Formats that a profile may require of a value; each function returns why a text violates its format, or an empty text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from dbctl.model import format_count
from dbctl.profiles.model.base import TextFormat

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
MONTHS_IN_FULL = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
DAYS_IN_FULL = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
#: The fields of a cron expression: name, smallest number, largest number, and names of the numbers.
CRON_FIELDS: Sequence[tuple[str, int, int, Mapping[str, int]]] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    (
        "month",
        1,
        12,
        {name: number for names in (MONTHS, MONTHS_IN_FULL) for number, name in enumerate(names, 1)},
    ),
    (
        "day of the week",
        0,
        7,
        {name: number for names in (DAYS, DAYS_IN_FULL) for number, name in enumerate(names)},
    ),
)


def _email(text: str) -> str:
    name, mark, domain = text.rpartition("@")
    labels = domain.split(".")
    is_address = (
        bool(name and mark and len(labels) > 1 and all(labels))
        and not any(sign in text for sign in ' ,;<>()"')
        and "@" not in name
    )
    return "" if is_address else "it is not an address such as name@example.org"


def _cron(text: str) -> str:
    parts = text.split()
    if len(parts) not in (len(CRON_FIELDS) - 1, len(CRON_FIELDS)):
        return f"it is not a cron expression: it has {format_count(len(parts), 'field')} instead of 5, such as 0 3 * * *"
    for part, (field, least, most, names) in zip(parts, CRON_FIELDS[-len(parts) :], strict=True):
        if not all(_is_cron_range(item, least, most, names) for item in part.split(",")):
            return f"it is not a cron expression: {part} is not a {field} ({least} to {most})"
    return ""


def _is_cron_range(item: str, least: int, most: int, names: Mapping[str, int]) -> bool:
    span, slash, step = item.partition("/")
    if slash and not (re.fullmatch("[0-9]{1,4}", step) and int(step)):
        return False
    if span == "*":
        return True
    ends = [_cron_number(end, names) for end in span.split("-")]
    return len(ends) <= 2 and all(least <= end <= most for end in ends) and ends == sorted(ends)  # noqa: PLR2004 - the two ends of a range


def _cron_number(text: str, names: Mapping[str, int]) -> int:
    """Return the number of one end of a range; -1 if it is invalid."""
    if re.fullmatch("[0-9]{1,4}", text):
        return int(text)
    return names.get(text.lower(), -1)


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # such as a port that is not a number
        is_url = False
    return "" if is_url and not re.search(r"\s", text) else "it is not a URL such as https://example.org/path"


def _time_zone(text: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return "it is not a time zone such as Europe/Berlin"
    return ""


FORMATS: Mapping[TextFormat, Callable[[str], str]] = {
    "email": _email,
    "cron": _cron,
    "url": _url,
    "time-zone": _time_zone,
}
