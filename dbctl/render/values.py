"""Convert values to JSON without loss, in the same way for every command."""

from __future__ import annotations

import math
from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from uuid import UUID

import msgspec

from dbctl.model import ChangeResult, Page, Plan, Secret


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

    Times are ISO 8601 in UTC with milliseconds, durations seconds, bytes and text that is not Unicode
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
        return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
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
