"""Values as text for people (``3 h ago``, ``1.2 MiB``, ``yes``) and for JSON, and control characters as escapes."""

from __future__ import annotations

import math
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from math import isfinite
from pathlib import PurePath
from shlex import join
from uuid import UUID

import msgspec

from dbctl import model, units
from dbctl.model import ChangeResult, Page, Plan, Secret

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    r"""Return text with controls, bidi overrides, zero-width characters and surrogates as ``\x1b``, ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(map(_show_character, text))


@lru_cache(maxsize=4096)
def _show_character(character: str) -> str:
    return character if _is_harmless(character) else _escape_character(character)


def escape_lines(text: str) -> str:
    """Return text of several lines with escaped lines; tabs, and line feeds of Windows, are harmless there."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(escape, line.split("\t"))) for line in lines)


def _is_harmless(character: str) -> bool:
    if character.isprintable():
        return True
    from unicodedata import category

    return category(character) == "Zs"  # spaces of other widths, as in Japanese titles


def _escape_character(character: str) -> str:
    point = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return (
        f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"  # noqa: PLR2004 - one, two or four bytes
    )


def fields_of(value: object) -> dict[str, object]:
    """Return the fields of a struct or a mapping as they are shown, with unchanged values.

    A page also has ``has_more``, a plan ``digest``, and a change ``effect``. The columns in ``extra`` are added, but never replace a field.
    """
    if isinstance(value, Mapping):
        return {_key(key): item for key, item in value.items()}
    if not isinstance(value, msgspec.Struct):
        raise TypeError(f"{type(value).__name__} has no fields")
    fields: dict[str, object] = {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, Page):
        fields = {name: fields[name] for name in ("items", "total", "limit", "offset")}
        fields["has_more"] = value.has_more
    if isinstance(value, Plan):
        fields["digest"] = value.digest
    if isinstance(value, ChangeResult):
        fields["effect"] = value.effect
    extra = fields.get("extra")
    if isinstance(extra, Mapping):
        del fields["extra"]
        fields |= {_key(key): item for key, item in extra.items() if _key(key) not in fields}
    return fields


def jsonable(value: object) -> object:  # noqa: C901, PLR0911, PLR0912 - one branch per type
    """Convert ``value`` to types of JSON.

    Times are ISO 8601 in UTC with milliseconds, or microseconds if the time has any, durations seconds, bytes and text that is not Unicode
    ``{"$b64": …}``. NaN and the infinities, which JSON lacks, are the texts ``NaN``, ``Infinity`` and
    ``-Infinity``; a decimal that no float represents exactly is also text.

    Raises:
        TypeError: the value is a secret, or has an unsupported type.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return jsonable(value.value) if isinstance(value.value, str) else value.name
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return (
            value
            if math.isfinite(value)
            else "NaN"
            if math.isnan(value)
            else "Infinity"
            if value > 0
            else "-Infinity"
        )
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        unit = "microseconds" if value.microsecond % 1000 else "milliseconds"
        return aware.astimezone(UTC).isoformat(timespec=unit).replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return int(seconds) if seconds.is_integer() else seconds
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$b64": b2a_base64(value, newline=False).decode()}
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, PurePath):
        return _text(str(value))
    if isinstance(value, (msgspec.Struct, Mapping)):
        return {name: jsonable(item) for name, item in fields_of(value).items()}
    if isinstance(value, (set, frozenset)):
        return sorted((jsonable(item) for item in value), key=str)
    if isinstance(value, Iterable) and not isinstance(value, Secret):
        return [jsonable(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be shown")


def _text(text: str) -> object:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            # Engines return bytes that are not UTF-8 in this form.
            raw = text.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            raw = text.encode(errors="surrogatepass")
        return {"$b64": b2a_base64(raw, newline=False).decode()}
    return str(text)


def _key(key: object) -> str:
    return str(key).encode(errors="backslashreplace").decode()


def _decimal(value: Decimal) -> int | float | str:
    if not value.is_finite():
        return "NaN" if value.is_nan() else "Infinity" if value > 0 else "-Infinity"
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)


MISSING = "-"
NULL = "NULL"
#: Bytes of a value that are shown, in the form of keys in commands; of longer values only the size is.
SHOWN_BYTES = 64
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
    if isinstance(value, str):  # as most values are
        return escape(str(value))
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
        raw = bytes(value)
        return f"\\x{raw.hex()}" if len(raw) <= SHOWN_BYTES else f"{units.format_size(len(raw))} of bytes"
    if isinstance(value, (Mapping, msgspec.Struct)):
        return (
            ", ".join(f"{escape(key)}={format_value(key, item)}" for key, item in fields_of(value).items())
            or MISSING
        )
    if isinstance(value, model.RowKey):
        return (
            escape(join(format_value(name, part) if isinstance(part, bytes) else str(part) for part in value))
            or MISSING
        )
    if isinstance(value, (Sequence, AbstractSet)):
        return ", ".join(format_value(name, item) for item in value) or MISSING
    return escape(str(value if isinstance(value, date) else jsonable(value)))


def describe_stored_value(value: object) -> object:
    """Return a value of a database for a table: NULL as ``NULL``, arrays as JSON, and text that could be mistaken for NULL in quotation marks."""
    if value is None:
        return NULL
    if isinstance(value, list):
        return msgspec.json.encode(jsonable(value)).decode()
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
        return value.astimezone().replace(tzinfo=None).isoformat(" ", "minutes")  # %Y would not pad a year
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
