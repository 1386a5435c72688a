"""Format values for people: ``3 h ago``, ``1.2 MiB``, ``yes``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from math import isfinite
from shlex import join

import msgspec

from dbctl import model, units
from dbctl.render.escaping import escape
from dbctl.render.values import fields_of, jsonable

MISSING = "-"
NULL = "NULL"
_BARS = "▁▂▃▄▅▆▇█"
_RECENT = timedelta(days=2)
_JUST_NOW = timedelta(minutes=1)


def format_value(name: str, value: object) -> str:  # noqa: C901, PLR0911 - one branch per type
    """Return the value of the field ``name`` on one line; its name marks sizes and durations.

    Raises:
        TypeError: the value is a secret, or has an unsupported type.
    """
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return format_time(value, model.now())
    if isinstance(value, timedelta):
        return format_duration(value.total_seconds())
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, (int, float)) and not isinstance(value, Enum):
        if name == "bytes" or name.endswith(("_bytes", "bytes_change", "bytes_per_day")):
            return units.format_size(value)
        return format_duration(value) if name.endswith("_seconds") else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{units.format_size(len(bytes(value)))} of bytes"
    if isinstance(value, (Mapping, msgspec.Struct)):
        return (
            ", ".join(f"{escape(key)}={format_value(key, item)}" for key, item in fields_of(value).items())
            or MISSING
        )
    if isinstance(value, model.RowKey):
        return escape(join(map(str, value))) or MISSING
    if isinstance(value, (Sequence, AbstractSet)) and not isinstance(value, str):
        return ", ".join(format_value(name, item) for item in value) or MISSING
    if isinstance(value, (str, date)):
        return escape(str(value))
    return escape(str(jsonable(value)))


def describe_stored_value(value: object) -> object:
    """Return a value of a database for a table: NULL as ``NULL``, and text that could be mistaken for it in quotation marks."""
    if value is None:
        return NULL
    if isinstance(value, str) and (value in {"", NULL, MISSING} or value[0] == value[-1] == "'"):
        return "'" + value.replace("'", "''") + "'"
    return value


def format_time(value: datetime, now: datetime) -> str:
    """Return the age of a time within two days of ``now``, otherwise date and minute in local time."""
    value = value if value.tzinfo else value.replace(tzinfo=UTC)
    age = now - value
    if timedelta(0) <= age < _JUST_NOW:
        return "just now"
    if timedelta(0) <= age < _RECENT:
        return f"{format_duration(int(age.total_seconds()), parts=1)} ago"
    try:
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):  # years outside the range of the local calendar
        return value.isoformat(" ", "minutes")


def format_duration(seconds: float, *, parts: int = 2) -> str:
    """Return seconds as ``850 ms``, ``42 s`` or ``3 h 20 min``, with at most ``parts`` units."""
    if seconds < 0:
        return f"-{format_duration(-seconds, parts=parts)}"
    if seconds < 1 and seconds != int(seconds):
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f} ms" if milliseconds < 1 else f"{milliseconds:.0f} ms"
    remainder = round(seconds)
    units: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, remainder = divmod(remainder, length)
        if count or (units and parts > 1):
            units.append(f"{count} {unit}" if count else "")
        if len(units) == parts:
            break
    return " ".join(part for part in units if part) or "0 s"


def draw_sparkline(values: Sequence[float]) -> str:
    """Return one bar per number, from the smallest to the largest; equal numbers are a flat line."""
    if not values:
        return ""
    least, largest = min(values), max(values)
    if least == largest:
        return _BARS[3] * len(values)
    steps = len(_BARS) - 1
    return "".join(_BARS[round((value - least) / (largest - least) * steps)] for value in values)
