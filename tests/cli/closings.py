"""The closing lines of commands: which commands have one, and whether its figures are those of the JSON object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import get_origin

from dbctl.model import Page, Struct
from dbctl.units import format_size
from tools import reference

#: The beginning of notes, warnings and their details.
_REMARK = re.compile(r"note: |dbctl: | {2}")


def read_closing_lines(stderr: str) -> list[str]:
    """Return the lines that are neither notes nor warnings."""
    return [line for line in stderr.splitlines() if not _REMARK.match(line)]


def has_closing_line(line: str) -> bool:
    """Whether each result of the command of ``line`` has a closing line: it is a change or a check."""
    answers = reference.find_spec(line).answers()
    types = [get_origin(type_) or type_ for type_ in answers]
    if line.startswith("profiles draft") and "--to" not in line:  # it writes the profile to standard output
        return False
    return "--dry-run" in line or all(
        issubclass(type_, Struct) and type_.closing not in (Struct.closing, Page.closing) for type_ in types
    )


def find_wrong_figures(line: str, data: object) -> list[str]:
    """Return the numbers of a closing line, except durations, that cannot be derived from the JSON object."""
    text = re.sub(r" in [\d.]+ (?:ms|s|min)\b", "", line)
    names = {word for value in _texts(data) for word in re.findall(r"[\w.:/@-]+", value)}
    sizes = {format_size(figure) for figure in _figures(data)}
    wrong = list[str]()
    for match in re.finditer(r"(?<![\w./:-])\d[\d,.]*(?: [KMGT]?i?B\b)?(?![\w./-])", text):
        word = match[0].rstrip(",.")
        if word in names or word in sizes:
            continue
        if not word.replace(",", "").isdigit() or int(word.replace(",", "")) not in _figures(data):
            wrong.append(word)
    return wrong


def _texts(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    for child in data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ():
        yield from _texts(child)


def _figures(data: object) -> set[int]:
    """Return the integers of a JSON value, the lengths of its lists, and the sums of numbers and lists in lists."""
    figures = {0, 1} if data else {0}
    if isinstance(data, bool):
        return figures
    if isinstance(data, int):
        figures.add(data)
    elif isinstance(data, Mapping):
        figures |= {len(data), sum(_count(value) for value in data.values())}
        for value in data.values():
            figures |= _figures(value)
    elif isinstance(data, Sequence) and not isinstance(data, str):
        figures |= {len(data), sum(map(_count, data))}
        records = [item for item in data if isinstance(item, Mapping)]
        for name in {name for record in records for name in record}:
            values = [record.get(name) for record in records]
            figures |= {sum(map(_count, values)), len({str(value) for value in values})}
            figures |= {values.count(value) for value in values if isinstance(value, (bool, str))}
        for item in data:
            figures |= _figures(item)
    return figures


def _count(value: object) -> int:
    if isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return sum(map(_count, value.values()))
    return sum(map(_count, value)) if isinstance(value, list) else 0
