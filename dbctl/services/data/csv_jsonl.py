"""Files of rows: CSV in which NULL and empty text differ, and JSON lines; read and written in constant memory."""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import IO, NamedTuple

import msgspec

from dbctl.errors import ValueInvalidError

#: Characters that are read at once.
BLOCK = 1 << 18
#: Rows that are written together.
BATCH = 1000
#: What is read as a number, or as bytes, where it stands without quotes.
MEANT = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|-?Infinity|\\x.*", re.DOTALL | re.ASCII)
#: Numbers larger than any, which JSON has no word for.
INFINITE = (msgspec.Raw(b"-1e999"), msgspec.Raw(b"1e999"))
_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\r|\n|\Z)')
_LINE_END = re.compile(r"\r\n|\r|\n")
_QUOTED = re.compile(r'[",\r\n]')
_FIRST = frozenset("-0123456789I\\")
#: How a text begins that a spreadsheet would run.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Form(StrEnum):
    """Forms of a file of rows."""

    CSV = "csv"
    JSONL = "jsonl"


class Cell(NamedTuple):
    """A cell of a CSV file that is not NULL."""

    text: str
    bare: bool  #: without quotes


class Line(NamedTuple):
    """One row of a file."""

    number: int  #: the line on which it begins, from 1
    values: Sequence[object]  #: None for NULL; cells of CSV, values of JSON


class FileBrokenError(Exception):
    """A file cannot be read on from a line; what stands before it could."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


# Writing -----------------------------------------------------------------------------------------------------------


def write_csv(
    columns: Sequence[str],
    batches: Iterable[Sequence[Sequence[object]]],
    write: Callable[[bytes], object],
    *,
    excel_safe: bool = False,
) -> int:
    r"""Write a heading and rows, UTF-8; return how many rows.

    NULL is nothing between commas, empty text is ``""``. Numbers and bytes (``\x`` and hexadecimal) stand bare, and
    text that looks like either in quotes. ``excel_safe`` puts ``'`` before text that a spreadsheet would run, which
    is then part of it.
    """
    write((",".join(_text(name) for name in columns) + "\n").encode("utf-8", "surrogateescape"))
    number = 0
    for rows in batches:
        lines = [",".join([_cell(value, excel_safe=excel_safe) for value in row]) for row in rows]
        write(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
        number += len(rows)
    return number


def _cell(value: object, *, excel_safe: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _text("'" + value if excel_safe and value.startswith(_FORMULA) else value)
    for kind, spell in _SPELLED.items():
        if isinstance(value, kind):
            return spell(value)
    return str(value)


def _fraction(value: float) -> str:
    return repr(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _json(value: object) -> str:
    return msgspec.json.Encoder(decimal_format="number").encode(value).decode()


#: The first kind that a value is of counts: a bool is an int.
_SPELLED: Mapping[type, Callable[..., str]] = {
    bool: lambda value: "t" if value else "f",
    int: str,
    float: _fraction,
    bytes: lambda value: "\\x" + value.hex(),
    datetime: lambda value: value.isoformat(" "),
    list: lambda value: _text(_json(value)),
    dict: lambda value: _text(_json(value)),
}


def _text(value: str) -> str:
    if (
        not value
        or _QUOTED.search(value)
        or (value[0] in _FIRST and MEANT.fullmatch(value))
        or value == "\\."
    ):
        return '"' + value.replace('"', '""') + '"'
    return value


def write_jsonl(
    columns: Sequence[str],
    batches: Iterable[Sequence[Sequence[object]]],
    write: Callable[[bytes], object],
) -> int:
    """Write an object on a line for every row; return how many. Bytes are ``{"$b64": …}``.

    Raises:
        ValueInvalidError: a text is no Unicode.
    """
    encoder = msgspec.json.Encoder(decimal_format="number")
    number = 0
    for rows in batches:
        told = [dict(zip(columns, map(_value, row), strict=True)) for row in rows]
        try:
            write(encoder.encode_lines(told))
        except UnicodeEncodeError as error:
            reason = f"between rows {number + 1} and {number + len(rows)} one is no UTF-8; as csv it keeps its bytes"
            raise ValueInvalidError(what="a text", value="stored", reason=reason) from error
        number += len(rows)
    return number


def _value(value: object) -> object:
    if isinstance(value, bytes):
        return {"$b64": value}
    if isinstance(value, float) and not math.isfinite(value):
        return INFINITE[value > 0]  # a word would be read back as text where a column may hold either
    return value


# Reading -----------------------------------------------------------------------------------------------------------


def read(file: IO[bytes], form: Form) -> tuple[Sequence[str], Iterator[Line]]:
    """Return the columns that a file has, and its rows as they come.

    Raises:
        FileBrokenError: it has no columns; from the rows also where it cannot be read on.
    """
    return _read_csv(file) if form is Form.CSV else _read_jsonl(file)


def _read_csv(file: IO[bytes]) -> tuple[Sequence[str], Iterator[Line]]:
    records = _records(file)
    _, heading = next(records, (1, []))
    columns = [cell.text if cell else "" for cell in heading]
    _check_columns(columns)
    # an empty line is no row, unless NULL of an only column is one
    alone = len(columns) == 1
    return columns, (Line(number, cells) for number, cells in records if alone or cells != [None])


def _check_columns(columns: Sequence[str]) -> None:
    if not any(columns):
        raise FileBrokenError(1, "it does not begin with the names of its columns")
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise FileBrokenError(1, f"it names the column {twice[0]!r} twice")


def _records(file: IO[bytes]) -> Iterator[tuple[int, list[Cell | None]]]:
    """Yield every record with the number of the line on which it begins."""
    decoder = getincrementaldecoder("utf-8")("surrogateescape")
    text, at, number, ended = "", 0, 1, False
    while not ended:
        # a field longer than what is read at once is read in ever larger pieces
        more = file.read(max(BLOCK, len(text) - at))
        ended = not more
        text, at = text[at:] + decoder.decode(more, final=ended), 0
        if number == 1:
            text = text.removeprefix("\ufeff")
        while True:
            begin = at
            cells, at = _record(text, begin, ended=ended, number=number)
            if cells is None:
                break
            yield number, cells
            number += len(_LINE_END.findall(text, begin, at))


def _record(text: str, at: int, *, ended: bool, number: int) -> tuple[list[Cell | None] | None, int]:
    """Return a record and where the next one begins; None where it goes on in what was not read yet."""
    cells: list[Cell | None] = []
    begin, length = at, len(text)
    if at >= length:
        return None, at
    while True:
        found = _FIELD.match(text, at)
        if found is None or (found.end() >= length and not ended):
            if found is None and (ended or _is_wrong(text, at)):
                raise FileBrokenError(number, "a quote stands where none can, or is never closed")
            return None, begin
        quoted, bare, mark = found.groups()
        if quoted is not None:
            cells.append(Cell(quoted.replace('""', '"') if '"' in quoted else quoted, bare=False))
        else:
            cells.append(Cell(bare, bare=True) if bare else None)
        at = found.end()
        if mark != ",":
            return cells, at


def _is_wrong(text: str, at: int) -> bool:
    """Whether a field can be none, however it goes on."""
    if text[at : at + 1] != '"':
        return True
    end = at + 1
    while (end := text.find('"', end)) >= 0:
        if text[end + 1 : end + 2] != '"':
            return end + 1 < len(text) and text[end + 1] not in ",\r\n"
        end += 2
    return False


def _read_jsonl(file: IO[bytes]) -> tuple[Sequence[str], Iterator[Line]]:
    lines = _objects(file)
    first = next(lines, None)
    if first is None:
        return [], iter(())
    columns = list(first[1])
    _check_columns(columns)

    def rows() -> Iterator[Line]:
        yield Line(first[0], [_plain(value) for value in first[1].values()])
        for number, told in lines:
            if told.keys() != first[1].keys():
                lacking = [name for name in columns if name not in told]
                strange = [name for name in told if name not in columns]
                reason = f"has no {lacking[0]!r}" if lacking else f"has {strange[0]!r}, and the first has not"
                raise FileBrokenError(number, f"it {reason}; every line has the same names")
            yield Line(number, [_plain(told[name]) for name in columns])

    return columns, rows()


def _objects(file: IO[bytes]) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            told = json.loads(
                line.decode("utf-8-sig" if number == 1 else "utf-8"),
                parse_float=Decimal,
                parse_int=_whole,
                parse_constant=_no_constant,
                object_pairs_hook=_once,
            )
        except (ValueError, RecursionError) as error:
            raise FileBrokenError(number, f"it is no JSON: {error}") from error
        if not isinstance(told, dict):
            raise FileBrokenError(number, "it is no object, as {…}")
        yield number, told


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    told = dict(pairs)
    if len(told) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names {next(name for name in names if names.count(name) > 1)!r} twice")
    return told


def _whole(text: str) -> object:
    return Decimal(text) if text == "-0" else int(text)


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


def _plain(value: object) -> object:
    if isinstance(value, dict) and list(value) == ["$b64"] and isinstance(value["$b64"], str):
        try:
            return b64decode(value["$b64"], validate=True)
        except ValueError:
            return value
    return value
