"""What Arrow holds as rows of the contract, and lists and objects as the JSON text that they would be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dbctl.engines.sql import is_storable
from dbctl.errors import NotSupportedError, ValueInvalidError

if TYPE_CHECKING:
    import pyarrow as pa


Row = tuple[object, ...]


def rows(batch: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> list[Row]:
    """Return rows with these columns in this order; one may be asked for twice."""
    told = {name: values(batch.column(name)) for name in dict.fromkeys(columns)}
    return list(zip(*(told[name] for name in columns), strict=True)) if columns else [()] * batch.num_rows


def values(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Return what a column holds."""
    kind = column.type
    if family(kind) == "text":
        return _texts(column)
    if family(kind) == "vector":
        return [one for chunk in _chunks(column) for one in _lists(chunk)]
    found = column.to_pylist()
    told = _SPOKEN.get(str(kind).partition("[")[0].partition("<")[0])
    return [None if one is None else told(one) for one in found] if told else found


def _texts(column: pa.Array | pa.ChunkedArray) -> list[object]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:  # another writer kept bytes that are no text
        import pyarrow as pa

        plain = column.cast(pa.large_string()).cast(pa.large_binary(), safe=False).to_pylist()
        return [None if one is None else one.decode("utf-8", "surrogateescape") for one in plain]


def _chunks(column: pa.Array | pa.ChunkedArray) -> Sequence[pa.Array]:
    return column.chunks if hasattr(column, "chunks") else [column]


def _lists(column: pa.Array) -> Iterator[str | None]:
    """Yield each list as JSON, its numbers in as few digits as tell them apart in their own type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = column.flatten()
    if column.null_count or numbers.null_count or not pc.all(pc.is_finite(numbers)).as_py():
        yield from map(_list, column)
    elif len(column):
        size = getattr(column.type, "list_size", 0)
        ends = pa.array(range(0, len(numbers) + 1, size), pa.int64()) if size else None
        if ends is None:  # a slice begins where it is cut out, and its numbers at the first
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_pylist()
            ends = pa.array(accumulate(lengths, initial=0), pa.int64())
        told = pa.LargeListArray.from_arrays(ends, numbers.cast(pa.string()))
        for text in pc.binary_join(told, ", ").to_pylist():
            yield f"[{text}]"


def _list(one: pa.Scalar) -> str | None:
    import pyarrow as pa

    if not one.is_valid:
        return None
    words = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN", "-nan": "NaN", None: "null"}
    told = one.values.cast(pa.string()).to_pylist()
    return "[" + ", ".join(words.get(text, text) for text in told) + "]"


def _object(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _aware(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _midnight(value: date) -> datetime:
    return datetime(value.year, value.month, value.day, tzinfo=UTC)


_SPOKEN: dict[str, Callable[[Any], object]] = {
    "timestamp": _aware,
    "date32": _midnight,
    "date64": _midnight,
    "struct": _object,
    "map": _object,
    "list": _object,
    "large_list": _object,
    "fixed_size_list": _object,
}


Family: TypeAlias = Literal[
    "text", "boolean", "whole", "fraction", "time", "bytes", "vector", "nested", "other"
]


@lru_cache(maxsize=256)
def family(kind: pa.DataType) -> Family:
    """Return the family of a type; a vector is a list of numbers with a fraction, and text may be kept once for many rows."""
    import pyarrow.types as types  # noqa: PLR0402 - comes with the library

    if (
        types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    ) and types.is_floating(kind.value_type):
        return "vector"
    if decoded(kind) != kind:
        return "text"
    tests: dict[Family, bool] = {
        "text": types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind),
        "boolean": types.is_boolean(kind),
        "whole": types.is_integer(kind),
        "fraction": types.is_floating(kind),
        "time": types.is_timestamp(kind) or types.is_date(kind),
        "bytes": types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind),
        "nested": types.is_nested(kind),
    }
    return next((name for name, holds in tests.items() if holds), "other")


def decoded(kind: pa.DataType) -> pa.DataType:
    """Return the type of text that is kept once for many rows, and any other as it is."""
    import pyarrow.types as types  # noqa: PLR0402 - as above

    kept_once = types.is_dictionary(kind) and family(kind.value_type) == "text"
    return kind.value_type if kept_once else kind


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
