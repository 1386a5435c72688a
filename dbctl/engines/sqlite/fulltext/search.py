"""Full-text indexes in SQLite: an FTS5 table that triggers update."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import IndexFault, IndexState, IndexUse, JoinedText, TextIndexSpec
from dbctl.engines.sql import RankedReader, Ranking, Row, Statement, ident
from dbctl.engines.sqlite.describe import VIRTUAL
from dbctl.engines.sqlite.dialect import SQLiteDialect

if TYPE_CHECKING:
    from dbctl.engines.contract import TextQuery

_FTS5 = r"(?is)create\s+virtual\s+table\b.*?\busing\s+fts5\b"
_CONTENT = r"(?i)[(,]\s*content\s*=\s*(?P<of>'[^']*'|\"[^\"]*\"|[^,)\s]*)"
#: Quoted names that need no quotes, and signs around which spaces have no meaning.
_QUOTED, _SIGNS = r'"(\w+)"', r"[(),=;]"
SLOW = "each change of a row scans the whole index"
#: FTS5's names for the content table of an index, its rowid column, and its other columns by position.
CONTENT_TABLE = "{index}_content"
ROWID_COLUMN, CONTENT_COLUMN = "id", "c{place}"
_EVENTS = {"ai": "after insert", "au": "after update", "ad": "after delete"}
_VERBS = {"ai": "insert", "au": "update", "ad": "delete"}
#: A trigger: event, columns, table and body.
_TRIGGER = (
    r"create trigger \S+ after (?P<verb>insert|update|delete)(?: of (?P<of>[\w, ]+?))? on (?P<table>\w+)(?: for each row)?"
    r" begin (?P<body>.*) end"
)
#: The FTS5 command that deletes an entry of an index without stored text.
_DELETE_COMMAND = "insert into {own} ( {own} ,"
#: The texts of a JSON array of blocks; any other value stays unchanged.
_BLOCKS = """case when json_valid({0}) then case json_type({0}) when 'array' then coalesce((select \
group_concat(case b.type when 'object' then json_extract(b.value, '$.text') when 'text' then b.value end, ' ') \
from json_each({0}) b), {0}) else {0} end else {0} end"""


class SQLiteFullText(RankedReader, SQLiteDialect):
    """Capability.FULL_TEXT, for readers and writers."""

    @abstractmethod
    def _rows(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one reading statement once and return its rows."""

    def text_index_state(self, spec: TextIndexSpec) -> IndexState:
        definitions = self._read_entries(spec)
        name = spec.index_table
        if name.lower() not in definitions:
            return IndexState(name=name, state="missing")
        reason = self._damage_reason(spec, definitions)
        if not reason:
            return IndexState(name=name, state="valid")
        if self._has_plain_triggers(spec, definitions):
            return IndexState(name=name, state="valid", reason=SLOW)
        if self._is_foreign(spec, definitions):
            return IndexState(name=name, state="broken", reason=reason, is_foreign=True)
        return IndexState(name=name, state="broken", reason=reason, usable=self._is_usable(spec, definitions))

    @staticmethod
    def _is_foreign(spec: TextIndexSpec, definitions: Mapping[str, str]) -> bool:
        """Whether an ordinary table has the name of the index."""
        table_sql = definitions.get(spec.index_table.lower(), "")
        return bool(table_sql) and not re.match(VIRTUAL, table_sql)

    def _read_entries(self, spec: TextIndexSpec) -> dict[str, str]:
        """Return the SQL of the FTS5 table, its key index and every trigger that names it, by name in lower case."""
        rows = self._fetch("select type, lower(name), coalesce(sql, '') from sqlite_master", {})
        table_name, key_index = spec.index_table.lower(), self._key_index(spec).lower()
        pattern = re.compile(rf"\b{re.escape(table_name)}\b", re.IGNORECASE)
        return {
            str(name): str(sql)
            for kind, name, sql in rows
            if (kind, name) in (("table", table_name), ("index", key_index))
            or (kind == "trigger" and pattern.search(str(sql)))
        }

    def _damage_reason(self, spec: TextIndexSpec, definitions: Mapping[str, str]) -> str:
        sql = definitions[spec.index_table.lower()]
        if not re.match(_FTS5, sql):
            return "it is not an FTS5 table"
        content = re.search(_CONTENT, sql)
        source = content["of"].strip("'\"") if content else ""
        if content and not source:
            return f"it stores no text, so matches have no {spec.key} and entries are never deleted"
        if content:
            return f"it reads its text from {source}, whose columns or keys differ, so queries or changes of {spec.table} fail"
        return self._difference_reason(spec, definitions)

    def _is_usable(self, spec: TextIndexSpec, definitions: Mapping[str, str]) -> bool:
        """Whether the index still finds every row: it has one entry per row, and changes that it cannot follow fail."""
        if spec.joined_texts or not self._has_expected_columns(spec, definitions):
            return False
        expected, bodies = self._plain_trigger_bodies(spec), self._read_trigger_bodies(spec, definitions)
        delete_command = _DELETE_COMMAND.format(own=spec.index_table.lower())
        if any(
            bodies.get(verb, "") != expected[verb] and delete_command not in bodies.get(verb, "")
            for verb in expected
        ):
            return False
        entries, table = ident(f"{spec.index_table}_docsize"), self._quote_table(spec.table)
        sql = f"select (select count(*) from {entries}) = (select count(*) from {table})"  # noqa: S608 - names are quoted
        return self._fetch(sql, {}) == [(1,)]

    def _has_expected_columns(self, spec: TextIndexSpec, definitions: Mapping[str, str]) -> bool:
        return _normalize(definitions[spec.index_table.lower()]) == _normalize(
            self._build_definition(spec)[spec.index_table]
        )

    def _has_plain_triggers(self, spec: TextIndexSpec, definitions: Mapping[str, str]) -> bool:
        """Whether the triggers of the index are simple handwritten ones: correct, but slow."""
        if spec.joined_texts or not self._has_expected_columns(spec, definitions):
            return False
        expected = self._plain_trigger_bodies(spec)
        return (
            len(definitions) == 1 + len(expected) and self._read_trigger_bodies(spec, definitions) == expected
        )

    def _plain_trigger_bodies(self, spec: TextIndexSpec) -> dict[str, str]:
        """Return the bodies of simple handwritten triggers by event."""
        table, names = spec.index_table.lower(), self._list_columns(spec)
        values = ", ".join(f"new.{spec.id if name == spec.key else name}" for name in names)
        insert = f"insert into {table} ({', '.join(names)}) values ({values});"  # noqa: S608 - compared, never run
        delete = f"delete from {table} where {spec.key} = old.{spec.id};"  # noqa: S608 - names are quoted
        return {
            "insert": _normalize(insert),
            "delete": _normalize(delete),
            "update": _normalize(f"{delete} {insert}"),
        }

    @staticmethod
    def _read_trigger_bodies(spec: TextIndexSpec, definitions: Mapping[str, str]) -> dict[str, str]:
        """Return the bodies of the table's triggers by event, without those that ignore an indexed column."""
        bodies = {}
        for match in (re.fullmatch(_TRIGGER, _normalize(sql)) for sql in definitions.values()):
            watched_columns = (
                {name.strip() for name in match["of"].split(",")} if match and match["of"] else set[str]()
            )
            covers_all = not watched_columns or {name.lower() for name in spec.columns} <= watched_columns
            if match and match["table"] == spec.table.lower() and covers_all:
                bodies[match["verb"]] = match["body"].strip("; ")
        return bodies

    def _difference_reason(self, spec: TextIndexSpec, definitions: Mapping[str, str]) -> str:
        table_name, key_index = spec.index_table.lower(), self._key_index(spec).lower()
        expected = {name.lower(): _normalize(text) for name, text in self._build_definition(spec).items()}
        actual = {name: _normalize(text) for name, text in definitions.items()}
        if actual.pop(table_name) != expected.pop(table_name):
            return "its columns differ"
        if any(_DELETE_COMMAND.format(own=table_name) in sql for sql in actual.values()):
            return f"its triggers use a command that it does not support, so changes of {spec.table} fail"
        if actual.pop(key_index, "") != expected.pop(key_index):
            return f"it has no index on {spec.key}, so each change of a row scans the whole index"
        if actual != expected:
            return "its triggers differ, so it does not follow every change"
        return ""

    # Expected definition ---------------------------------------------------------------------------------------

    def _build_definition(self, spec: TextIndexSpec) -> dict[str, str]:
        """Return the statements that create the FTS5 table, its key index and its triggers, by name."""
        unsearched = {spec.key, *spec.extra_columns}
        parts = [ident(name) + " unindexed" * (name in unsearched) for name in self._list_columns(spec)]
        parts += ["tokenize = '" + spec.tokenizer.replace("'", "''") + "'"] if spec.tokenizer else []
        statements = {
            spec.index_table: f"create virtual table {ident(spec.index_table)} using fts5({', '.join(parts)})"
        }
        # FTS5 finds entries only by rowid and words, and the rowids of the table may change
        name = self._key_index(spec)
        statements[name] = (
            f"create index {ident(name)} on {self._content_table(spec)} ({self._key_column(spec)})"
        )
        for table, event, body in self._build_triggers(spec):
            names = {"index": spec.index_table.lower(), "table": table.lower()}
            name = spec.trigger_pattern.format(**names, event=event, verb=_VERBS[event])
            head = f"create trigger {ident(name)} {_EVENTS[event]} on {ident(table)}"
            statements[name] = f"{head} begin {body} end"
        return statements

    @staticmethod
    def _list_columns(spec: TextIndexSpec) -> list[str]:
        """Return the columns of the FTS5 table."""
        names = [
            spec.key,
            *spec.columns,
            *spec.extra_columns,
            *(joined_text.name for joined_text in spec.joined_texts),
        ]
        return sorted(names, key=spec.column_order.index) if spec.column_order else names

    def _key_column(self, spec: TextIndexSpec) -> str:
        """Return the name of the key column in the content table."""
        return CONTENT_COLUMN.format(place=self._list_columns(spec).index(spec.key))

    @staticmethod
    def _key_index(spec: TextIndexSpec) -> str:
        return f"{spec.index_table}_{spec.key}"

    @staticmethod
    def _content_table(spec: TextIndexSpec) -> str:
        return ident(CONTENT_TABLE.format(index=spec.index_table))

    def _build_triggers(self, spec: TextIndexSpec) -> Iterator[tuple[str, str, str]]:
        """Yield table, event and statements of each trigger."""
        table_name, key = ident(spec.index_table), f"{ident(spec.index_table)}.{ident(spec.key)}"
        rowid_test = (
            f"rowid in (select {ROWID_COLUMN} from {self._content_table(spec)} where {self._key_column(spec)}"  # noqa: S608 - names are quoted
        )
        delete = f"delete from {table_name} where {rowid_test} = old.{ident(spec.id)});"  # noqa: S608 - names are quoted
        insert = f"{self._fill_sql(spec)} where s.{ident(spec.id)} = new.{ident(spec.id)};"
        yield spec.table, "ai", insert
        yield spec.table, "au", f"{delete} {insert}"
        yield spec.table, "ad", delete
        for joined_text in spec.joined_texts:
            start, first = key, ident(joined_text.path[0].column)
            if joined_text.path[0].column != spec.id:
                start = f"(select s.{first} from {ident(spec.table)} s where s.{ident(spec.id)} = {key})"  # noqa: S608 - names are quoted
            for position, link in enumerate(joined_text.path):
                for event, rows in (("ai", ["new"]), ("au", ["old", "new"]), ("ad", ["old"])):
                    updates = [
                        f"update {table_name} set {ident(joined_text.name)} = {self._joined_text_sql(joined_text, start)}"  # noqa: S608 - names are quoted
                        f" where {rowid_test} in ({self._affected_ids_sql(spec, joined_text, position, row)}));"
                        for row in rows
                    ]
                    yield link.table, event, " ".join(updates)

    def _fill_sql(self, spec: TextIndexSpec) -> str:
        """Return the statement that fills the index from ``s``; the caller may append a WHERE clause."""
        values = {spec.key: f"s.{ident(spec.id)}", **self._column_values(spec)}
        names = self._list_columns(spec)
        into = f"insert into {ident(spec.index_table)} ({', '.join(map(ident, names))})"
        return f"{into} select {', '.join(values[name] for name in names)} from {ident(spec.table)} s"  # noqa: S608 - names are quoted

    def _column_values(self, spec: TextIndexSpec) -> dict[str, str]:
        """Return SQL for the value of each column except the key, for a row of ``s``."""
        values = {name: f"s.{ident(name)}" for name in (*spec.columns, *spec.extra_columns)}
        values |= {name: _BLOCKS.format(values[name]) for name in spec.block_columns}
        return values | {
            joined_text.name: self._joined_text_sql(joined_text, f"s.{ident(joined_text.path[0].column)}")
            for joined_text in spec.joined_texts
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
        inner = f"select {value} as v from {', '.join(tables)} where {' and '.join(tests)} order by 1"  # noqa: S608 - names are quoted
        return f"(select coalesce(group_concat(v, ' '), '') from ({inner}))"  # noqa: S608 - names are quoted

    @staticmethod
    def _affected_ids_sql(spec: TextIndexSpec, joined_text: JoinedText, position: int, row: str) -> str:
        """Return SQL for the ids of the rows whose path contains ``row`` at the link ``position``."""
        tables, tests, previous = [f"{ident(spec.table)} s"], [], "s"
        for link_index, link in enumerate(joined_text.path[:position]):
            tables.append(f"{ident(link.table)} l{link_index}")
            tests.append(f"l{link_index}.{ident(link.to)} = {previous}.{ident(link.column)}")
            previous = f"l{link_index}"
        tests.append(
            f"{previous}.{ident(joined_text.path[position].column)} = {row}.{ident(joined_text.path[position].to)}"
        )
        return f"select s.{ident(spec.id)} from {', '.join(tables)} where {' and '.join(tests)}"  # noqa: S608 - names are quoted

    # Search ----------------------------------------------------------------------------------------------------

    def text_index_use(self, spec: TextIndexSpec, query: TextQuery) -> IndexUse:
        return "find" if _build_match(spec, query) else "none"

    def _build_ranking(self, statement: Statement, spec: TextIndexSpec, query: TextQuery) -> Ranking:
        table_name = ident(spec.index_table)
        link = f"t0.{ident(spec.id)} = {table_name}.{ident(spec.key)}"
        columns = " ".join(map(ident, spec.columns))
        match = f"{{{columns}}} : ({_build_match(spec, query)})"
        return Ranking(
            source=f"{table_name} join {self._quote_table(spec.table)} t0 on {link}",
            test=f"{table_name} match {statement.bind(match)}",
            score=f"-bm25({table_name})",
        )

    # Verification ----------------------------------------------------------------------------------------------

    def find_text_index_faults(self, spec: TextIndexSpec) -> Sequence[IndexFault]:
        table_name, key = ident(spec.index_table), f"f.{ident(spec.key)}"
        source, id_ = self._quote_table(spec.table), f"s.{ident(spec.id)}"
        differences = " or ".join(
            f"(f.{ident(name)} is not {value}"
            # Simple triggers insert the text unchanged.
            + (f" and f.{ident(name)} is not s.{ident(name)}" if name in spec.block_columns else "")
            + ")"
            for name, value in self._column_values(spec).items()
        )
        queries = {
            "missing": f"select {id_} as i from {source} s where {id_} not in (select {key} from {table_name} f where {key} is not null)",  # noqa: S608 - names are quoted
            "stray": f"select coalesce({key}, '(no id)') as i from {table_name} f where {key} is null or {key} not in (select {id_} from {source} s)",  # noqa: S608 - names are quoted
            "duplicate": f"select {key} as i from {table_name} f where {key} is not null group by {key} having count(*) > 1",  # noqa: S608 - names are quoted
            "stale": f"select {id_} as i from {table_name} f join {source} s on {id_} = {key} where {differences}",  # noqa: S608 - names are quoted
        }
        faults = []
        for kind, sql in queries.items():
            ((count, example),) = self._fetch(f"select count(*), min(q.i) from ({sql}) q", {})  # noqa: S608 - names are quoted
            if count:
                faults.append(IndexFault(kind=kind, count=int(str(count)), example=str(example)))  # type: ignore[arg-type]
        return faults


def _build_match(spec: TextIndexSpec, query: TextQuery) -> str:
    from dbctl.engines.sqlite.fulltext.fts5_query import FTS5Query

    return FTS5Query(spec).write(query)


def _normalize(sql: str) -> str:
    """Return a statement in a form in which equal statements are equal text."""
    unquoted = re.sub(_QUOTED, r"\1", sql)
    return " ".join(re.sub(_SIGNS, r" \g<0> ", unquoted).split()).strip("; ").lower()
