"""What the driver makes of what the server sends: plain values, the same kinds that every engine gives."""

from __future__ import annotations

from datetime import UTC, datetime

from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions


def _number(text: str) -> object:
    whole, _, fraction = text.partition(".")
    return int(whole) if fraction.strip("0") == "" and whole.lstrip("-").isdigit() else float(text)


def _parse_time(text: str) -> object:
    """Of the session, whose zone is UTC; columns have none."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:  # 0000-00-00, or a day that no month has
        return text


def _bits(data: bytes) -> int:
    return int.from_bytes(data, "big")


#: Everything that is not here comes as the driver gives it: text as text, bytes as bytes, whole numbers as such.
PLAIN = {
    **conversions,
    FIELD_TYPE.BIT: _bits,
    FIELD_TYPE.DATE: str,
    FIELD_TYPE.DATETIME: _parse_time,
    FIELD_TYPE.DECIMAL: _number,
    FIELD_TYPE.NEWDECIMAL: _number,
    FIELD_TYPE.TIME: str,
    FIELD_TYPE.TIMESTAMP: _parse_time,
}
