"""What Arrow holds as rows of the contract, and lists and objects as the JSON text that they would be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from dbctl.engines.lancedb.families import family

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
