"""The statements that create a full-text index in SQLite: an FTS5 table, an index on its keys, and triggers.

``enable_fts`` of sqlite-utils creates another kind of index: it finds rows by rowid, which may change where a table has no
INTEGER PRIMARY KEY, and follows neither texts of other tables nor the layout that the document of an app requires.
``create_index`` would repeat the statement of the key index, which ``StoredTextIndex`` compares with the stored one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dbctl.engines.contract.fulltext import JoinedText, TextIndexSpec
from dbctl.engines.sql.catalog import ident, quote_literal

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
        """Return the name of the key column in the content table."""
        return CONTENT_COLUMN.format(place=self.columns().index(self.spec.key))

    def _content_table(self) -> str:
        return ident(CONTENT_TABLE.format(index=self.spec.index_table))

    def _build_triggers(self) -> Iterator[tuple[str, str, str]]:
        """Yield table, event and statements of each trigger."""
        table_name, key = (
            ident(self.spec.index_table),
            f"{ident(self.spec.index_table)}.{ident(self.spec.key)}",
        )
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
