"""A commented TOML document: sections of lines, each with its evidence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec
from msgspec import structs

from dbctl.files import toml
from dbctl.model import Struct, join_first
from dbctl.profiles.model.core import Topic

#: A value in TOML.
Value: TypeAlias = "str | int | float | bool | Sequence[Value] | Mapping[str, Value]"
#: Columns before the comments of a section.
COMMENT_COLUMN = 44
LONGEST_COMMENT = 600
#: The most names in a comment.
MOST_LISTED = 10


class Decision(Struct, frozen=True):
    """What the database does not show, and the subject that depends on it."""

    topic: Topic
    text: str


class Entry(Struct, frozen=True):
    """An item of a list that is written on its own line."""

    value: Value
    evidence: str = ""
    is_candidate: bool = False  #: written as a comment


class Line(Struct, frozen=True):
    """A key with its value, and the evidence for it."""

    key: str
    value: Value | Sequence[Entry]
    evidence: str = ""
    is_candidate: bool = False  #: written as a comment: the database does not show whether it is right


class Part(Struct, frozen=True, kw_only=True):
    """One section: its header, without brackets, and its lines."""

    header: str = ""  #: dotted keys in TOML syntax; empty: the root
    is_array: bool = False  #: a section of an array: ``[[header]]``
    remarks: Sequence[str] = ()  #: comments before the header
    lines: Sequence[Line | str] = ()  #: a text is a comment
    is_candidate: bool = False  #: the whole section is written as a comment


class Draft(Struct, frozen=True, kw_only=True):
    """Lines about users and sections, and what they describe and leave open."""

    columns: Sequence[str] = ()  #: the columns of users that the profile covers without fields
    tables: Collection[str] = ()  #: the tables that it describes
    secrets: Sequence[str] = ()  #: columns (``table.column``) that are always secret
    fields: Mapping[str, str] = {}  #: by field of a user, the column
    lines: Sequence[Line | str] = ()
    parts: Sequence[Part] = ()
    decisions: Sequence[Decision] = ()


def write_document(parts: Sequence[Part]) -> str:
    """Return the text of a profile."""
    return "\n".join(text for part in parts if (text := _write_part(part)))


def number_names(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the sections of arrays with different names; tables whose names differ only in signs would have the same."""
    counts = Counter[tuple[str, str]]()
    for part in parts:
        lines = list[Line | str]()
        for line in part.lines:
            if part.is_array and isinstance(line, Line) and line.key == "name":
                entry = (part.header, str(line.value))
                counts[entry] += 1
                suffix = f"-{counts[entry]}" if counts[entry] > 1 else ""
                lines.append(structs.replace(line, value=f"{line.value or 'table'}{suffix}"))
            else:
                lines.append(line)
        yield structs.replace(part, lines=lines)


def write_header(*keys: str) -> str:
    """Return dotted keys in TOML syntax."""
    return ".".join(toml.quoted(key) for key in keys)


def write_comment(text: str) -> str:
    """Return a text from a database as part of a comment: on one line, without control characters."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return shown if len(shown) <= LONGEST_COMMENT else shown[: LONGEST_COMMENT - 1] + "…"


def join_names(names: Sequence[str]) -> str:
    """Return names from a database for a comment; of many only the first."""
    return join_first(names, MOST_LISTED)


def read_lines(lines: Iterable[Line | str]) -> dict[str, Value]:
    """Return the values of lines that are no candidates, by key."""
    values = dict[str, Value]()
    for line in lines:
        if isinstance(line, Line) and not line.is_candidate:
            values[line.key] = line.value  # type: ignore[assignment]  # entries are values of lists
    return values


def write_stored(value: object) -> bool | int | str:
    """Return a stored value in the language of profiles."""
    return ":null" if value is None else value if isinstance(value, int) else str(value)


def write_section(section: msgspec.Struct) -> dict[str, Value]:
    """Return a section of a profile in its language, without the keys that have their default."""
    written = dict[str, Value]()
    for field in structs.fields(section):
        value, factory = getattr(section, field.name), field.default_factory
        if value != (field.default if factory is msgspec.NODEFAULT else factory()):
            is_section = isinstance(value, msgspec.Struct)
            written[field.name] = write_section(value) if is_section else msgspec.to_builtins(value)
    return written


def _write_part(part: Part) -> str:
    lines = [f"# {write_comment(remark)}" for remark in part.remarks]
    mark = "# " if part.is_candidate else ""
    if part.header:
        lines.append(f"{mark}[[{part.header}]]" if part.is_array else f"{mark}[{part.header}]")
    for line in part.lines:
        prefix = mark or ("# " if isinstance(line, Line) and line.is_candidate else "")
        lines += [prefix + text for text in _write_line(line)]
    return "\n".join([*lines, ""]) if lines else ""


def _write_line(line: Line | str) -> list[str]:
    if isinstance(line, str):
        return [f"# {write_comment(line)}"]
    key = toml.quoted(line.key)
    if isinstance(line.value, list) and line.value and isinstance(line.value[0], Entry):
        return [
            add_comment(f"{key} = [", line.evidence),
            *(
                add_comment(
                    f"    {'# ' if entry.is_candidate else ''}{write_value(entry.value)},", entry.evidence
                )
                for entry in line.value
            ),
            "]",
        ]
    return [add_comment(f"{key} = {write_value(line.value)}", line.evidence)]


def add_comment(text: str, evidence: str) -> str:
    """Return a line of TOML with its evidence."""
    return f"{text.ljust(COMMENT_COLUMN)} # {write_comment(evidence)}" if evidence else text


def write_value(value: object) -> str:
    """Return a value in TOML syntax, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if re.search(r"[\ud800-\udfff]", value):
            raise ValueError(f"{value!a} is not valid in TOML")
        is_literal = '"' in value and "'" not in value and value.isprintable()
        return f"'{value}'" if is_literal else toml.quoted(value, value=True)
    if isinstance(value, Mapping):
        items = ", ".join(f"{toml.quoted(key)} = {write_value(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(write_value, value))}]"
    return repr(value)
