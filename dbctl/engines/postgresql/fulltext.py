"""Indexes of words in PostgreSQL: GIN over the words that a text search configuration sees in some columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dbctl.engines.contract import IndexFault, IndexState, IndexUse, TextIndex, TextQuery, positive_terms
from dbctl.engines.postgresql.explain import PostgreSQLPlans
from dbctl.engines.sql import RankedReader, Ranking, Statement, ident
from dbctl.errors import ValueInvalidError

INDEXES = """select i.relname, x.indisvalid and x.indisready, m.amname::text,
  coalesce(pg_catalog.pg_get_expr(x.indexprs, x.indrelid), ''), x.indpred is not null
from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
  join pg_catalog.pg_am m on m.oid = i.relam
where x.indrelid = cast(:table as regclass) order by i.relname"""
#: What the server writes into an expression beside what was typed.
_ADDED = re.compile(r"::(?:regconfig|text)|[()\s\"]")


class PostgreSQLFullText(RankedReader, PostgreSQLPlans):
    """Capability.FULL_TEXT, for readers and writers."""

    def text_index(self, told: TextIndex) -> IndexState:
        rows = self._fetch(INDEXES, {"table": self._table(told.table)})
        wanted = _bare(self._words_of(told, ""))
        for name, valid, method, expression, partial in rows:
            if method == "gin" and valid and not partial and _bare(str(expression)) == wanted:
                return IndexState(name=str(name), state="sound")
        for name, valid, *_ in rows:
            if name == told.index:
                reason = "it is over something else" if valid else "it is invalid: its making was cut off"
                return IndexState(name=told.index, state="broken", reason=reason)
        return IndexState(name=told.index, state="missing")

    def text_index_faults(self, told: TextIndex) -> Sequence[IndexFault]:  # noqa: ARG002 - as in the contract
        return ()  # the server changes index and row as one

    def text_index_use(self, told: TextIndex, query: TextQuery) -> IndexUse:  # noqa: ARG002 - as in the contract
        # The server's parser takes a/b, www.example.org, <tag> or -4 for one word each, and its dictionaries leave words
        # out, so that the index lacks words that a row holds.
        return "rank"

    def _ranking(self, statement: Statement, told: TextIndex, query: TextQuery) -> Ranking:
        configuration = _configuration(told)
        terms = [" ".join(term.pieces) for term in positive_terms(query)]
        asked = [f"phraseto_tsquery({configuration}, {statement.bind(text)})" for text in terms]
        words = f"({' || '.join(asked)})" if asked else "''::tsquery"
        return Ranking(
            source=f"{self._table(told.table)} t0",
            test="",
            score=f"ts_rank({self._words_of(told, 't0.')}, {words})::float8",
        )

    def _words_of(self, told: TextIndex, prefix: str) -> str:
        return f"to_tsvector({_configuration(told)}, {self._text_of(told, prefix)})"

    def _text_of(self, told: TextIndex, prefix: str) -> str:
        described = [self._described(told.table, name) for name in told.columns]
        names = [f"{prefix}{ident(column.name)}" for column in described]
        # An index over a column that may be NULL wants the rest of the row all the same.
        return " || ' ' || ".join(
            f"coalesce({name}, '')" if column.nullable else name
            for name, column in zip(names, described, strict=True)
        )


class PostgreSQLTextWriter(PostgreSQLFullText):
    """Capability.FULL_TEXT of a writer; the index itself is what the server keeps."""

    def text_index_drops(self, told: TextIndex) -> Mapping[str, str]:
        rows = self._fetch(INDEXES, {"table": self._table(told.table)})
        names = [str(row[0]) for row in rows if row[0] == told.index]
        return {f"drop index {name}": f"drop index {ident(name)}" for name in names}

    def text_index_makes(self, told: TextIndex) -> Mapping[str, str]:
        made = f"create index {ident(told.index)} on {self._table(told.table)} using gin ({self._words_of(told, '')})"
        return {f"make index {told.index} (GIN) on {told.table}; changes of it wait meanwhile": made}

    def mark_text_index(self, told: TextIndex) -> None:
        """Do nothing: an app that made an index here itself would find it by its name."""

    def probe_text_index(self, told: TextIndex) -> None:
        """Do nothing: the server changes index and row as one."""


def _bare(expression: str) -> str:
    """Return an expression as two spellings of the same are compared."""
    return _ADDED.sub("", expression).replace("COALESCE", "coalesce")


def _configuration(told: TextIndex) -> str:
    """Return the text search configuration as a constant, which an index can be found by."""
    if not (told.language.isidentifier() and told.language.isascii()):
        raise ValueInvalidError(what="language", value=repr(told.language), reason="it is one word")
    return f"'{told.language}'"
