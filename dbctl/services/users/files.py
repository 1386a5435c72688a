"""Files of users: CSV, JSON and JSON lines become the same lines."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum

from dbctl.errors import UsageError
from dbctl.model import Value
from dbctl.services.settings import load_json

#: Characters of one CSV field; the csv module's own 131,072 would refuse before the app's rules can say why.
LONGEST_FIELD = 16 * 1024 * 1024


class Existing(StrEnum):
    """What an import does with users who are there already."""

    FAIL = "fail"
    SKIP = "skip"


class Line(Value, frozen=True, kw_only=True):
    """One user in a file."""

    number: int  #: line of a file of lines, place in a JSON list; from 1
    place: str  #: the same for a message: ``line 3``, ``entry 3``
    values: Mapping[str, object]


def read_lines(raw: bytes, name: str) -> list[Line]:
    """Read users from CSV, JSON (a list, or what ``-o json`` printed) or JSON lines, by their look and ``name``'s end.

    Raises:
        UsageError: it is none of them, or not UTF-8.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(detail=f"{name}, line {line}: it is not UTF-8") from error
    try:
        if name.endswith((".jsonl", ".ndjson")) or (not name.endswith(".json") and _is_json_lines(text)):
            return list(_each_line(text))
        if name.endswith(".json") or text.lstrip()[:1] in ("[", "{"):
            return _json_list(load_json(text))
        return list(_csv_lines(text))
    except ValueError as error:
        raise UsageError(detail=f"{name}: {error}") from error


def _is_json_lines(text: str) -> bool:
    """Whether the first line is a thing of its own, and not the answer of ``-o json``."""
    first = text.lstrip().partition("\n")[0]
    if not first.startswith("{"):
        return False
    try:
        told = load_json(first)
    except ValueError:
        return False
    return isinstance(told, dict) and not {"data", "items"} & told.keys()


def _each_line(text: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would also cut inside strings
        if line.strip():
            try:
                told = load_json(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            yield _line(number, "line", told)


def _json_list(told: object) -> list[Line]:
    for key in ("data", "items"):
        if isinstance(told, dict):
            told = told.get(key, told)
    if not isinstance(told, list):
        raise ValueError("it does not hold a list of users")  # noqa: TRY004 - what the file says, not how it is called
    return [_line(number, "entry", one) for number, one in enumerate(told, 1)]


def _line(number: int, word: str, told: object) -> Line:
    if not isinstance(told, dict):
        raise ValueError(f"{word} {number} is no user, but {type(told).__name__}")  # noqa: TRY004 - as above
    return Line(number=number, place=f"{word} {number}", values=told)


def _csv_lines(text: str) -> Iterator[Line]:
    import csv

    before = csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        _check_header(names)
        for row in reader:
            if any(row):
                if len(row) != len(names):
                    raise ValueError(
                        f"line {reader.line_num} has {len(row)} fields, the first line {len(names)}"
                    )
                number = reader.line_num
                yield Line(number=number, place=f"line {number}", values=dict(zip(names, row, strict=True)))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(before)


def _check_header(names: list[str]) -> None:
    if not any(names):
        raise ValueError("it is empty")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"line 1 names the column {twice[0]!r} twice")
