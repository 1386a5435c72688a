"""Extend the file of a profile by what was learned; comments and the order of its lines remain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dbctl.extensions.drafts.document import Decision, write_comment
from dbctl.extensions.drafts.learning.scene import Lesson
from dbctl.files import toml

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Item

#: Characters of a list from which on each entry has its own line.
LONGEST_LIST = 80


def extend_profile(text: str, lesson: Lesson) -> str:
    """Return the text of a profile with the keys and decisions of a lesson.

    Raises:
        TomlError: the text is not TOML.
    """
    import tomlkit

    toml.loads(text)  # its errors have lines
    document = tomlkit.parse(text)
    for key in lesson.keys:
        _set(document, key.path, key.value, key.evidence)
    _decide(document, lesson)
    return tomlkit.dumps(document)


def find_value(values: Mapping[str, Any], path: Sequence[str]) -> object:
    """Return the value of a key in parsed TOML; None without one."""
    value: object = values
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _set(document: TOMLDocument, path: Sequence[str], value: object, evidence: str) -> None:
    import tomlkit

    section: Any = document
    for name in path[:-1]:
        if name not in section:
            section[name] = tomlkit.table()
        section = section[name]
    name = path[-1]
    if value is None:
        section.pop(name, None)
        return
    item = _create_item(value)
    item.comment(write_comment(evidence))
    if name in section:
        section[name] = item
    else:
        _insert(section, name, item)


def _insert(section: Any, name: str, item: Item) -> None:
    """Add a key to a section: a plain key before its subsections, which TOML requires."""
    from tomlkit.items import AoT, Table

    container = getattr(section, "value", section)
    plain = [key for key, other in container.body if key and not isinstance(other, AoT | Table)]
    if isinstance(item, AoT | Table) or not plain:
        section[name] = item
    else:
        container._insert_after(plain[-1], name, item)  # noqa: SLF001 - the library has no public function


def _create_item(value: object) -> Any:
    """Return a value as TOML: mappings inline, and a sequence of mappings as an array of tables."""
    import tomlkit

    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        for name, entry in value.items():
            table[name] = _create_item(entry)
        return table
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(isinstance(entry, Mapping) for entry in value):
            tables = tomlkit.aot()
            for entry in value:
                section = tomlkit.table()
                for name, inner in entry.items():
                    section[name] = _create_item(inner)
                tables.append(section)
            return tables
        array = tomlkit.array()
        for entry in value:
            array.append(_create_item(entry))
        return array.multiline(len(array.as_string()) > LONGEST_LIST)
    return tomlkit.item(value)


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


def describe_decisions(decisions: Sequence[Decision]) -> list[str]:
    """Return open decisions for a result."""
    return [f"{decision.topic}: {decision.text}" for decision in decisions]
