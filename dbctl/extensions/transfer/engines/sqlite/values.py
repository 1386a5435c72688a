"""Convert stored values of any type to the texts of lines, in SQL as far as possible, and back."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from math import isfinite
from typing import Any

from dbctl.engines.sqlite.values import DAY, RawText, find_affinity
from dbctl.extensions.transfer.portable import canonical
from dbctl.extensions.transfer.portable.contract import LineColumn, LogicalKind
from dbctl.extensions.transfer.portable.lines import escape
from dbctl.model import TimeForm
from dbctl.profiles import codecs

#: Characters that a line escapes, as SQL, and their escapes.
_ESCAPES = {r"'\'": r"'\\'", "'\t'": r"'\t'", "'\n'": r"'\n'", "'\r'": r"'\r'"}
_MILLISECONDS = f"case when {{0}} < {codecs.SMALLEST_MILLISECONDS} then {{0}} * 1000 else {{0}} end"
#: A positive number of seconds or milliseconds, which are the most frequent forms, as a time.
_EPOCH = (
    f"strftime('%Y-%m-%d %H:%M:%S', ({_MILLISECONDS}) / 1000, 'unixepoch')"
    f" || case when ({_MILLISECONDS}) % 1000 then rtrim(printf('.%03d', ({_MILLISECONDS}) % 1000), '0') else '' end"
)
_CLOCK = "[0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
#: A value as the argument of a function: the driver decodes texts, which may not be UTF-8.
_VALUE = "case typeof({0}) when 'text' then cast({0} as blob) else {0} end"
#: SQL that is true for a time with more digits than lines carry; the pattern avoids most calls of the function.
LOSES_DIGITS = f"({{0}} glob '*[.,]{'[0-9]' * 7}*' and dbctl_loses_digits({_VALUE}))"
_REAL = "case typeof({0}) when 'text' then {0} else dbctl_real({0}) end"
#: SQL for a value of a column that may contain real numbers: SQLite itself writes only 15 of their digits.
_ALL_DIGITS = "case typeof({0}) when 'real' then dbctl_real({0}) else {0} end"
#: Kinds that have no form of their own: a text of the database.
_WORDS = frozenset[LogicalKind]({"text", "enum", "any"})
#: SQL for the text of a value that is not NULL, by kind; other kinds are text.
TEXTS: Mapping[LogicalKind, str] = {
    "boolean": "case {0} when 0 then 0 when 1 then 1 else case lower({0}) when 'true' then 1 when 'false' then 0 else {0} end end",
    "real": _REAL,
    "real-unsigned": _REAL,
    "decimal": f"case typeof({{0}}) when 'integer' then {{0}} else dbctl_decimal({_VALUE}) end",
    "timestamp": f"case when typeof({{0}}) = 'integer' and {{0}} > 0 and {{0}} < 100000000000000 then {_EPOCH}"
    f" when {{0}} glob '{DAY} {_CLOCK}' then {{0}} else dbctl_timestamp({_VALUE}) end",
    "date": f"case when {{0}} glob '{DAY}' then {{0}} else dbctl_date({_VALUE}) end",
    "time": f"case when {{0}} glob '{_CLOCK}' then {{0}} else dbctl_time({_VALUE}) end",
    "bytes": rf"'\\x' || case when {{0}} is not null then lower(hex({_ALL_DIGITS})) end",  # hex(null) is empty,
    "uuid": "dbctl_uuid(case typeof({0}) when 'blob' then hex({0}) else cast({0} as blob) end)",
    "json": f"dbctl_json({_VALUE})",
    "json-float": f"dbctl_json_floats({_VALUE})",
}
#: SQL for an exact value, with its type: ``t`` and a text, ``r`` and a real number, bytes, or an integer; ``{1}``: the text.
_EXACT = (
    "case typeof({0}) when 'integer' then {0} when 'text' then 't' || {1}"
    r" when 'real' then 'r' || dbctl_real({0}) when 'blob' then '\\x' || hex({0}) else '\N' end"
)
#: The same for a column that mostly contains text, which is less than any bytes; ``{2}``: the tab before it.
#: A comparison takes less time than ``typeof``, and each concatenation copies the line.
_EXACT_TEXT = f"case when {{0}} collate binary < x'' then '{{2}}t' || {{1}} else '{{2}}' || {_EXACT} end"
#: Kinds of keys that are stored in one form only.
DIRECT_KINDS = frozenset[LogicalKind]({"integer", "text", "enum", "native"})
_LONG_FRACTION = re.compile(rb"[.,]\d{6}\d*[1-9]")
_UUID_DIGITS = 32


def plain_expression(name: str, kind: LogicalKind, *, nullable: bool) -> str:
    """Return SQL for the value of a column, a name in SQL, as part of a line in which no character needs an escape."""
    if kind == "native":
        return _EXACT.format(name, name)
    text = TEXTS.get(kind, "{0}").format(name)
    return rf"coalesce({text}, '\N')" if nullable else f"({text})"


def join_plain_texts(columns: Sequence[tuple[str, LogicalKind, str, bool]]) -> str:
    """Return SQL for a line in which no character needs an escape.

    ``columns`` has the name in SQL of each column, its kind, its declared type, and whether it may be NULL.
    """
    parts: list[str] = []
    for name, kind, declared, nullable in columns:
        separator = "\t" if parts else ""
        if kind == "native" and find_affinity(declared) == "TEXT":
            parts.append(_EXACT_TEXT.format(name, name, separator))
        else:
            has_numbers = kind in _WORDS and find_affinity(declared) != "TEXT"
            value = _ALL_DIGITS.format(name) if has_numbers else name
            parts += [f"'{separator}'", plain_expression(value, kind, nullable=nullable)]
    return " || ".join(parts)


def line_expression(name: str, kind: LogicalKind) -> str:
    """Return SQL for the value of a column, a name in SQL, as part of a line."""
    if kind == "bytes":
        return plain_expression(name, kind, nullable=True)
    text = TEXTS.get(kind, "{0}").format(name)
    escaped = text
    for character, escape_sequence in _ESCAPES.items():
        escaped = f"replace({escaped}, {character}, {escape_sequence})"
    if kind not in TEXTS:  # four searches take less time than four replacements
        is_special = " or ".join(f"instr({name}, {character})" for character in _ESCAPES)
        text = f"case when {is_special} then {escaped} else {_ALL_DIGITS.format(name) if kind in _WORDS else name} end"
    else:
        text = escaped
    return _EXACT.format(name, text) if kind == "native" else rf"coalesce({text}, '\N')"


def backslash_expression(name: str, kind: LogicalKind, *, nullable: bool) -> str:
    """Return SQL for the number of backslashes that a value adds to a line without escapes; empty for none.

    For exact values see ``count_exact_backslashes``.
    """
    if kind == "native":
        return ""
    if kind == "bytes":
        return f"2 - ({name} is null)"
    return f"({name} is null)" if nullable else ""


def count_exact_backslashes(lines: bytes) -> int:
    """Return the number of backslashes that exact NULL and bytes add to lines; a text would begin with ``t``."""
    if b"\\" not in lines:
        return 0
    counts = {rb"\N": 1, rb"\\x": 2}
    return sum(
        count * (lines.count(b"\t" + text) + lines.count(b"\n" + text) + lines.startswith(text))
        for text, count in counts.items()
    )


def key_expression(name: str, kind: LogicalKind, declared: str = "text") -> str:
    """Return SQL for the value of a key column that ``key_literal`` compares; a plain name can use an index."""
    # SQLite compares 15 digits of a real number with a text, but converts the text for a column of numbers
    if kind in _WORDS and find_affinity(declared) == "BLOB":
        return _ALL_DIGITS.format(name)
    return name if kind in DIRECT_KINDS else line_expression(name, kind)


def key_literal(column: LineColumn, value: bytes) -> str:
    if column.kind == "native":
        return _quote_exact(parse_exact(value))
    if column.kind == "integer" and value.lstrip(b"-").isdigit():
        return value.decode()
    if column.kind not in DIRECT_KINDS:
        value = escape(value)
    return f"cast(x'{value.hex()}' as text)"


def _quote_exact(value: object) -> str:
    if isinstance(value, bytes) and not isinstance(value, RawText):
        return f"x'{value.hex()}'"
    if isinstance(value, str | RawText):
        return f"cast(x'{_to_bytes(value).hex()}' as text)"
    return repr(value)


def register_functions(connection: sqlite3.Connection) -> None:
    """Create the functions that ``line_expression`` uses."""
    for name, function in _FUNCTIONS.items():
        connection.create_function(name, 1, function, deterministic=True)


def _apply(normalize: canonical.Normalizer) -> Callable[[object], str | bytes | None]:
    def convert(value: object) -> str | bytes | None:
        return None if value is None else _to_text(normalize(_to_bytes(value)))

    return convert


def _format_real(value: object) -> object:
    if isinstance(value, int | float) and isfinite(value):  # most values
        return repr(float(value))
    return _normalize_real(value)


def _to_text(value: bytes) -> str | bytes:
    """Return a text as SQLite accepts it from a function: bytes if it is not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _to_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _format_timestamp(value: object) -> object:
    if isinstance(value, int | float):
        seconds = value if abs(value) < codecs.SMALLEST_MILLISECONDS else value / 1000
        try:
            return canonical.format_timestamp(codecs.EPOCH + timedelta(seconds=seconds)).decode()
        except OverflowError:
            return str(value)
    text = _to_bytes(value)
    if text.isdigit() and (time := codecs.read_time(text.decode())):
        return canonical.format_timestamp(time).decode()
    return _to_text(canonical.normalize_timestamp(text))


def _loses_digits(value: object) -> bool:
    text = _to_bytes(value)
    return bool(_LONG_FRACTION.search(text)) and canonical.normalize_timestamp(text) != text


def _format_date(value: object) -> object:
    formatted = _format_timestamp(value)
    text = formatted.decode("utf-8", "surrogateescape") if isinstance(formatted, bytes) else str(formatted)
    day, _, clock = text.partition(" ")
    return day if clock in ("", "00:00:00") else text


def _format_time(value: object) -> object:
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    if re.fullmatch("[0-2][0-9]:[0-5][0-9]", text):
        return f"{text}:00"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _format_uuid(value: object) -> object:
    text = _to_bytes(value).decode("utf-8", "surrogateescape").lower()
    if len(text) == _UUID_DIGITS and text.isalnum():
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return text


def _skip_null(function: Callable[[object], object]) -> Callable[[object], object]:
    def convert(value: object) -> object:
        result = None if value is None else function(value)
        return _to_text(result.encode("utf-8", "surrogateescape")) if isinstance(result, str) else result

    return convert


_normalize_real = _apply(canonical.normalize_real)
_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "dbctl_real": _format_real,
    "dbctl_decimal": _apply(canonical.normalize_decimal),
    "dbctl_json": _apply(canonical.normalize_json),
    "dbctl_json_floats": _apply(canonical.normalize_json_floats),
    "dbctl_timestamp": _skip_null(_format_timestamp),
    "dbctl_date": _skip_null(_format_date),
    "dbctl_time": _skip_null(_format_time),
    "dbctl_uuid": _skip_null(_format_uuid),
    "dbctl_loses_digits": _loses_digits,
}


# Writing ----------------------------------------------------------------------------------------------------------


def value_parser(column: LineColumn, declared: str) -> Callable[[bytes], object]:
    """Return the function that converts the text of a value to the value that a column of this type stores."""
    if column.kind == "timestamp":
        return _TIMES[column.time_form]
    if column.kind == "uuid" and declared == f"CHAR({_UUID_DIGITS})":  # without hyphens, as Django stores it
        return lambda text: text.decode().replace("-", "")
    return _PARSERS.get(column.kind, parse_text)


def parse_text(text: bytes) -> str | RawText:
    """Return a text, or its bytes if it is not UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return RawText(text)


def parse_exact(text: bytes) -> object:
    """Return the value of a text of the kind ``native``."""
    kind = text[:1]
    if kind == b"t":
        return parse_text(text[1:])
    if kind == b"r":
        return float(text[1:])
    return bytes.fromhex(text[2:].decode("ascii")) if kind == b"\\" else int(text)


def _parse_integer(text: bytes) -> object:
    try:
        number = int(text)
    except ValueError:
        return parse_text(text)
    return number if -(1 << 63) <= number < 1 << 63 else parse_text(text)


def _parse_real(text: bytes) -> object:
    try:
        number = float(text)
    except ValueError:
        return parse_text(text)
    return parse_text(text) if number != number else number  # noqa: PLR0124 - NaN, which would be stored as NULL


def _parse_bytes(text: bytes) -> object:
    return bytes.fromhex(text[2:].decode("ascii")) if text.startswith(rb"\x") else parse_text(text)


def _parse_number_of_time(write: Callable[[datetime], object], text: bytes) -> object:
    """Return a time as a number; as a text if the number would be read as another time."""
    try:
        time = datetime.fromisoformat(text.decode("ascii")).replace(tzinfo=UTC)
    except ValueError:
        return parse_text(text)
    number = write(time)
    return number if codecs.read_time(number) == time else parse_text(text)


def _parse_iso(text: bytes) -> object:
    try:
        datetime.fromisoformat(text.decode("ascii"))
    except ValueError:  # such as the zero dates of MySQL
        return parse_text(text)
    day, _, clock = text.partition(b" ")
    if not clock:
        return parse_text(text)
    clock, _, fraction = clock.partition(b".")
    return parse_text(b"%sT%s.%sZ" % (day, clock, fraction.ljust(3, b"0")))


_PARSERS: Mapping[LogicalKind, Callable[[bytes], object]] = {
    "integer": _parse_integer,
    "boolean": _parse_integer,
    **dict.fromkeys(["real", "real-unsigned"], _parse_real),
    "bytes": _parse_bytes,
    "native": parse_exact,
}
_TIMES: Mapping[TimeForm, Callable[[bytes], object]] = {
    "sqlite-time": parse_text,
    "iso-ms": _parse_iso,
    "epoch-ms": partial(_parse_number_of_time, codecs.TIMES["epoch-ms"]),
    "epoch-s": partial(_parse_number_of_time, codecs.TIMES["epoch-s"]),
}
