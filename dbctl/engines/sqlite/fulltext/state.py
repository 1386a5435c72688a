"""Compare the stored objects of a full-text index with its definition."""

from __future__ import annotations

import re

from dbctl.engines.contract.fulltext import TextIndexSpec
from dbctl.engines.sql.database import Connection
from dbctl.engines.sqlite.catalog import VIRTUAL
from dbctl.engines.sqlite.fulltext.definition import TextIndexDefinition, normalize

_FTS5 = r"(?is)create\s+virtual\s+table\b.*?\busing\s+fts5\b"
_CONTENT = r"(?i)[(,]\s*content\s*=\s*(?P<of>'[^']*'|\"[^\"]*\"|[^,)\s]*)"
#: A trigger: event, columns, table and body.
_TRIGGER = (
    r"create trigger \S+ after (?P<verb>insert|update|delete)(?: of (?P<of>[\w, ]+?))? on (?P<table>\w+)(?: for each row)?"
    r" begin (?P<body>.*) end"
)
#: The FTS5 command that deletes an entry of an index without stored text.
_DELETE_COMMAND = "insert into {own} ( {own} ,"


class StoredTextIndex:
    """The statements that SQLite stores for an index, its key index, and every trigger that names it."""

    def __init__(self, connection: Connection, spec: TextIndexSpec) -> None:
        self._definition, self._spec = TextIndexDefinition(spec), spec
        names = {("table", spec.index_table.lower()), ("index", self._definition.key_index.lower())}
        pattern = re.compile(rf"\b{re.escape(spec.index_table)}\b", re.IGNORECASE)
        rows = connection.fetch("select type, lower(name), coalesce(sql, '') from sqlite_master")
        self._entries = {
            str(name): str(sql)
            for kind, name, sql in rows
            if (kind, name) in names or (kind == "trigger" and pattern.search(str(sql)))
        }

    @property
    def exists(self) -> bool:
        return self._spec.index_table.lower() in self._entries

    def contains(self, name: str) -> bool:
        """Whether an object of this name belongs to the index."""
        return name.lower() in self._entries

    @property
    def is_foreign(self) -> bool:
        """Whether an ordinary table has the name of the index."""
        table_sql = self._entries.get(self._spec.index_table.lower(), "")
        return bool(table_sql) and not re.match(VIRTUAL, table_sql)

    def damage_reason(self) -> str:
        """Return why the index does not find every row; empty if it does."""
        sql = self._entries[self._spec.index_table.lower()]
        if not re.match(_FTS5, sql):
            return "it is not an FTS5 table"
        content = re.search(_CONTENT, sql)
        source = content["of"].strip("'\"") if content else ""
        if content and not source:
            return f"it stores no text, so matches have no {self._spec.key} and entries are never deleted"
        if content:
            return f"it reads its text from {source}, whose columns or keys differ, so queries or changes of {self._spec.table} fail"
        return self._difference_reason()

    def can_find_every_row(self) -> bool:
        """Whether the index finds every row if it has one entry per row, because changes that it cannot follow fail."""
        if self._spec.joined_texts or not self._has_expected_columns():
            return False
        expected, bodies = self._definition.plain_trigger_bodies(), self._read_trigger_bodies()
        delete_command = _DELETE_COMMAND.format(own=self._spec.index_table.lower())
        return all(
            bodies.get(verb, "") == expected[verb] or delete_command in bodies.get(verb, "")
            for verb in expected
        )

    def _has_expected_columns(self) -> bool:
        return normalize(self._entries[self._spec.index_table.lower()]) == normalize(
            self._definition.statements()[self._spec.index_table]
        )

    def has_plain_triggers(self) -> bool:
        """Whether the triggers of the index are simple handwritten ones: correct, but slow."""
        if self._spec.joined_texts or not self._has_expected_columns():
            return False
        expected = self._definition.plain_trigger_bodies()
        return len(self._entries) == 1 + len(expected) and self._read_trigger_bodies() == expected

    def _read_trigger_bodies(self) -> dict[str, str]:
        """Return the bodies of the table's triggers by event, without those that ignore an indexed column."""
        bodies = {}
        for match in (re.fullmatch(_TRIGGER, normalize(sql)) for sql in self._entries.values()):
            watched_columns = (
                {name.strip() for name in match["of"].split(",")} if match and match["of"] else set[str]()
            )
            covers_all = (
                not watched_columns or {name.lower() for name in self._spec.columns} <= watched_columns
            )
            if match and match["table"] == self._spec.table.lower() and covers_all:
                bodies[match["verb"]] = match["body"].strip("; ")
        return bodies

    def _difference_reason(self) -> str:
        table_name, key_index = self._spec.index_table.lower(), self._definition.key_index.lower()
        expected = {name.lower(): normalize(text) for name, text in self._definition.statements().items()}
        actual = {name: normalize(text) for name, text in self._entries.items()}
        if actual.pop(table_name) != expected.pop(table_name):
            return "its columns differ"
        if any(_DELETE_COMMAND.format(own=table_name) in sql for sql in actual.values()):
            return (
                f"its triggers use a command that it does not support, so changes of {self._spec.table} fail"
            )
        if actual.pop(key_index, "") != expected.pop(key_index):
            return f"it has no index on {self._spec.key}, so each change of a row scans the whole index"
        if actual != expected:
            return "its triggers differ, so it does not follow every change"
        return ""
