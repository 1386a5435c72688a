"""Values in a person's words: ``3 h ago``, ``1.2 MiB``, ``yes``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from math import isfinite

import msgspec

from dbctl import model
from dbctl.render.escaping import escape
from dbctl.render.values import fields_of, jsonable

MISSING = "-"
_RECENT = timedelta(days=2)
_JUST_NOW = timedelta(minutes=1)


def words(name: str, value: object) -> str:  # noqa: C901, PLR0911 - one line per kind of value
    """Return ``value`` of the field ``name`` on one line; the name tells sizes and durations from other numbers.

    Raises:
        TypeError: a secret, or something that has no form.
    """
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return moment(value, model.now())
    if isinstance(value, timedelta):
        return duration(value.total_seconds())
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, (int, float)) and not isinstance(value, Enum):
        if name == "bytes" or name.endswith("_bytes"):
            return size(value)
        return duration(value) if name.endswith("_seconds") else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{size(len(bytes(value)))} of bytes"
    if isinstance(value, (Mapping, msgspec.Struct)):
        return (
            ", ".join(f"{escape(key)}={words(key, item)}" for key, item in fields_of(value).items())
            or MISSING
        )
    if isinstance(value, (Sequence, AbstractSet)) and not isinstance(value, str):
        return ", ".join(words(name, item) for item in value) or MISSING
    if isinstance(value, (str, date)):
        return escape(str(value))
    return escape(str(jsonable(value)))


def moment(value: datetime, now: datetime) -> str:
    """Return a time as seen at ``now``: how long ago within two days, else date and minute in local time."""
    value = value if value.tzinfo else value.replace(tzinfo=UTC)
    past = now - value
    if timedelta(0) <= past < _JUST_NOW:
        return "just now"
    if timedelta(0) <= past < _RECENT:
        return f"{duration(int(past.total_seconds()), parts=1)} ago"
    try:
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):  # years that the local calendar cannot hold
        return value.isoformat(" ", "minutes")


def duration(seconds: float, *, parts: int = 2) -> str:
    """Return seconds as ``850 ms``, ``42 s`` or ``3 h 20 min``: no more than ``parts`` units."""
    if seconds < 0:
        return f"-{duration(-seconds, parts=parts)}"
    if seconds < 1 and seconds != int(seconds):
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f} ms" if milliseconds < 1 else f"{milliseconds:.0f} ms"
    rest = round(seconds)
    told: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or (told and parts > 1):
            told.append(f"{count} {unit}" if count else "")
        if len(told) == parts:
            break
    return " ".join(part for part in told if part) or "0 s"


def size(count: float) -> str:
    """Return bytes as ``812 B`` or ``1.2 MiB``."""
    if abs(count) < 1024:  # noqa: PLR2004 - what would be shown as 1024.0 belongs to the next unit
        return f"{count} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if abs(count) < 1023.95:  # noqa: PLR2004 - what would be shown as 1024.0 belongs to the next unit
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} PiB"
