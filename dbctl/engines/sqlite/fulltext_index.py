"""Full-text indexes in SQLite: their definition (an FTS5 table, an index on its keys, and triggers), and their stored objects.

``enable_fts`` of sqlite-utils creates another kind of index: it finds rows by rowid, which may change where a table has no
INTEGER PRIMARY KEY, and follows neither texts of other tables nor the layout that the document of an app requires.
``create_index`` would repeat the statement of the key index, which ``StoredTextIndex`` compares with the stored one.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence

from dbctl.engines.contract.fulltext import JoinedText, TextIndexSpec
from dbctl.engines.sql.catalog import Connection, ident, lower_ascii, quote_literal
from dbctl.engines.sqlite.catalog import VIRTUAL
from dbctl.model import Struct

#: Quoted names that need no quotes, and signs around which spaces have no meaning.
_QUOTED, _SIGNS = r'"(\w+)"', r"[(),=;]"
#: FTS5's names for the content table of an index, its rowid column, and its other columns by position.
CONTENT_TABLE = "{index}_content"
ROWID_COLUMN, CONTENT_COLUMN = "id", "c{place}"
_EVENTS = {"ai": "after insert", "au": "after update", "ad": "after delete"}
_VERBS = {"ai": "insert", "au": "update", "ad": "delete"}
#: The texts of a JSON array of blocks; any other value stays unchanged.
_BLOCKS = """case when json_valid({0}) then case json_type({0}) when 'array' then coalesce((select \
group_concat(case b.type when 'object' then json_extract(b.value, '$.text') when 'text' then b.value end, ' ') \
from json_each({0}) b), {0}) else {0} end else {0} end"""


class TextIndexDefinition:
    """The objects of the index that a spec describes."""

    def __init__(self, spec: TextIndexSpec) -> None:
        self.spec = spec
        self.key_index = f"{spec.index_table}_{spec.key}"  #: the name of the index on the keys

    def statements(self) -> dict[str, str]:
        """Return the statements that create the FTS5 table, its key index and its triggers, by name."""
        unsearched = {self.spec.key, *self.spec.extra_columns}
        parts = [ident(name) + " unindexed" * (name in unsearched) for name in self.columns()]
        parts += [f"tokenize = {quote_literal(self.spec.tokenizer)}"] if self.spec.tokenizer else []
        statements = {
            self.spec.index_table: f"create virtual table {ident(self.spec.index_table)} using fts5({', '.join(parts)})"
        }
        # FTS5 finds entries only by rowid and words, and the rowids of the table may change
        name = self.key_index
        statements[name] = f"create index {ident(name)} on {self._content_table()} ({self._key_column()})"
        for table, event, body in self._build_triggers():
            names = {"index": self.spec.index_table.lower(), "table": table.lower()}
            name = self.spec.trigger_pattern.format(**names, event=event, verb=_VERBS[event])
            head = f"create trigger {ident(name)} {_EVENTS[event]} on {ident(table)}"
            statements[name] = f"{head} begin {body} end"
        return statements

    def columns(self) -> list[str]:
        """Return the columns of the FTS5 table."""
        names = [
            self.spec.key,
            *self.spec.columns,
            *self.spec.extra_columns,
            *(joined_text.name for joined_text in self.spec.joined_texts),
        ]
        return sorted(names, key=self.spec.column_order.index) if self.spec.column_order else names

    def _key_column(self) -> str:
        return CONTENT_COLUMN.format(place=self.columns().index(self.spec.key))

    def _content_table(self) -> str:
        return ident(CONTENT_TABLE.format(index=self.spec.index_table))

    def _build_triggers(self) -> Iterator[tuple[str, str, str]]:
        """Yield table, event and statements of each trigger."""
        table_name = ident(self.spec.index_table)
        key = f"{ident(self.spec.index_table)}.{ident(self.spec.key)}"
        rowid_test = (
            f"rowid in (select {ROWID_COLUMN} from {self._content_table()} where {self._key_column()}"
        )
        delete = f"delete from {table_name} where {rowid_test} = old.{ident(self.spec.id)});"
        insert = f"{self.fill_statement()} where s.{ident(self.spec.id)} = new.{ident(self.spec.id)};"
        yield self.spec.table, "ai", insert
        yield self.spec.table, "au", f"{delete} {insert}"
        yield self.spec.table, "ad", delete
        for joined_text in self.spec.joined_texts:
            start, first = key, ident(joined_text.path[0].column)
            if joined_text.path[0].column != self.spec.id:
                start = f"(select s.{first} from {ident(self.spec.table)} s where s.{ident(self.spec.id)} = {key})"
            for position, link in enumerate(joined_text.path):
                for event, rows in (("ai", ["new"]), ("au", ["old", "new"]), ("ad", ["old"])):
                    updates = [
                        f"update {table_name} set {ident(joined_text.name)} = {self._joined_text_sql(joined_text, start)}"
                        f" where {rowid_test} in ({self._affected_ids_sql(joined_text, position, row)}));"
                        for row in rows
                    ]
                    yield link.table, event, " ".join(updates)

    def fill_statement(self) -> str:
        """Return the statement that fills the index from ``s``; the caller may append a WHERE clause."""
        values = {self.spec.key: f"s.{ident(self.spec.id)}", **self.column_values()}
        names = self.columns()
        into = f"insert into {ident(self.spec.index_table)} ({', '.join(map(ident, names))})"
        return f"{into} select {', '.join(values[name] for name in names)} from {ident(self.spec.table)} s"

    def column_values(self) -> dict[str, str]:
        """Return SQL for the value of each column except the key, for a row of ``s``."""
        values = {name: f"s.{ident(name)}" for name in (*self.spec.columns, *self.spec.extra_columns)}
        values |= {name: _BLOCKS.format(values[name]) for name in self.spec.block_columns}
        return values | {
            joined_text.name: self._joined_text_sql(joined_text, f"s.{ident(joined_text.path[0].column)}")
            for joined_text in self.spec.joined_texts
        }

    @staticmethod
    def _joined_text_sql(joined_text: JoinedText, start: str) -> str:
        """Return SQL for the joined texts, in a stable order, of the row whose first link has the value ``start``."""
        tables, tests, previous = [], [], start
        for position, link in enumerate(joined_text.path):
            tables.append(f"{ident(link.table)} l{position}")
            tests.append(f"l{position}.{ident(link.to)} = {previous}")
            if position + 1 < len(joined_text.path):
                previous = f"l{position}.{ident(joined_text.path[position + 1].column)}"
        value = f"l{len(joined_text.path) - 1}.{ident(joined_text.column)}"
        inner = f"select {value} as v from {', '.join(tables)} where {' and '.join(tests)} order by 1"
        return f"(select coalesce(group_concat(v, ' '), '') from ({inner}))"

    def _affected_ids_sql(self, joined_text: JoinedText, position: int, row: str) -> str:
        """Return SQL for the ids of the rows whose path contains ``row`` at the link ``position``."""
        tables, tests, previous = [f"{ident(self.spec.table)} s"], [], "s"
        for link_index, link in enumerate(joined_text.path[:position]):
            tables.append(f"{ident(link.table)} l{link_index}")
            tests.append(f"l{link_index}.{ident(link.to)} = {previous}.{ident(link.column)}")
            previous = f"l{link_index}"
        tests.append(
            f"{previous}.{ident(joined_text.path[position].column)} = {row}.{ident(joined_text.path[position].to)}"
        )
        return f"select s.{ident(self.spec.id)} from {', '.join(tables)} where {' and '.join(tests)}"

    def plain_trigger_bodies(self) -> dict[str, str]:
        """Return the bodies of simple handwritten triggers by event."""
        table, names = self.spec.index_table.lower(), self.columns()
        values = ", ".join(f"new.{self.spec.id if name == self.spec.key else name}" for name in names)
        insert = f"insert into {table} ({', '.join(names)}) values ({values});"
        delete = f"delete from {table} where {self.spec.key} = old.{self.spec.id};"
        return {
            "insert": normalize(insert),
            "delete": normalize(delete),
            "update": normalize(f"{delete} {insert}"),
        }


def normalize(sql: str) -> str:
    """Return a statement in a form in which equal statements are equal text."""
    unquoted = re.sub(_QUOTED, r"\1", sql)
    return " ".join(re.sub(_SIGNS, r" \g<0> ", unquoted).split()).strip("; ").lower()


_FULL_TEXT = r"(?is)create\s+virtual\s+table\b.*?\busing\s+fts(?P<version>[345])\b(?P<options>.*)"
#: The table with the rows of a full-text index; empty: its rows are not stored.
_CONTENT = r"(?is)[(,]\s*content\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|`([^`]*)`|\[([^\]]*)\]|([^\s,)]*))\s*[,)]"
#: Shadow tables of FTS3 and FTS4 with words of the rows.
_SHADOW_TABLES = ("segments", "segdir", "docsize", "stat")
#: The names and the statements of tables, for ``read_text_indexes``.
TABLE_TEXTS = "select name, sql from sqlite_master where type = 'table' order by name"


class TextIndex(Struct, frozen=True, kw_only=True):
    """A table of FTS3, FTS4 or FTS5."""

    name: str
    version: str
    content: str | None  #: the table with its rows; empty: its rows are not stored; None: it has them itself

    @property
    def tables(self) -> Collection[str]:
        """The tables without whose rows it is empty, in lower case."""
        return {lower_ascii(name) for name in (self.name, self.content) if name}

    def renew(self, driver: sqlite3.Connection) -> None:
        """Build it from its rows again; without stored rows, it is empty afterwards."""
        if self.content == "":
            self.clear(driver)
        else:
            driver.execute(f"insert into {ident(self.name)} ({ident(self.name)}) values ('rebuild')")

    def clear(self, driver: sqlite3.Connection) -> None:
        """Delete its entries; the rows of another table remain."""
        if self.version == "5":
            table = ident(self.name)
            driver.execute(f"insert into {table} ({table}) values ('delete-all')")
        else:
            existing = {name for name, _ in driver.execute(TABLE_TEXTS)}
            for name in (f"{self.name}_{suffix}" for suffix in _SHADOW_TABLES):
                if name in existing:
                    driver.execute(f"delete from {ident(name)}")


def read_text_indexes(tables: Iterable[Sequence[object]]) -> Iterator[TextIndex]:
    """Yield the full-text indexes among tables, given their names and statements."""
    for name, sql in tables:
        if match := re.match(_FULL_TEXT, str(sql)):
            content = re.search(_CONTENT, match["options"]) if match["version"] != "3" else None
            table = next((text for text in content.groups() if text is not None), "") if content else None
            yield TextIndex(name=str(name), version=match["version"], content=table)


#: A trigger: event, columns, table and body.
_TRIGGER = (
    r"create trigger \S+ after (?P<verb>insert|update|delete)(?: of (?P<of>[\w, ]+?))? on (?P<table>\w+)(?: for each row)?"
    r" begin (?P<body>.*) end"
)


class StoredTextIndex:
    """The statements that SQLite stores for an index, its key index, and every trigger that names it."""

    def __init__(self, connection: Connection, spec: TextIndexSpec) -> None:
        self._definition, self._spec = TextIndexDefinition(spec), spec
        name = spec.index_table.lower()
        names = {("table", name), ("index", self._definition.key_index.lower())}
        pattern = re.compile(rf"\b{re.escape(spec.index_table)}\b", re.IGNORECASE)
        rows = connection.fetch("select type, lower(name), coalesce(sql, '') from sqlite_master")
        self._entries = {
            str(name): str(sql)
            for kind, name, sql in rows
            if (kind, name) in names or (kind == "trigger" and pattern.search(str(sql)))
        }
        self.exists, self._sql = name in self._entries, self._entries.get(name, "")
        #: the FTS5 command that deletes an entry of an index without stored text
        self._delete_command = f"insert into {name} ( {name} ,"

    def contains(self, name: str) -> bool:
        """Whether an object of this name belongs to the index."""
        return name.lower() in self._entries

    @property
    def is_foreign(self) -> bool:
        """Whether an ordinary table has the name of the index."""
        return self.exists and not re.match(VIRTUAL, self._sql)

    def damage_reason(self) -> str:
        """Return why the index does not find every row; empty if it does."""
        index = next(read_text_indexes([(self._spec.index_table, self._sql)]), None)
        if index is None or index.version != "5":
            return "it is not an FTS5 table"
        if index.content == "":
            return f"it stores no text, so matches have no {self._spec.key} and entries are never deleted"
        if index.content:
            return f"it reads its text from {index.content}, whose columns or keys differ, so queries or changes of {self._spec.table} fail"
        return self._difference_reason()

    def can_find_every_row(self) -> bool:
        """Whether the index finds every row if it has one entry per row, because changes that it cannot follow fail."""
        if self._spec.joined_texts or not self._has_expected_columns():
            return False
        bodies = self._read_trigger_bodies()
        return all(
            bodies.get(verb) == body or self._delete_command in bodies.get(verb, "")
            for verb, body in self._definition.plain_trigger_bodies().items()
        )

    def _has_expected_columns(self) -> bool:
        return normalize(self._sql) == normalize(self._definition.statements()[self._spec.index_table])

    def has_plain_triggers(self) -> bool:
        """Whether the triggers of the index are simple handwritten ones: correct, but slow."""
        if self._spec.joined_texts or not self._has_expected_columns():
            return False
        expected = self._definition.plain_trigger_bodies()
        return len(self._entries) == 1 + len(expected) and self._read_trigger_bodies() == expected

    def _read_trigger_bodies(self) -> dict[str, str]:
        """Return the bodies of the table's triggers by event, without those that ignore an indexed column."""
        bodies = {}
        columns = {name.lower() for name in self._spec.columns}
        for match in (re.fullmatch(_TRIGGER, normalize(sql)) for sql in self._entries.values()):
            if match and match["table"] == self._spec.table.lower():
                watched_columns = (
                    {name.strip() for name in match["of"].split(",")} if match["of"] else columns
                )
                if columns <= watched_columns:
                    bodies[match["verb"]] = match["body"].strip("; ")
        return bodies

    def _difference_reason(self) -> str:
        table_name, key_index = self._spec.index_table.lower(), self._definition.key_index.lower()
        expected = {name.lower(): normalize(text) for name, text in self._definition.statements().items()}
        actual = {name: normalize(text) for name, text in self._entries.items()}
        if actual.pop(table_name) != expected.pop(table_name):
            return "its columns differ"
        if any(self._delete_command in sql for sql in actual.values()):
            return (
                f"its triggers use a command that it does not support, so changes of {self._spec.table} fail"
            )
        if actual.pop(key_index, "") != expected.pop(key_index):
            return f"it has no index on {self._spec.key}, so each change of a row scans the whole index"
        if actual != expected:
            return "its triggers differ, so it does not follow every change"
        return ""
