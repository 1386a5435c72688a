"""Extend the file of a profile by what was learned; comments and the order of its lines remain."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dbctl.extensions.drafts.document import (
    COMMENT_COLUMN,
    Line,
    Part,
    add_comment,
    write_comment,
    write_document,
    write_header,
    write_value,
)
from dbctl.extensions.drafts.learning.errors import ProfileChangedError
from dbctl.extensions.drafts.learning.scene import LearnedKey, Lesson
from dbctl.files import toml
from dbctl.files.atomic import write_atomically

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Item

#: Characters of a list from which on each entry has its own line.
LONGEST_LIST = 80


def extend_profile(text: str, lesson: Lesson) -> str:
    """Return the text of a profile with the keys and decisions of a lesson; candidates for these keys disappear.

    Raises:
        TomlError: the text is not TOML.
    """
    import tomlkit

    toml.loads(text)  # its errors have lines
    for key in lesson.keys:
        text = _remove_candidates(text, key)
    document = tomlkit.parse(text)
    for key in lesson.keys:
        _set(document, key)
    _decide(document, lesson)
    text = tomlkit.dumps(document)
    for key in lesson.keys:
        if _is_array(key.value) or key.value in (None, []):
            text = _replace_array(text, key)
    return text


def _is_array(value: object) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def replace_profile(path: Path, original: str | None, text: str) -> None:
    """Replace a profile that still has its original text; None: there was no file.

    Raises:
        ProfileChangedError: another process has written it since: its text would be lost, or have a proof of another one.
        FileFailedError, DiskFullError: it cannot be written.
    """
    current = toml.read_text(path) if path.exists() else None
    if current != original:
        raise ProfileChangedError(path=path)
    with write_atomically(path, mode=0o644, replace=True) as file:
        file.write(text)


def find_value(values: Mapping[str, Any], path: Sequence[str]) -> object:
    """Return the value of a key in parsed TOML; None without one."""
    value: object = values
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


# Keys -----------------------------------------------------------------------------------------------------------------


def _set(document: TOMLDocument, key: LearnedKey) -> None:
    """Set a key, or remove it; a line with the same value only gets the new evidence."""
    from tomlkit.items import AoT

    section, line, inner = _open_section(document, key.path)
    name = key.path[-1]
    if key.value in (None, []) or _is_array(key.value):
        if not isinstance(section.get(name), AoT):
            section.pop(name, None)
        return
    current = _find_item(section, name)
    item = _create_list(key, section.get(name)) if key.shown else _create_item(name, key.value)
    if line is None and not key.shown:
        _comment(item, name, key.evidence)
    if current is None:
        _insert(section, name, item)
    elif key.shown or current.unwrap() != key.value:
        section[name] = item
    elif line is None:
        _comment(current, name, key.evidence)
    if line is not None:
        marker = f"; {inner}: "
        earlier = line.trivia.comment.removeprefix("# ").partition(marker)[0]
        _comment(line, "", earlier + marker + key.evidence)


def _find_item(section: Any, name: str) -> Any:
    """Return a value with its comment, which the library leaves out of booleans; None: the section lacks the key."""
    # the parts of a section in different places of the file
    for part in getattr(section, "_tables", [section]):
        if name in part:
            return getattr(part, "value", part).item(name)
    return None


def _open_section(document: TOMLDocument, path: Sequence[str]) -> tuple[Any, Item | None, str]:
    """Return the section of a key, and of an inline table its line, and the name of the key in it."""
    import tomlkit
    from tomlkit.items import InlineTable

    section: Any = document
    line, inner = None, ""
    for name in path[:-1]:
        if name not in section:
            section[name] = tomlkit.table()
        section = section[name]
        if line is None and isinstance(section, InlineTable):
            line, inner = section, path[-1]
    return section, line, inner


def _comment(item: Item, name: str, evidence: str) -> None:
    item.comment(write_comment(evidence))
    first = item.as_string().splitlines() or [""]
    if name and len(first) == 1:
        item.trivia.comment_ws = " " * max(1, COMMENT_COLUMN + 1 - len(f"{toml.quoted(name)} = {first[0]}"))


def _insert(section: Any, name: str, item: Item) -> None:
    """Add a key to a section: a plain key before its subsections, which TOML requires."""
    from tomlkit.items import AoT, Table

    # The parts of a section in different places of the file: a new key belongs to the first.
    section = getattr(section, "_tables", [section])[0]
    container = getattr(section, "value", section)
    plain = [key for key, other in container.body if key and not isinstance(other, AoT | Table)]
    if not plain:
        section[name] = item
    else:
        container._insert_after(plain[-1], name, item)  # noqa: SLF001 - the library has no public function


def _create_item(name: str, value: object) -> Any:
    """Return a value in the form of a draft; a long list has a line for each entry."""
    import tomlkit

    item: Any = tomlkit.parse(f"{toml.quoted(name)} = {write_value(value)}\n").item(name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        item.multiline(len(item.as_string()) > LONGEST_LIST)
    return item


def _create_list(key: LearnedKey, earlier: Any) -> Any:
    """Return a list whose entries each have their evidence: new, or as in the earlier list, whose other comments remain."""
    import tomlkit
    from tomlkit.items import Null

    values, comments, title = key.value if isinstance(key.value, Sequence) else (), dict[object, str](), ""
    lines = list[str]()
    for index, group in enumerate(getattr(earlier, "_value", ())):  # the library has no public function
        comment = group.comment.as_string().strip() if group.comment else ""
        if group.value is not None and not isinstance(group.value, Null):
            comments[group.value] = comment.removeprefix("#").strip()
        elif comment and index == 0:
            title = comment.removeprefix("#").strip()
        elif comment and not any(str(write_value(value)) in comment for value in values):
            lines.append(f"    {comment}")
    evidence = {value: key.evidence if value in key.shown else comments.get(value, "") for value in values}
    lines += [add_comment(f"    {write_value(value)},", evidence[value]) for value in values]
    text = "\n".join([add_comment("entries = [", title), *lines, "]\n"])
    return tomlkit.parse(text)["entries"]


# Candidates and arrays of tables --------------------------------------------------------------------------------------

#: The header of a section; a comment with ``# `` before it is a candidate.
_HEADER = re.compile(r"(# )?\[{1,2} *([^\]]+?) *\]{1,2} *(#.*)?")


def _remove_candidates(text: str, key: LearnedKey) -> str:
    """Remove the lines that are comments and would set a key, and the sections that are comments and would add to an array."""
    path = key.path
    section, name, lines = write_header(*path[:-1]), f"# {toml.quoted(path[-1])} = ", list[str]()
    current = ""
    for line in text.splitlines(keepends=True):
        header = _HEADER.fullmatch(line.rstrip("\n"))
        current = header[2] if header and not header[1] else current
        if not (current == section and line.startswith(name)):
            lines.append(line)
    paragraphs = "".join(lines).split("\n\n")
    return "\n\n".join(part for part in paragraphs if not _is_candidate(part, key))


def _is_candidate(paragraph: str, key: LearnedKey) -> bool:
    """Return whether a paragraph is a section of an array, written as a comment, about a table that a demonstration shows."""
    lines = paragraph.strip("\n").splitlines()
    if not all(line.startswith("#") for line in lines) or f"# [[{write_header(*key.path)}]]" not in lines:
        return False
    shown = [f"# table = {toml.quoted(table, value=True)}" for table in key.shown]
    return not shown or any(line.partition("  #")[0].rstrip() in shown for line in lines)


def _replace_array(text: str, key: LearnedKey) -> str:
    """Replace the sections of an array, with the comments above each; the first ones follow those of the enclosing section.

    Those of tables that the demonstration does not show remain as they are.
    """
    header, parent = write_header(*key.path), write_header(*key.path[:-1])
    sections = _split_sections(text)
    own = [index for index, section in enumerate(sections) if section.header == header]
    around = [
        index + 1
        for index, section in enumerate(sections)
        if section.header == parent or section.header.startswith(f"{parent}.")
    ]
    place = own[0] if own else around[-1] if around else len(sections)
    entries: Any = key.value or ()
    earlier: Any = find_value(toml.loads(text), key.path) if own else ()
    retained = [
        (entry, sections[index].text)
        for index, entry in zip(own, earlier, strict=True)
        if key.shown and entry["table"] not in key.shown
    ]
    written_entries = [
        next((text for own_entry, text in retained if own_entry == {**own_entry, **entry}), "")
        or _write_entry(header, entry, key)
        for entry in entries
    ]
    texts = [section.text for section in sections]
    above = "".join(texts[:place])
    below = "".join(texts[index] for index in range(place, len(texts)) if index not in own)
    written = [part.strip("\n") for part in (above, *written_entries, below)]
    return "\n\n".join(filter(None, written)) + "\n"


def _write_entry(header: str, entry: Mapping[str, Any], key: LearnedKey) -> str:
    """Return one section of an array, with the evidence if the demonstration shows it."""
    is_shown = not key.shown or entry["table"] in key.shown
    lines = [Line(name, value) for name, value in entry.items()]
    part = Part(header=header, is_array=True, remarks=[key.evidence] if is_shown else (), lines=lines)
    return write_document([part])


class _Section(NamedTuple):
    """A section of a file, with the comments directly above it."""

    header: str  #: without brackets; empty: the root
    text: str


def _split_sections(text: str) -> list[_Section]:
    sections: list[tuple[str, list[str]]] = [("", [])]
    for line in text.splitlines(keepends=True):
        header = _HEADER.fullmatch(line.rstrip("\n"))
        if header and not header[1]:
            remarks, above = list[str](), sections[-1][1]
            while above and above[-1].startswith("#"):
                remarks.insert(0, above.pop())
            sections.append((header[2], [*remarks, line]))
        else:
            sections[-1][1].append(line)
    return [_Section(header, "".join(lines)) for header, lines in sections]


# Decisions ------------------------------------------------------------------------------------------------------------


def _decide(document: TOMLDocument, lesson: Lesson) -> None:
    """Remove the open decisions of topics that are decided, and add those that the lesson leaves open."""
    import tomlkit

    open_topics: Any = document.get("undecided")
    for topic in lesson.decided if open_topics else ():
        open_topics.pop(topic, None)
    for decision in lesson.decisions:
        open_topics = document.setdefault("undecided", tomlkit.table())
        entries = open_topics.setdefault(decision.topic, tomlkit.array().multiline(multiline=True))
        if decision.text not in entries:
            entries.append(write_comment(decision.text))
    if open_topics is not None and not open_topics:
        document.pop("undecided", None)
