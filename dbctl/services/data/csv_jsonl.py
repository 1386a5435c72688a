"""Read and write rows as CSV, which distinguishes NULL and empty text, or as JSON lines, in constant memory."""

from __future__ import annotations

import json
import math
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import IO, NamedTuple

from dbctl.engines.sql import codec
from dbctl.model import FORMULA_PREFIXES
from dbctl.services.app.validation import reject_duplicate_keys

#: Characters per read.
BLOCK = 1 << 18
#: Rows per write.
BATCH = 1000
#: Unquoted values that are parsed as numbers or bytes.
UNQUOTED_VALUE = re.compile(
    r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|-?Infinity|\\x.*", re.DOTALL | re.ASCII
)
_NOT_FINITE = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\r|\n|\Z)')
_LINE_END = re.compile(r"\r\n|\r|\n")
_QUOTED = re.compile(r'[",\r\n]')
#: Text that surely needs no quotes: the usual cells, decided by one call.
_BARE = re.compile(r'[^-0-9I\\",\r\n][^",\r\n]*')


class Form(StrEnum):
    """Forms of a file of rows."""

    CSV = "csv"
    JSONL = "jsonl"


class Cell(NamedTuple):
    """A cell of a CSV file that is not NULL."""

    text: str
    is_unquoted: bool  #: written without quotes


class Line(NamedTuple):
    """One row of a file."""

    number: int  #: of its first line, from 1
    values: Sequence[object]  #: cells of CSV or values of JSON; None for NULL


class RowFileError(Exception):
    """A file is invalid from a line on; the lines before it are valid."""

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
    r"""Write a header and rows in UTF-8, and return the number of rows.

    NULL is an empty field; empty text is ``""``. Numbers and bytes (``\x`` and hexadecimal digits) are not quoted; text with
    the same form is quoted. ``excel_safe`` prefixes text that a spreadsheet would evaluate with ``'``, which changes the text.
    """
    write((",".join(_encode_text(name) for name in columns) + "\n").encode("utf-8", "surrogateescape"))
    encoders = _SAFE_ENCODERS if excel_safe else _ENCODERS
    row_count = 0
    for rows in batches:
        lines = [",".join([encoders.get(type(value), str)(value) for value in row]) for row in rows]
        write(("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
        row_count += len(rows)
    return row_count


def _encode_float(value: float) -> str:
    return repr(value) if math.isfinite(value) else _NOT_FINITE[repr(value)]


def _encode_text(value: str) -> str:
    if _BARE.fullmatch(value):
        return value
    if not value or _QUOTED.search(value) or UNQUOTED_VALUE.fullmatch(value) or value == "\\.":
        return '"' + value.replace('"', '""') + '"'
    return value


def _encode_safe_text(value: str) -> str:
    return _encode_text("'" + value if value.startswith(FORMULA_PREFIXES) else value)


#: By exact type, as drivers return them: a search of base classes for each cell would cost a third of the time of an export.
_ENCODERS: Mapping[type, Callable[..., str]] = {
    type(None): lambda _: "",
    str: _encode_text,
    bool: lambda value: "t" if value else "f",
    float: _encode_float,
    bytes: lambda value: "\\x" + value.hex(),
    datetime: lambda value: value.isoformat(" "),
    list: lambda value: _encode_text(codec.encode_json(value)),
    dict: lambda value: _encode_text(codec.encode_json(value)),
}
_SAFE_ENCODERS: Mapping[type, Callable[..., str]] = {**_ENCODERS, str: _encode_safe_text}


def write_jsonl(
    columns: Sequence[str], batches: Iterable[Sequence[Sequence[object]]], write: Callable[[bytes], object]
) -> int:
    """Write one JSON object per line, and return the number of rows; bytes are ``{"$b64": …}`` (``codec.to_json``)."""
    row_count = 0
    for rows in batches:
        write(codec.encode_rows(columns, rows))
        row_count += len(rows)
    return row_count


# Reading -----------------------------------------------------------------------------------------------------------


def read_rows(file: IO[bytes], form: Form) -> tuple[Sequence[str], Iterator[Line]]:
    """Return the columns of a file, and an iterator over its rows.

    Raises:
        RowFileError: the file has no columns; also raised by the iterator at an invalid line.
    """
    return _read_csv(file) if form is Form.CSV else _read_jsonl(_read_objects(file))


def _read_csv(file: IO[bytes]) -> tuple[Sequence[str], Iterator[Line]]:
    records = _read_records(file)
    _, heading = next(records, (1, []))
    columns = [cell.text if cell else "" for cell in heading]
    _check_columns(columns)
    # an empty line is a row only if the file has a single column: NULL
    is_single_column = len(columns) == 1
    return columns, (Line(number, cells) for number, cells in records if is_single_column or cells != [None])


def _check_columns(columns: Sequence[str]) -> None:
    if not any(columns):
        raise RowFileError(1, "the first line does not contain column names")
    duplicates = [name for name in columns if columns.count(name) > 1]
    if duplicates:
        raise RowFileError(1, f"duplicate column {duplicates[0]!r}")


def _read_records(file: IO[bytes]) -> Iterator[tuple[int, list[Cell | None]]]:
    """Yield each record with the number of its first line."""
    decoder = getincrementaldecoder("utf-8")("surrogateescape")
    text, position, line_number, ended = "", 0, 1, False
    while not ended:
        # double the size of reads for a field that is longer than a block
        chunk = file.read(max(BLOCK, len(text) - position))
        ended = not chunk
        text, position = text[position:] + decoder.decode(chunk, final=ended), 0
        if line_number == 1:
            text = text.removeprefix("\ufeff")
        while True:
            start = position
            cells, position = _parse_record(text, start, ended=ended, line_number=line_number)
            if cells is None:
                break
            yield line_number, cells
            line_number += len(_LINE_END.findall(text, start, position))


def _parse_record(
    text: str, position: int, *, ended: bool, line_number: int
) -> tuple[list[Cell | None] | None, int]:
    """Return a record and the position after it; None if the record is incomplete."""
    cells: list[Cell | None] = []
    start, length = position, len(text)
    if position >= length:
        return None, position
    while True:
        match = _FIELD.match(text, position)
        if match is None or (match.end() >= length and not ended):
            if match is None and (ended or _is_invalid_field(text, position)):
                raise RowFileError(line_number, "unexpected or unclosed quote")
            return None, start
        quoted, bare, separator = match.groups()
        if quoted is not None:
            cells.append(Cell(quoted.replace('""', '"') if '"' in quoted else quoted, is_unquoted=False))
        else:
            cells.append(Cell(bare, is_unquoted=True) if bare else None)
        position = match.end()
        if separator != ",":
            return cells, position


def _is_invalid_field(text: str, position: int) -> bool:
    """Whether the text cannot become a valid field by reading more."""
    if text[position : position + 1] != '"':
        return True
    end = position + 1
    while (end := text.find('"', end)) >= 0:
        if text[end + 1 : end + 2] != '"':
            return end + 1 < len(text) and text[end + 1] not in ",\r\n"
        end += 2
    return False


def list_tables(file: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Yield each line of a file whose lines name their tables, with its table.

    Raises:
        RowFileError: a line is not ``{"table": NAME, "row": {COLUMN: VALUE, …}}``.
    """
    for number, table, _ in _read_named_rows(file):
        yield number, table


def read_rows_of_table(file: IO[bytes], table: str) -> tuple[Sequence[str], Iterator[Line]]:
    """Return the columns of the rows of a table in a file as of ``list_tables``, and an iterator over them; raises as both."""
    return _read_jsonl((number, row) for number, name, row in _read_named_rows(file) if name == table)


def _read_named_rows(file: IO[bytes]) -> Iterator[tuple[int, str, dict[str, object]]]:
    for number, value in _read_objects(file):
        table, row = value.get("table"), value.get("row")
        if value.keys() != {"table", "row"} or not isinstance(table, str) or not isinstance(row, dict):
            raise RowFileError(number, 'it is not {"table": NAME, "row": {COLUMN: VALUE, …}}')
        yield number, table, row


def _read_jsonl(lines: Iterator[tuple[int, dict[str, object]]]) -> tuple[Sequence[str], Iterator[Line]]:
    first = next(lines, None)
    if first is None:
        return [], iter(())
    columns = list(first[1])
    _check_columns(columns)

    def rows() -> Iterator[Line]:
        yield Line(first[0], [_decode_value(value) for value in first[1].values()])
        for line_number, values in lines:
            if values.keys() != first[1].keys():
                missing = [name for name in columns if name not in values]
                unexpected = [name for name in values if name not in columns]
                reason = f"lacks {missing[0]!r}" if missing else f"has an additional {unexpected[0]!r}"
                raise RowFileError(line_number, f"it {reason}; all rows must have the same names")
            yield Line(line_number, [_decode_value(values[name]) for name in columns])

    return columns, rows()


def _read_objects(file: IO[bytes]) -> Iterator[tuple[int, dict[str, object]]]:
    for line_number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(
                line.decode("utf-8-sig" if line_number == 1 else "utf-8"),
                parse_float=_parse_fraction,
                parse_int=_parse_integer,
                parse_constant=_reject_constant,
                object_pairs_hook=reject_duplicate_keys,
            )
        except (ValueError, RecursionError) as error:
            raise RowFileError(line_number, f"it is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise RowFileError(line_number, "it is not a JSON object")
        yield line_number, value


def _parse_fraction(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError("the exponent of a number has too many digits") from error


def _parse_integer(text: str) -> object:
    return Decimal(text) if text == "-0" else int(text)


def _reject_constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")


def _decode_value(value: object) -> object:
    try:
        return codec.from_json(value)
    except (ValueError, TypeError):  # an object or a list for a column of JSON
        return value
