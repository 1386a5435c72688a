"""The objects that the text of pg_dump creates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dbctl.engines.contract.database import WRITE_LOCK
from dbctl.engines.contract.native import NativeObject
from dbctl.engines.postgresql.backup import dump_scanner
from dbctl.engines.postgresql.sql import script
from dbctl.engines.postgresql.sql.lexer import LEXER
from dbctl.engines.sql.catalog import ident

#: The comment before an object. The parts of a name may contain anything but line breaks.
_HEADER = re.compile(r"Name: (?P<name>.*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>.*); Owner: .*")
#: Commands of psql around the text of newer programs.
_COMMANDS = re.compile(r"^\\(?:un)?restrict .*$", re.MULTILINE)
#: Settings that hold for the objects that follow. pg_dump writes them before the comment of an object, and only if they change.
_STORAGE = re.compile(r"SET (?P<name>default_(?:tablespace|table_access_method)) = (?P<value>.+)")
#: Their values without such a statement.
STORAGE_DEFAULTS = {"default_tablespace": "''", "default_table_access_method": "heap"}
#: The settings that concern an object; others do not depend on what happens to precede them.
_STORAGE_OF = {
    "CONSTRAINT": ["default_tablespace"],
    "INDEX": ["default_tablespace"],
    "MATERIALIZED VIEW": list(STORAGE_DEFAULTS),
    "TABLE": list(STORAGE_DEFAULTS),
}
#: The first objects after the tables: what changes or refuses rows, or slows down a copy.
_LATER = frozenset(
    {
        "ACL",
        "CHECK CONSTRAINT",
        "CONSTRAINT",
        "DEFAULT ACL",
        "EVENT TRIGGER",
        "FK CONSTRAINT",
        "INDEX",
        "INDEX ATTACH",
        "POLICY",
        "PUBLICATION",
        "PUBLICATION TABLE",
        "PUBLICATION TABLES IN SCHEMA",
        "ROW SECURITY",
        "RULE",
        "STATISTICS",
        "TRIGGER",
    }
)


class SchemaText(NamedTuple):
    """The objects before and after the rows."""

    before: Sequence[NativeObject]
    after: Sequence[NativeObject]


@dataclass
class Entry:
    """One object in the order of the text."""

    kind: str
    name: str
    schema: str
    statements: list[str]


def parse_schema(text: str, *, version: int, old: str = "", new: str = "", ignored: str = "") -> SchemaText:
    """Return the objects of the text of ``pg_dump --schema-only``.

    Args:
        text: the text.
        version: the major version of the server that will create them.
        old: the name of a schema that the destination calls ``new``, and has already; empty: schemas have the same names.
        new: this name.
        ignored: the name of a table that is left out.
    """
    encoded = dump_scanner.adapt_to_server([text.encode("utf-8", "surrogateescape")], version)
    text = _COMMANDS.sub("", b"".join(encoded).decode("utf-8", "surrogateescape"))
    entries = _list_entries(text, ignored)
    if new:
        entries = [entry for entry in entries if not _is_schema(entry, old)]
    if old != new:
        for entry in entries:
            entry.statements = [rename_schema(sql, old, new) for sql in entry.statements]
            entry.schema = new if entry.schema == old else entry.schema
    start = next((index for index, entry in enumerate(entries) if entry.kind in _LATER), len(entries))
    return SchemaText([*map(_create_object, entries[:start])], [*map(_create_object, entries[start:])])


def _split_entries(text: str) -> Iterator[Entry]:
    """Yield the objects, first the statements before them, as an object without a kind."""
    headers = [
        (line, match)
        for line, comment in script.SCRIPTS.comments(text)
        if (match := _HEADER.fullmatch(comment)) is not None
    ]
    entry, position = Entry("", "", "-", []), 0
    for line, sql in script.SCRIPTS.split(text):
        while position < len(headers) and headers[position][0] < line:
            yield entry
            match = headers[position][1]
            entry = Entry(match["kind"], match["name"], match["schema"], [])
            position += 1
        entry.statements.append(sql.removesuffix(";"))
    yield entry


def _is_of_table(entry: Entry, table: str) -> bool:
    """Whether an object is a table, its comment or privileges, or a constraint of it."""
    return bool(table) and entry.name.removeprefix("TABLE ").split(" ")[0] == table


def _list_entries(text: str, ignored: str) -> list[Entry]:
    entries, storage = list[Entry](), dict(STORAGE_DEFAULTS)
    for entry in _split_entries(text):
        matches = [match for sql in entry.statements if (match := _STORAGE.fullmatch(sql))]
        statements = [sql for sql in entry.statements if not _STORAGE.fullmatch(sql)]
        changed = [
            name for name in _STORAGE_OF.get(entry.kind, ()) if storage[name] != STORAGE_DEFAULTS[name]
        ]
        entry.statements = [
            *(f"SET {name} = {storage[name]}" for name in changed),
            *statements,
            *(f"SET {name} = {STORAGE_DEFAULTS[name]}" for name in changed),
        ]
        if entry.kind and not _is_lock(entry) and not _is_of_table(entry, ignored):
            entries.append(entry)
        storage |= {match["name"]: match["value"] for match in matches}
    return entries


def _is_lock(entry: Entry) -> bool:
    """Whether an object makes the source of a transfer refuse writes."""
    kind, last_word = entry.kind, entry.name.split(" ")[-1]
    return (kind, last_word) in (("TRIGGER", WRITE_LOCK), ("FUNCTION", f"{WRITE_LOCK}()"))


def _is_schema(entry: Entry, name: str) -> bool:
    """Whether an object is a schema, or its comment or privileges."""
    return entry.schema == "-" and entry.name in (name, f"SCHEMA {name}", f"SCHEMA {ident(name)}")


def _create_object(entry: Entry) -> NativeObject:
    name = entry.name if entry.schema == "-" else f"{entry.schema}.{entry.name}"
    return NativeObject(kind=entry.kind.lower(), name=name, statements=entry.statements)


def rename_schema(sql: str, old: str, new: str) -> str:
    """Return a statement of pg_dump in which a schema has another name.

    The program qualifies every name outside of the bodies of functions, also the names of sequences in defaults.
    """
    tokens = list(LEXER.tokenize(sql))
    names = {ident(old): ident(new), old: ident(new)}
    result = list[str]()
    for index, token in enumerate(tokens):
        following = tokens[index + 1].text if index + 1 < len(tokens) else ""
        preceding = tokens[index - 1].text if index else ""
        if token.kind in ("word", "name") and following == "." and preceding != "." and token.text in names:
            result.append(names[token.text])
        elif token.kind == "text" and following == "::" and _follows(tokens, index + 2, "regclass"):
            result.append(_rename_quoted(token.text, names))
        else:
            result.append(token.text)
    return "".join(result)


def _follows(tokens: Sequence[object], index: int, word: str) -> bool:
    return index < len(tokens) and getattr(tokens[index], "text", "").lower() == word


def _rename_quoted(literal: str, names: Mapping[str, str]) -> str:
    """Return the literal of a qualified name with another schema."""
    content = literal[1:-1].replace("''", "'")
    for old, new in names.items():
        if content.startswith(f"{old}."):
            content = new + content.removeprefix(old)
            return "'" + content.replace("'", "''") + "'"
    return literal
