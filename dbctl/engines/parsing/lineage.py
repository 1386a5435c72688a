"""The table columns that each column of a view is computed from, and statements without their values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from dbctl.engines.parsing.lexer import Lexer

if TYPE_CHECKING:
    from sqlglot import Dialect, exp
    from sqlglot.lineage import Node


#: A column of a base table; both names in lower case.
Source: TypeAlias = tuple[str, str]
#: The sources of each column of a view; None: they cannot be determined.
Sources: TypeAlias = Mapping[str, Collection[Source] | None]


def find_dependent_views(queries: Mapping[str, str], tables: Collection[str]) -> dict[str, str]:
    """Return the views that refer to one of ``tables``, directly or through views, and views whose text is unknown."""
    words = {view: list_words(text) for view, text in queries.items()}
    names = [list_words(table) for table in tables]
    dependent_views: dict[str, str] = {}
    while added := {
        view: queries[view]
        for view in queries.keys() - dependent_views.keys()
        if not queries[view] or any(map(words[view].issuperset, names))
    }:
        dependent_views |= added
        names = [list_words(view) for view in added]
    return dependent_views


def trace_sources(
    queries: Mapping[str, str], tables: Mapping[str, Collection[str]], dialect: str
) -> dict[str, Sources]:
    """Return the sources of the columns of these views, each given as ``create view`` or as its query; empty if unknown.

    ``tables`` has the columns of each table and view, and ``dialect`` is the name of the SQL dialect in sqlglot. A
    number of values, whether there is one, and its length have no sources: they do not show a value.
    """
    import sqlglot  # a missing package must not look like SQL that cannot be parsed

    parent = type(sqlglot.Dialect.get_or_raise(dialect))
    # Double quotes enclose names also in the sessions of dbctl on MySQL.
    quotes = {
        "QUOTES": [quote for quote in parent.tokenizer_class.QUOTES if quote != '"'],
        "IDENTIFIERS": [*parent.tokenizer_class.IDENTIFIERS, '"'],
    }
    tokenizer = type("Tokenizer", (parent.tokenizer_class,), quotes)
    lineage = _Lineage(queries, tables, type("QuotedNames", (parent,), {"Tokenizer": tokenizer}))
    for view in queries:
        lineage.resolve(view)
    return lineage.known


def list_words(text: str) -> set[str]:
    """Return the words of a statement, or of a name: a statement has all words of each name that it uses."""
    return set(re.findall(r"\w+", text.lower()))


class _Lineage:
    def __init__(
        self, queries: Mapping[str, str], tables: Mapping[str, Collection[str]], dialect: str | type[Dialect]
    ) -> None:
        self._queries, self._tables, self._dialect = queries, tables, dialect
        self._views = {view.lower(): view for view in queries}
        self._words = {name: list_words(name) for name in (*queries, *tables)}
        self.known: dict[str, Sources] = {}

    def resolve(self, view: str) -> None:
        """Resolve a view, the views that it reads first."""
        if view in self.known:
            return
        columns = list(self._tables.get(view, ()))
        self.known[view] = dict.fromkeys(columns)  # also ends a cycle of views
        words = list_words(self._queries[view])
        for other in self._queries:
            if words.issuperset(self._words[other]):
                self.resolve(other)
        with suppress(Exception):  # a parser of foreign SQL may raise anything; unknown is the safe result
            self.known[view] = self._sources(columns, self._queries[view], words)

    def _sources(self, columns: list[str], text: str, words: set[str]) -> Sources:
        from sqlglot import exp, parse_one
        from sqlglot.lineage import lineage
        from sqlglot.optimizer.qualify import qualify

        query = parse_one(text, dialect=self._dialect)
        if isinstance(query, exp.Create):
            query = query.expression
        query = query.transform(_simplify)
        if not isinstance(query, exp.Query):
            return dict.fromkeys(columns)
        schema: dict[str, object] = {
            name.lower(): dict.fromkeys(map(str.lower, columns), "text")
            for name, columns in self._tables.items()
            if words.issuperset(self._words[name])
        }
        qualify(query, schema=schema, dialect=self._dialect, validate_qualify_columns=False)
        selects = query.selects
        if len(selects) != len(columns):
            return dict.fromkeys(columns)
        # names in a result may be equal
        names = [f"column_{position}" for position in range(len(columns))]
        for select, name in zip(selects, names, strict=True):
            select.set("alias", exp.to_identifier(name))
        result: dict[str, Collection[Source] | None] = {}
        for column, name in zip(columns, names, strict=True):
            node = lineage(name, query, schema=schema, dialect=self._dialect)
            result[column] = self._merge_sources(list(node.walk()))
        return result

    def _merge_sources(self, nodes: Sequence[Node]) -> Collection[Source] | None:
        """Return the sources of columns of tables and of resolved views."""
        from sqlglot import exp

        leaves = [(node.name, node.source) for node in nodes if isinstance(node.source, exp.Table)]
        names = {name for name, _ in leaves}
        for node in nodes:
            # a column of a function or a subquery, such as of unnest, unless it is the reference of a recursive query to itself
            if isinstance(node.source, exp.Placeholder) and node.name not in names:
                return None
            if node.expression.find(exp.Star, exp.TableColumn):  # a row as one value, such as row_to_json(u)
                return None
        sources: set[Source] = set()
        for name, leaf in leaves:
            table, column = leaf.name.lower(), exp.to_column(name, dialect=self._dialect).name.lower()
            if table not in self._views:
                sources.add((table, column))
                continue
            known = {name.lower(): each for name, each in self.known[self._views[table]].items()}.get(column)
            if known is None:
                return None
            sources.update(known)
        return sources


def _simplify(node: exp.Expr) -> exp.Expr:
    """Return a name in lower case, a constant in place of what shows no value, such as ``count(value)``, or the expression itself.

    sqlglot finds a name of the schema that has upper-case letters in some dialects only.
    """
    from sqlglot import exp

    if isinstance(node, exp.Identifier):
        return exp.to_identifier(node.name.lower(), quoted=True)
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        return exp.true()
    return exp.Literal.number(1) if isinstance(node, exp.Count | exp.Length) else node


#: Maximum length of a displayed statement.
MAX_CHARACTERS = 120
#: Several placeholders of one value: a text with a quote, or a number with a fraction.
_VALUE = re.compile(r"\?(?:\.?\?)+")


def redact_statement(sql: str, lexer: Lexer, quotes: str = "'") -> str:
    """Return a statement on one line, shortened, without comments, with ``?`` for every text and number.

    Servers truncate long statements, so a text may be unclosed. Whether a backslash escapes a quote depends on the
    session, so with a backslash nothing after the first of the ``quotes``, which begin a text, is shown.
    """
    is_cut = "\\" in sql
    if is_cut:
        sql = sql[: min((position for mark in quotes if (position := sql.find(mark)) >= 0), default=len(sql))]
    fragments = []
    for token in lexer.tokenize(sql):
        if token.kind == "text" or token.text[0] in quotes or token.text[0].isdigit():
            fragments.append("?")
        elif token.kind in ("space", "comment"):
            fragments.append(" ")
        else:
            fragments.append(token.text)
    line = " ".join(_VALUE.sub("?", "".join(fragments)).split())
    return line if len(line) < MAX_CHARACTERS and not is_cut else f"{line[: MAX_CHARACTERS - 1]}…"
