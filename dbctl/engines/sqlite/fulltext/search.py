"""Indexes of words in SQLite: an FTS5 table of its own, which triggers keep."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import Gathered, IndexFault, IndexState, IndexUse, TextIndex
from dbctl.engines.sql import RankedReader, Ranking, Row, Statement, ident
from dbctl.engines.sqlite.describe import VIRTUAL
from dbctl.engines.sqlite.dialect import SQLiteDialect

if TYPE_CHECKING:
    from dbctl.engines.contract import TextQuery

_FTS5 = r"(?is)create\s+virtual\s+table\b.*?\busing\s+fts5\b"
_CONTENT = r"(?i)[(,]\s*content\s*=\s*(?P<of>'[^']*'|\"[^\"]*\"|[^,)\s]*)"
#: Names that need no quotes, and signs around which a space means nothing.
_QUOTED, _SIGNS = r'"(\w+)"', r"[(),=;]"
SLOW = "each change of a row reads all of it"
#: How FTS5 calls the table that keeps the text of an index, its number of a row there, and the first of the columns.
CONTENT = "{index}_content"
NUMBER, COLUMN = "id", "c{place}"
_EVENTS = {"ai": "after insert", "au": "after update", "ad": "after delete"}
_VERBS = {"ai": "insert", "au": "update", "ad": "delete"}
#: A trigger, taken apart: after what, of which columns, on which table, and what it does.
_TRIGGER = (
    r"create trigger \S+ after (?P<verb>insert|update|delete)(?: of (?P<of>[\w, ]+?))? on (?P<table>\w+)(?: for each row)?"
    r" begin (?P<body>.*) end"
)
#: How FTS5 is told to take out an entry whose text it does not keep.
_TAKEN_OUT = "insert into {own} ( {own} ,"
#: The texts of a JSON array of blocks; what is none, or holds none, stays as it is.
_BLOCKS = """case when json_valid({0}) then case json_type({0}) when 'array' then coalesce((select \
group_concat(case b.type when 'object' then json_extract(b.value, '$.text') when 'text' then b.value end, ' ') \
from json_each({0}) b), {0}) else {0} end else {0} end"""


class SQLiteFullText(RankedReader, SQLiteDialect):
    """Capability.FULL_TEXT, for readers and writers."""

    @abstractmethod
    def _rows(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """Run one reading statement once and return its rows."""

    def text_index(self, told: TextIndex) -> IndexState:
        found = self._entries(told)
        name = told.own_table
        if name.lower() not in found:
            return IndexState(name=name, state="missing")
        reason = self._why_broken(told, found)
        if not reason:
            return IndexState(name=name, state="sound")
        if self._follows_plainly(told, found):
            return IndexState(name=name, state="sound", reason=SLOW)
        if self._is_foreign(told, found):
            return IndexState(name=name, state="broken", reason=reason, foreign=True)
        return IndexState(name=name, state="broken", reason=reason, usable=self._is_usable(told, found))

    @staticmethod
    def _is_foreign(told: TextIndex, found: Mapping[str, str]) -> bool:
        """Whether rows stand under its name that are nobody's index."""
        own = found.get(told.own_table.lower(), "")
        return bool(own) and not re.match(VIRTUAL, own)

    def _entries(self, told: TextIndex) -> dict[str, str]:
        """Return the text of the index's own table, and of its key and every trigger that names it, by name in lower case."""
        rows = self._fetch("select type, lower(name), coalesce(sql, '') from sqlite_master", {})
        own, by_key = told.own_table.lower(), self._key_index(told).lower()
        word = re.compile(rf"\b{re.escape(own)}\b", re.IGNORECASE)
        return {
            str(name): str(sql)
            for kind, name, sql in rows
            if (kind, name) in (("table", own), ("index", by_key))
            or (kind == "trigger" and word.search(str(sql)))
        }

    def _why_broken(self, told: TextIndex, found: Mapping[str, str]) -> str:
        sql = found[told.own_table.lower()]
        if not re.match(_FTS5, sql):
            return "it is a table of another kind, no index of words"
        content = re.search(_CONTENT, sql)
        of = content["of"].strip("'\"") if content else ""
        if content and not of:
            return f"it keeps no text, so that whatever it finds has no {told.key}, and nothing is ever taken out of it"
        if content:
            return f"it reads its text from {of}, whose columns and keys are others, so that questions, or changes of {told.table}, fail"
        return self._why_not_kept(told, found)

    def _is_usable(self, told: TextIndex, found: Mapping[str, str]) -> bool:
        """Whether it finds every row all the same: it has as many entries as there are rows, and what it does not follow fails."""
        if told.gathered or not self._has_its_columns(told, found):
            return False
        wanted, bodies = self._plain_bodies(told), self._bodies(told, found)
        refused = _TAKEN_OUT.format(own=told.own_table.lower())
        if any(
            bodies.get(verb, "") != wanted[verb] and refused not in bodies.get(verb, "") for verb in wanted
        ):
            return False
        entries, table = ident(f"{told.own_table}_docsize"), self._table(told.table)
        sql = f"select (select count(*) from {entries}) = (select count(*) from {table})"  # noqa: S608 - names are quoted
        return self._fetch(sql, {}) == [(1,)]

    def _has_its_columns(self, told: TextIndex, found: Mapping[str, str]) -> bool:
        return _plain(found[told.own_table.lower()]) == _plain(self._definition(told)[told.own_table])

    def _follows_plainly(self, told: TextIndex, found: Mapping[str, str]) -> bool:
        """Whether its triggers are the plain ones that an app would write by hand: sound, but slow."""
        if told.gathered or not self._has_its_columns(told, found):
            return False
        wanted = self._plain_bodies(told)
        return len(found) == 1 + len(wanted) and self._bodies(told, found) == wanted

    def _plain_bodies(self, told: TextIndex) -> dict[str, str]:
        """Return what such triggers do, by what they follow."""
        own, names = told.own_table.lower(), self._own_columns(told)
        values = ", ".join(f"new.{told.id if name == told.key else name}" for name in names)
        put = f"insert into {own} ({', '.join(names)}) values ({values});"  # noqa: S608 - compared, never run
        taken = f"delete from {own} where {told.key} = old.{told.id};"  # noqa: S608 - as above
        return {"insert": _plain(put), "delete": _plain(taken), "update": _plain(f"{taken} {put}")}

    @staticmethod
    def _bodies(told: TextIndex, found: Mapping[str, str]) -> dict[str, str]:
        """Return what the triggers of the table do, but for those that leave out changes of what is searched."""
        bodies = {}
        for one in (re.fullmatch(_TRIGGER, _plain(sql)) for sql in found.values()):
            watched = {name.strip() for name in one["of"].split(",")} if one and one["of"] else set[str]()
            whole = not watched or {name.lower() for name in told.columns} <= watched
            if one and one["table"] == told.table.lower() and whole:
                bodies[one["verb"]] = one["body"].strip("; ")
        return bodies

    def _why_not_kept(self, told: TextIndex, found: Mapping[str, str]) -> str:
        own, by_key = told.own_table.lower(), self._key_index(told).lower()
        wanted = {name.lower(): _plain(text) for name, text in self._definition(told).items()}
        kept = {name: _plain(text) for name, text in found.items()}
        if kept.pop(own) != wanted.pop(own):
            return "its columns are others"
        if any(_TAKEN_OUT.format(own=own) in sql for sql in kept.values()):
            return (
                f"its triggers give it a command that it does not take, so that changes of {told.table} fail"
            )
        if kept.pop(by_key, "") != wanted.pop(by_key):
            return f"it has no index by {told.key}, so that each change of a row reads all of it"
        if kept != wanted:
            return "its triggers are others, so that it does not follow every change"
        return ""

    # How it should be ------------------------------------------------------------------------------------------

    def _definition(self, told: TextIndex) -> dict[str, str]:
        """Return the statements that make the index's table, its key and its triggers, by name."""
        unsearched = {told.key, *told.beside}
        parts = [ident(name) + " unindexed" * (name in unsearched) for name in self._own_columns(told)]
        parts += ["tokenize = '" + told.tokenize.replace("'", "''") + "'"] if told.tokenize else []
        made = {
            told.own_table: f"create virtual table {ident(told.own_table)} using fts5({', '.join(parts)})"
        }
        # FTS5 finds a row by its number and its words alone; a row of the table has no number that stays
        name = self._key_index(told)
        made[name] = f"create index {ident(name)} on {self._content_of(told)} ({self._key_column(told)})"
        for table, event, body in self._reactions(told):
            words = {"index": told.own_table.lower(), "table": table.lower()}
            name = told.triggers.format(**words, event=event, verb=_VERBS[event])
            head = f"create trigger {ident(name)} {_EVENTS[event]} on {ident(table)}"
            made[name] = f"{head} begin {body} end"
        return made

    @staticmethod
    def _own_columns(told: TextIndex) -> list[str]:
        """Return the columns of the index's own table."""
        names = [told.key, *told.columns, *told.beside, *(one.name for one in told.gathered)]
        return sorted(names, key=told.order.index) if told.order else names

    def _key_column(self, told: TextIndex) -> str:
        """Return what FTS5 calls the column of the key in the table that keeps the text."""
        return COLUMN.format(place=self._own_columns(told).index(told.key))

    @staticmethod
    def _key_index(told: TextIndex) -> str:
        return f"{told.own_table}_{told.key}"

    @staticmethod
    def _content_of(told: TextIndex) -> str:
        return ident(CONTENT.format(index=told.own_table))

    def _reactions(self, told: TextIndex) -> Iterator[tuple[str, str, str]]:
        """Yield after what on which table the index has to change, and how."""
        own, key = ident(told.own_table), f"{ident(told.own_table)}.{ident(told.key)}"
        numbers = f"rowid in (select {NUMBER} from {self._content_of(told)} where {self._key_column(told)}"  # noqa: S608 - names are quoted
        taken = f"delete from {own} where {numbers} = old.{ident(told.id)});"  # noqa: S608 - as above
        put = f"{self._filling(told)} where s.{ident(told.id)} = new.{ident(told.id)};"
        yield told.table, "ai", put
        yield told.table, "au", f"{taken} {put}"
        yield told.table, "ad", taken
        for one in told.gathered:
            start, first = key, ident(one.path[0].column)
            if one.path[0].column != told.id:
                start = f"(select s.{first} from {ident(told.table)} s where s.{ident(told.id)} = {key})"  # noqa: S608 - as above
            for at, link in enumerate(one.path):
                for event, rows in (("ai", ["new"]), ("au", ["old", "new"]), ("ad", ["old"])):
                    parts = [
                        f"update {own} set {ident(one.name)} = {self._gathering(one, start)}"  # noqa: S608 - as above
                        f" where {numbers} in ({self._reached(told, one, at, row)}));"
                        for row in rows
                    ]
                    yield link.table, event, " ".join(parts)

    def _filling(self, told: TextIndex) -> str:
        """Return the statement that puts rows into the index; what follows narrows them as rows of ``s``."""
        values = {told.key: f"s.{ident(told.id)}", **self._values(told)}
        names = self._own_columns(told)
        into = f"insert into {ident(told.own_table)} ({', '.join(map(ident, names))})"
        return f"{into} select {', '.join(values[name] for name in names)} from {ident(told.table)} s"  # noqa: S608 - as above

    def _values(self, told: TextIndex) -> dict[str, str]:
        """Return SQL for what each column but the key holds, of a row of ``s``."""
        values = {name: f"s.{ident(name)}" for name in (*told.columns, *told.beside)}
        values |= {name: _BLOCKS.format(values[name]) for name in told.blocks}
        return values | {
            one.name: self._gathering(one, f"s.{ident(one.path[0].column)}") for one in told.gathered
        }

    @staticmethod
    def _gathering(one: Gathered, start: str) -> str:
        """Return SQL for the text that belongs to the row whose first link's column is ``start``, in one order."""
        tables, tests, before = [], [], start
        for at, link in enumerate(one.path):
            tables.append(f"{ident(link.table)} l{at}")
            tests.append(f"l{at}.{ident(link.to)} = {before}")
            if at + 1 < len(one.path):
                before = f"l{at}.{ident(one.path[at + 1].column)}"
        value = f"l{len(one.path) - 1}.{ident(one.column)}"
        inner = f"select {value} as v from {', '.join(tables)} where {' and '.join(tests)} order by 1"  # noqa: S608 - as above
        return f"(select coalesce(group_concat(v, ' '), '') from ({inner}))"  # noqa: S608 - as above

    @staticmethod
    def _reached(told: TextIndex, one: Gathered, at: int, row: str) -> str:
        """Return SQL for the ids of the rows whose path leads over ``row`` of its link ``at``."""
        tables, tests, before = [f"{ident(told.table)} s"], [], "s"
        for number, link in enumerate(one.path[:at]):
            tables.append(f"{ident(link.table)} l{number}")
            tests.append(f"l{number}.{ident(link.to)} = {before}.{ident(link.column)}")
            before = f"l{number}"
        tests.append(f"{before}.{ident(one.path[at].column)} = {row}.{ident(one.path[at].to)}")
        return f"select s.{ident(told.id)} from {', '.join(tables)} where {' and '.join(tests)}"  # noqa: S608 - as above

    # Looking for words -----------------------------------------------------------------------------------------

    def text_index_use(self, told: TextIndex, query: TextQuery) -> IndexUse:
        return "find" if _expression(told, query) else "none"

    def _ranking(self, statement: Statement, told: TextIndex, query: TextQuery) -> Ranking:
        own = ident(told.own_table)
        link = f"t0.{ident(told.id)} = {own}.{ident(told.key)}"
        columns = " ".join(map(ident, told.columns))
        wanted = f"{{{columns}}} : ({_expression(told, query)})"
        return Ranking(
            source=f"{own} join {self._table(told.table)} t0 on {link}",
            test=f"{own} match {statement.bind(wanted)}",
            score=f"-bm25({own})",
        )

    # Whether it agrees with its rows ---------------------------------------------------------------------------

    def text_index_faults(self, told: TextIndex) -> Sequence[IndexFault]:
        own, key = ident(told.own_table), f"f.{ident(told.key)}"
        source, id_ = self._table(told.table), f"s.{ident(told.id)}"
        differ = " or ".join(
            f"(f.{ident(name)} is not {value}"
            # Plain triggers put the text as it is.
            + (f" and f.{ident(name)} is not s.{ident(name)}" if name in told.blocks else "")
            + ")"
            for name, value in self._values(told).items()
        )
        asked = {
            "missing": f"select {id_} as i from {source} s where {id_} not in (select {key} from {own} f where {key} is not null)",  # noqa: S608 - as above
            "stray": f"select coalesce({key}, '(no id)') as i from {own} f where {key} is null or {key} not in (select {id_} from {source} s)",  # noqa: S608 - as above
            "duplicate": f"select {key} as i from {own} f where {key} is not null group by {key} having count(*) > 1",  # noqa: S608 - as above
            "stale": f"select {id_} as i from {own} f join {source} s on {id_} = {key} where {differ}",  # noqa: S608 - as above
        }
        found = []
        for kind, sql in asked.items():
            ((number, example),) = self._fetch(f"select count(*), min(q.i) from ({sql}) q", {})  # noqa: S608 - as above
            if number:
                found.append(IndexFault(kind=kind, number=int(str(number)), example=str(example)))  # type: ignore[arg-type]
        return found


def _expression(told: TextIndex, query: TextQuery) -> str:
    from dbctl.engines.sqlite.fulltext.fts5_query import FTS5Query

    return FTS5Query(told).write(query)


def _plain(sql: str) -> str:
    """Return a statement as two spellings of the same are compared."""
    bare = re.sub(_QUOTED, r"\1", sql)
    return " ".join(re.sub(_SIGNS, r" \g<0> ", bare).split()).strip("; ").lower()
