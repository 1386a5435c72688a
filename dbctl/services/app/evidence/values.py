"""The forms of sampled values: times, booleans and keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from dbctl.engines.contract.database import Column
from dbctl.profiles.codecs import BooleanCodec, KeyCodec, TimeCodec
from dbctl.services.app.user_roles.columns import BOOLEAN_TYPE, WHOLE_TYPE

#: Numbers that are times from 2001 to 2286: in seconds, and in milliseconds.
SECONDS, MILLISECONDS = range(1_000_000_000, 10_000_000_000), range(1_000_000_000_000, 10_000_000_000_000)
TIME_TYPE = re.compile(r"DATE|TIME")
TEXT_TYPE = re.compile(r"CHAR|TEXT|CLOB|STRING|UUID|CITEXT|^$")
_DAY = r"\d{4}-\d\d-\d\d"
_TIMES: Mapping[str, TimeCodec] = {
    rf"{_DAY}T\d\d:\d\d:\d\d\.\d{{3}}Z": "iso-ms",
    rf"{_DAY} \d\d:\d\d:\d\d": "sqlite-time",
}
_ANY_TIME = rf"{_DAY}[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?"
_KEYS: Mapping[KeyCodec, tuple[str, str]] = {
    "uuid4": (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUIDs"),
    "cuid": (r"c[0-9a-z]{24}", "CUIDs"),
    "object-id": (r"[0-9a-f]{24}", "object ids"),
}

TimeForm = TimeCodec | Literal["other"]


def read_time_form(value: object) -> TimeForm | None:
    """Return the form of a stored time; ``other``: a time that dbctl reads, but does not write; None: no time."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return "epoch-s" if int(value) in SECONDS else "epoch-ms" if int(value) in MILLISECONDS else None
    text = str(value)
    exact: TimeForm | None = next(
        (form for pattern, form in _TIMES.items() if re.fullmatch(pattern, text)), None
    )
    return exact or ("other" if re.fullmatch(_ANY_TIME, text) else None)


def count_time_forms(values: Iterable[object]) -> Counter[TimeForm]:
    """Return the number of values of each form of time."""
    return Counter(form for value in values if (form := read_time_form(value)))


def is_time(column: Column, values: Iterable[object]) -> bool:
    """Return whether a column stores times."""
    stored = [value for value in values if value not in ("", 0)]
    if column.native == "time" or any(isinstance(value, datetime) for value in stored):
        return True
    if stored:
        return all(map(read_time_form, stored))
    return bool(TIME_TYPE.search(column.type))


def is_boolean(column: Column, values: Iterable[object]) -> bool:
    """Return whether a column stores booleans: by its type, or numbers of which none is larger than 1."""
    if column.native == "boolean" or re.fullmatch(BOOLEAN_TYPE, column.type):
        return True
    stored = list(values)
    return (
        bool(re.search(WHOLE_TYPE, column.type))
        and not column.is_primary_key
        and all(value in (0, 1) for value in stored)
        and bool(stored)
    )


def is_text(column: Column) -> bool:
    """Return whether a column has a type of texts."""
    return bool(TEXT_TYPE.search(column.type)) and not column.native


def is_whole(column: Column) -> bool:
    """Return whether a column has a type of integers."""
    return bool(re.search(WHOLE_TYPE, column.type)) and not re.fullmatch(BOOLEAN_TYPE, column.type)


def guess_key_codec(column: Column, values: list[object]) -> tuple[KeyCodec, str]:
    """Return how new keys are created, and the evidence."""
    if is_whole(column):
        if not column.required:
            return "autoincrement", "the database creates the keys"
        return "given", "integers that the database does not create"
    texts = [str(value) for value in values]
    total = len(texts)
    for codec, (pattern, label) in _KEYS.items():
        count = sum(1 for text in texts if re.fullmatch(pattern, text, re.IGNORECASE))
        if count and 2 * count > total:
            return codec, f"{count} of {total} keys are {label}"
    if column.native == "uuid":
        return "uuid4", "the type of the column"
    return (
        "given",
        f"no known form of keys in {total} rows: a new user requires --set id=KEY" if total else "no rows",
    )


def boolean_form(values: Iterable[object]) -> Counter[BooleanCodec]:
    """Return the number of values in each form of booleans, without native ones."""
    counter = Counter[BooleanCodec]()
    for value in values:
        if isinstance(value, bool):
            continue
        if value in (0, 1):
            counter["bool-01"] += 1
        elif str(value).lower() in ("true", "false"):
            counter["bool-text"] += 1
    return counter
