"""Rows as lines: their values, and SQL for their keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dbctl.extensions.transfer.portable.contract import Line, LineColumn

#: Separates the values of a line.
TAB = b"\t"
NULL = rb"\N"

_ESCAPES = {b"\\": b"\\\\", b"\t": b"\\t", b"\n": b"\\n", b"\r": b"\\r"}
_MEANINGS = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}


def split_line(line: Line) -> list[bytes | None]:
    fields = line.split(TAB)
    if b"\\" not in line:
        return list(fields)
    return [None if field == NULL else _unescape(field) for field in fields]


def join_line(values: Iterable[bytes | None]) -> Line:
    return TAB.join(NULL if value is None else escape(value) for value in values)


def escape(value: bytes) -> bytes:
    """Return a value as part of a line."""
    for character, text in _ESCAPES.items():
        if character in value:
            value = value.replace(character, text)
    return value


def key_of(line: Line, width: int) -> Line:
    """Return the first ``width`` values of a line, which are its key."""
    return TAB.join(line.split(TAB, width)[:width])


def _unescape(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    first, *others = field.split(b"\\")
    parts, literal = [first], False
    for part in others:
        if literal:  # the part follows an escaped backslash
            parts.append(part)
            literal = False
        elif part:
            parts.append(_MEANINGS.get(part[:1], part[:1]) + part[1:])
        else:
            parts.append(b"\\")
            literal = True
    return b"".join(parts)


#: Keys in one statement.
KEYS_PER_STATEMENT = 300


def position_clauses(
    names: Sequence[str],
    columns: Sequence[LineColumn],
    position: str,
    end: str,
    literal: Callable[[LineColumn, bytes], str],
) -> str:
    """Return the clauses that read rows in the order of their key, after that of ``position``; empty without a key.

    Args:
        names: SQL for the key columns, with which a line begins.
        columns: the columns of the lines.
        position: the beginning of a line; empty to begin with the first row.
        end: the beginning of the last line; empty to read all rows.
        literal: returns SQL for a value of a column.
    """
    if not names:
        return ""
    listed, conditions = ", ".join(names), list[str]()
    for operator, line in ((">", position), ("<=", end)):
        if line:
            fields = zip(columns, split_line(line.encode()), strict=False)
            values = ", ".join(literal(column, value or b"") for column, value in fields)
            conditions.append(f"({listed}) {operator} ({values})")
    where = f" where {' and '.join(conditions)}" if conditions else ""
    return f"{where} order by {listed}"


def match_keys(
    names: Sequence[str],
    key: Sequence[LineColumn],
    keys: Sequence[Line],
    literal: Callable[[LineColumn, bytes], str],
    *,
    list_word: str = "",
) -> str:
    """Return SQL that is true for the rows with these keys.

    Args:
        names: SQL for the values of the key columns.
        key: the columns of the lines.
        keys: their values; a key has no NULL.
        literal: returns SQL for a value of a column.
        list_word: begins a list of rows.
    """
    rows = [
        ", ".join(literal(column, value or b"") for column, value in zip(key, split_line(line), strict=True))
        for line in keys
    ]
    if len(names) == 1:
        return f"{names[0]} in ({', '.join(rows)})"
    return f"({', '.join(names)}) in ({list_word}{', '.join(f'({row})' for row in rows)})"
