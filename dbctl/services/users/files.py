"""Read files of users: CSV, JSON and JSON lines."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum

from dbctl.errors.usage import UsageError
from dbctl.model import Struct

#: Maximum of characters in a CSV field; the default of the csv module (131,072) would fail before the rules of the app.
MAX_FIELD_LENGTH = 16 * 1024 * 1024


class Existing(StrEnum):
    """What an import does with existing users."""

    FAIL = "fail"
    SKIP = "skip"


class Line(Struct, frozen=True, kw_only=True):
    """One user in a file."""

    number: int  #: number of the line, or of the entry in a JSON list; from 1
    place: str  #: the same in messages: ``line 3``, ``entry 3``
    values: Mapping[str, object]


def read_lines(raw: bytes, name: str) -> list[Line]:
    """Read users from CSV, JSON (a list, or output of ``-o json``) or JSON lines, detected by content and extension.

    Raises:
        UsageError: the file has another format, or is not UTF-8.
    """
    from dbctl.services.settings.values import load_json

    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(detail=f"{name}, line {line}: it is not UTF-8") from error
    try:
        if name.endswith((".jsonl", ".ndjson")) or (not name.endswith(".json") and _is_json_lines(text)):
            return list(_json_lines(text))
        if name.endswith(".json") or text.lstrip()[:1] in ("[", "{"):
            return _json_list(load_json(text))
        return list(_csv_lines(text))
    except ValueError as error:
        raise UsageError(detail=f"{name}: {error}") from error


def _is_json_lines(text: str) -> bool:
    """Return whether the first line is a JSON object that is not output of ``-o json``."""
    from dbctl.services.settings.values import load_json

    first = text.lstrip().partition("\n")[0]
    if not first.startswith("{"):
        return False
    try:
        value = load_json(first)
    except ValueError:
        return False
    return isinstance(value, dict) and not {"data", "items"} & value.keys()


def _json_lines(text: str) -> Iterator[Line]:
    from dbctl.services.settings.values import load_json

    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would also cut inside strings
        if line.strip():
            try:
                value = load_json(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            yield _build_line(number, "line", value)


def _json_list(document: object) -> list[Line]:
    for key in ("data", "items"):
        if isinstance(document, dict):
            document = document.get(key, document)
    if not isinstance(document, list):
        raise ValueError("it does not contain a list of users")  # noqa: TRY004 - the content of a file is wrong
    return [_build_line(number, "entry", entry) for number, entry in enumerate(document, 1)]


def _build_line(position: int, kind: str, values: object) -> Line:
    if not isinstance(values, dict):
        raise ValueError(f"{kind} {position} is not a user, but {type(values).__name__}")  # noqa: TRY004 - the content of a file is wrong
    return Line(number=position, place=f"{kind} {position}", values=values)


def _csv_lines(text: str) -> Iterator[Line]:
    import csv

    previous_limit = csv.field_size_limit(MAX_FIELD_LENGTH)
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
        csv.field_size_limit(previous_limit)


def _check_header(names: list[str]) -> None:
    if not any(names):
        raise ValueError("it is empty")
    duplicates = [name for name, times in Counter(names).items() if times > 1]
    if duplicates:
        raise ValueError(f"line 1: duplicate column {duplicates[0]!r}")
