"""Values as the library reads them in a predicate, which takes no parameters; the only place that writes them there."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from dbctl.engines.lancedb.families import Family, family
from dbctl.engines.sql import is_storable
from dbctl.errors import NotSupportedError, ValueInvalidError

if TYPE_CHECKING:
    import pyarrow as pa

#: What stands in place of a test that no row meets, and of one that every row meets.
NONE, EVERY = "false", "true"
INT64 = range(-(1 << 63), 1 << 63)


def ident(name: str) -> str:
    """Quote the name of a column.

    Raises:
        NotSupportedError: it holds a backtick, for which the library has no escape.
    """
    if "`" in name:
        raise NotSupportedError(
            what=f"a condition on the column {name!r}",
            by="LanceDB",
            instead="A backtick in a name has no escape there.",
        )
    return f"`{name}`"


def text(value: str) -> str:
    """Return a text as a literal; a backslash in it is one.

    Raises:
        ValueInvalidError: no column can hold it.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueInvalidError(what="text", value=ascii(value), reason="it is no valid UTF-8")
    return "'" + value.replace("'", "''") + "'"


def refuse(value: object) -> None:
    """Refuse what no column of any type can hold.

    Raises:
        ValueInvalidError: it is NaN, a whole number of more than 64 bits, or text that is no Unicode.
    """
    if isinstance(value, float) and math.isnan(value):
        raise ValueInvalidError(what="number", value="NaN", reason="no database keeps it")
    if isinstance(value, int) and value not in INT64:
        raise ValueInvalidError(what="number", value=value, reason="it has more than 64 bits")
    if isinstance(value, str) and not is_storable(value.replace("\0", "")):
        raise ValueInvalidError(what="text", value=ascii(value), reason="it is no valid UTF-8")


def literal(value: object, kind: pa.DataType) -> str | None:
    """Return a value as one of a type; None where no row of that type can hold it.

    Raises:
        ValueInvalidError: as ``refuse``.
    """
    refuse(value)
    write = _WRITTEN.get(family(kind))
    return write(value, kind) if write else None


def _text(value: object, _kind: pa.DataType) -> str | None:
    if isinstance(value, bool | bytes):
        return None
    return text(value if isinstance(value, str) else str(value))


def _boolean(value: object, _kind: pa.DataType) -> str | None:
    return {0: "false", 1: "true"}.get(value) if isinstance(value, bool | int) else None


def _number(value: object) -> int | float | Decimal | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float | Decimal):
        return value
    if isinstance(value, str):
        try:
            number = Decimal(value.strip()) if value.strip().isascii() else None
        except ArithmeticError:
            return None
        return number if number is not None and number.is_finite() else None
    return None


def _whole(value: object, kind: pa.DataType) -> str | None:
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        return None
    bits, whole = kind.bit_width, int(number)
    signed = str(kind).startswith("int")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= whole <= high:
        return None
    return f"({whole + 1} - 1)" if whole == INT64.start else str(whole)


def _fraction(value: object, _kind: pa.DataType) -> str | None:
    told = _number(value)
    if told is None:
        return None
    number = float(told)
    if math.isinf(number):
        return f"cast('{'-' if number < 0 else ''}inf' as double)"
    written = repr(number)
    return written if "." in written or "e" in written else f"{written}.0"


def _moment(value: object, kind: pa.DataType) -> str | None:
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
    else:
        try:
            moment = datetime.fromisoformat(str(value).strip())
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    kept = moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    return f"cast('{kept}' as {'date' if str(kind).startswith('date') else 'timestamp'})"


_WRITTEN: dict[Family, Callable[[object, pa.DataType], str | None]] = {
    "text": _text,
    "boolean": _boolean,
    "whole": _whole,
    "fraction": _fraction,
    "time": _moment,
}
