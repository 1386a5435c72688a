"""Search through full-text indexes in SQLite with FTS5 expressions; compare the indexes with their rows, create and drop them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract.database import Condition, Where
from dbctl.engines.contract.fulltext import (
    UNSPACED,
    IndexFault,
    IndexState,
    IndexUse,
    TextAnd,
    TextIndexSpec,
    TextNear,
    TextNot,
    TextOr,
    TextQuery,
    TextTerm,
)
from dbctl.engines.sql.catalog import Statement, ident, is_storable
from dbctl.engines.sql.fulltext import RankedSearch, Ranking
from dbctl.engines.sqlite.fulltext_index import StoredTextIndex, TextIndexDefinition
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.databases import TextIndexForeignError
from dbctl.model import now

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteWriter


#: Tokenizers that split text at every character except letters and digits, so the index contains each word.
_WORD_TOKENIZERS = r"(porter(\s+|$))?(unicode61(\s+remove_diacritics\s+[012])?)?"
#: JSON writes line breaks and the like as a backslash and one of these letters, which an index of raw JSON joins to the next word.
_ESCAPES = ("", "n", "t", "r", "b", "f")


class FTS5Query:
    """Builder of query expressions for one index."""

    def __init__(self, spec: TextIndexSpec) -> None:
        self._splits_words = re.fullmatch(_WORD_TOKENIZERS, spec.tokenizer.strip()) is not None
        self._stems = spec.tokenizer.startswith("porter")
        self._prefixes = _ESCAPES if spec.block_columns else ("",)

    def write(self, query: TextQuery) -> str:
        """Return an expression for MATCH; empty if no expression matches every row of the query."""
        if not self._splits_words:
            return ""
        match query:
            case TextTerm():
                return self._term(query)
            case TextNear():  # the caller counts the words between its terms
                return " AND ".join(part for part in map(self._term, query.terms) if part)
            case TextAnd():
                return " AND ".join(part for part in map(self.write, query.queries) if part)
            case TextOr():
                parts = [self.write(part) for part in query.queries]
                return f"({' OR '.join(f'({part})' for part in parts)})" if all(parts) else ""
            case TextNot():  # the index may also match rows with another spelling
                return ""

    def _term(self, term: TextTerm) -> str:
        # The beginning of a word may have another stem than the word.
        if term.match == "part" or (term.match == "prefix" and self._stems):
            return ""
        # The index contains a run of such letters as one word.
        if any(re.match(UNSPACED, sign) for sign in (term.words[0][0], term.words[-1][-1])):
            return ""
        if len(self._prefixes) == 1:
            return self._phrase(" ".join(term.words), prefix=term.match == "prefix")
        phrases = []
        for position, word in enumerate(term.words, 1):
            prefix = term.match == "prefix" and position == len(term.words)
            words = [self._phrase(sign + word, prefix=prefix) for sign in self._prefixes]
            phrases += [f"({' OR '.join(words)})"] if all(words) else []
        return " AND ".join(phrases)

    @staticmethod
    def _phrase(text: str, *, prefix: bool) -> str:
        if not (is_storable(text) and any(map(str.isalnum, text)) and _is_known(text)):
            return ""
        return '"' + text.replace('"', '""') + '"' + "*" * prefix


def _is_known(text: str) -> bool:
    """Whether FTS5 splits and folds a text as Python does: its tables are those of Unicode 6.1."""
    if text.isascii():
        return True
    from unicodedata import ucd_3_2_0

    cases = {case for sign in text for case in (sign, *sign.lower(), *sign.upper())}
    return all(ucd_3_2_0.category(sign) not in ("Cn", "Co") for sign in cases)


SLOW = "each change of a row scans the whole index"
#: A word that no text contains.
PROBE = "zqxdbctlprobe"


class SQLiteFullText(RankedSearch):
    @property
    def _writer(self) -> SQLiteWriter:
        return cast("SQLiteWriter", self._db)

    def text_index_state(self, spec: TextIndexSpec) -> IndexState:
        stored, name = StoredTextIndex(self._connection, spec), spec.index_table
        if not stored.exists:
            return IndexState(name=name, state="missing")
        reason = stored.damage_reason()
        if not reason:
            return IndexState(name=name, state="valid")
        if stored.has_plain_triggers():
            return IndexState(name=name, state="valid", reason=SLOW)
        if stored.is_foreign:
            return IndexState(name=name, state="broken", reason=reason, is_foreign=True)
        usable = stored.can_find_every_row() and self._has_every_row(spec)
        return IndexState(name=name, state="broken", reason=reason, usable=usable)

    def _has_every_row(self, spec: TextIndexSpec) -> bool:
        """Whether the index has as many entries as its table has rows."""
        entries, table = ident(f"{spec.index_table}_docsize"), self._catalog.quote_table(spec.table)
        sql = f"select (select count(*) from {entries}) = (select count(*) from {table})"
        return self._connection.fetch(sql) == [(1,)]

    def text_index_use(self, spec: TextIndexSpec, query: TextQuery) -> IndexUse:
        return "find" if _build_match(spec, query) else "none"

    def _build_ranking(self, statement: Statement, spec: TextIndexSpec, query: TextQuery) -> Ranking:
        table_name = ident(spec.index_table)
        link = f"t0.{ident(spec.id)} = {table_name}.{ident(spec.key)}"
        columns = " ".join(map(ident, spec.columns))
        match = f"{{{columns}}} : ({_build_match(spec, query)})"
        return Ranking(
            source=f"{table_name} join {self._catalog.quote_table(spec.table)} t0 on {link}",
            test=f"{table_name} match {statement.bind(match)}",
            score=f"-bm25({table_name})",
        )

    def find_text_index_faults(self, spec: TextIndexSpec) -> Sequence[IndexFault]:
        table_name, key = ident(spec.index_table), f"f.{ident(spec.key)}"
        source, id_ = self._catalog.quote_table(spec.table), f"s.{ident(spec.id)}"
        differences = " or ".join(
            f"(f.{ident(name)} is not {value}"
            # Simple triggers insert the text unchanged.
            + (f" and f.{ident(name)} is not s.{ident(name)}" if name in spec.block_columns else "")
            + ")"
            for name, value in TextIndexDefinition(spec).column_values().items()
        )
        queries = {
            "missing": f"select {id_} as i from {source} s where {id_} not in (select {key} from {table_name} f where {key} is not null)",
            "stray": f"select coalesce({key}, '(no id)') as i from {table_name} f where {key} is null or {key} not in (select {id_} from {source} s)",
            "duplicate": f"select {key} as i from {table_name} f where {key} is not null group by {key} having count(*) > 1",
            "stale": f"select {id_} as i from {table_name} f join {source} s on {id_} = {key} where {differences}",
        }
        faults = []
        for kind, sql in queries.items():
            ((count, example),) = self._connection.fetch(f"select count(*), min(q.i) from ({sql}) q")
            if count:
                faults.append(IndexFault(kind=kind, count=int(str(count)), example=str(example)))  # type: ignore[arg-type]
        return faults

    def text_index_drop_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        stored = StoredTextIndex(self._connection, spec)
        if stored.is_foreign:
            raise TextIndexForeignError(target=self._catalog.target, name=spec.index_table)
        database = self._writer.connection.database
        names = [("trigger", trigger.name) for trigger in database.triggers]
        names += [("table", table) for table in database.table_names()]
        return {
            f"drop {kind} {name}": f"drop {kind} {ident(name)}"
            for kind, name in names
            if stored.contains(name)
        }

    def text_index_create_statements(self, spec: TextIndexSpec) -> Mapping[str, str]:
        definition = TextIndexDefinition(spec)
        statements = definition.statements()
        table_name = spec.index_table
        steps = {
            f"create table {table_name} (FTS5)": statements.pop(table_name),
            f"fill {table_name} from {spec.table}": definition.fill_statement(),
        }
        steps[f"create index {definition.key_index}"] = statements.pop(definition.key_index)
        return steps | {f"create trigger {name}": sql for name, sql in statements.items()}

    def mark_text_index(self, spec: TextIndexSpec) -> None:
        mark = spec.marker
        if mark is None:
            return
        if mark.table not in self._catalog.tables():
            self._writer.connection.database.create_table(
                mark.table, {mark.key: str, mark.value: str}, pk=mark.key
            )
            self._writer.catalog.forget_changed()
        if not self._db.count(mark.table, [Condition(mark.key, "=", mark.name)]):
            timestamp = f"{now():%Y-%m-%dT%H:%M:%S.000Z}"
            self._writer.insert(mark.table, {mark.key: mark.name, mark.value: timestamp})

    def probe_text_index(self, spec: TextIndexSpec) -> None:
        columns = [column.name for column in self._catalog.require_table(spec.table).columns.values()]
        rows = self._db.select(spec.table, columns, limit=1)
        if not rows:
            return
        row = dict(zip(columns, rows[0], strict=True))
        condition: list[Where] = [Condition(spec.id, "=", row[spec.id])]
        text = f"{row[spec.columns[0]]} {PROBE}"
        self._writer.connection.run("savepoint probe")
        try:
            self._writer.update(spec.table, {spec.columns[0]: text}, condition)
            self._require_match_count(spec, 1, "a changed row is not found")
            self._writer.delete(spec.table, condition)
            self._require_match_count(spec, 0, "a deleted row is still found")
            self._writer.insert(spec.table, {**row, spec.columns[0]: text})
            self._require_match_count(spec, 1, "a new row is not found")
        finally:
            self._writer.connection.run("rollback to probe")
            self._writer.connection.run("release probe")

    def _require_match_count(self, spec: TextIndexSpec, count: int, reason: str) -> None:
        table_name = ident(spec.index_table)
        rows = self._connection.fetch(
            f"select count(*) from {table_name} where {table_name} match :word", {"word": PROBE}
        )
        if rows != [(count,)]:
            raise QueryFailedError(target=self._catalog.target, reason=f"{spec.index_table}: {reason}")


def _build_match(spec: TextIndexSpec, query: TextQuery) -> str:
    return FTS5Query(spec).write(query)
