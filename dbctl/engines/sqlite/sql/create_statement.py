"""CREATE statements taken apart, for what no pragma of SQLite tells of a schema."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from dbctl.engines.sqlite.sql.normalize import TOKEN, Token, Tokens, joined, tokens
from dbctl.model import Value

#: What begins a part of CREATE TABLE that is no column.
_CONSTRAINTS = frozenset({"constraint", "primary", "unique", "check", "foreign"})
_TIMES = frozenset({"before", "after", "instead"})


class ColumnText(Value, frozen=True, kw_only=True):
    """What only the text tells of a column."""

    collation: str = ""
    generated: str = ""


class TableText(Value, frozen=True, kw_only=True):
    """What only the text tells of a table; ``columns`` are in its order."""

    columns: Sequence[ColumnText]
    checks: Sequence[str]
    options: Sequence[str]
    deferred: frozenset[
        tuple[str, ...]
    ]  #: the columns of foreign keys that wait for the end of the transaction


class IndexText(Value, frozen=True, kw_only=True):
    """What only the text tells of an index: its terms, without collation and direction, and its condition."""

    terms: Sequence[str]
    where: str


def table_text(sql: str, names: Collection[str]) -> TableText:
    """Take a CREATE TABLE apart."""
    read = tokens(sql, names)
    opening = read.index(Token("sign", "("))
    closing = _closing(read, opening)
    parts = [_Part(part) for part in _parted(read[opening + 1 : closing])]
    columns = [part for part in parts if part.column]
    for part in parts:
        part.read()
    options = {joined(option) for option in _parted(read[closing + 1 :])} - {""}
    return TableText(
        columns=[ColumnText(collation=part.collation, generated=part.generated) for part in columns],
        checks=sorted(check for part in parts for check in part.checks),
        options=sorted(options.union(*(part.options for part in parts))),
        deferred=frozenset(keys for part in parts for keys in part.deferred),
    )


def index_text(sql: str, names: Collection[str]) -> IndexText:
    """Take a CREATE INDEX apart."""
    read = tokens(sql, names)
    opening = read.index(Token("sign", "("), read.index(Token("word", "on")))
    closing = _closing(read, opening)
    terms = []
    for part in _parted(read[opening + 1 : closing]):
        term = list(part)
        if term[-1] in (Token("word", "asc"), Token("word", "desc")):
            term.pop()
        if Token("word", "collate") in term[-2:-1]:
            del term[-2:]
        terms.append(joined(term))
    return IndexText(terms=terms, where=joined(read[closing + 2 :]))


def trigger_text(sql: str, names: Collection[str]) -> str:
    """Return when a trigger fires and what it does, with what is meant where nothing is said."""
    read = _after(tokens(sql, names), "trigger")
    text = re.sub(r"^([^']*?) for each row\b", r"\1", joined(read))
    return text if read[0].text in _TIMES else f"before {text}"


def view_text(sql: str, names: Collection[str]) -> str:
    """Return what a view shows."""
    return joined(_after(tokens(sql, names), "view"))


def rest_of_table(sql: str) -> str:
    """Return what follows the name in a CREATE TABLE that nobody here can read further: ``using fts5(…)``.

    Cases and blanks are those of one spelling; quotes stay, for only the module knows what they mean.
    """
    told = [token for token in TOKEN.finditer(sql) if token.lastgroup != "space"]
    name = next(at for at, token in enumerate(told) if token.group().lower() == "table") + 1
    text = ""
    for before, token in pairwise(told[name:]):
        word = token.group().lower() if token.lastgroup == "word" else token.group()
        is_apart = before.end() < token.start() and "sign" not in (before.lastgroup, token.lastgroup)
        text += f" {word}" if text and (is_apart or before.group() == ",") else word
    return text


class _Part:
    """One column or one constraint of CREATE TABLE."""

    def __init__(self, told: Tokens) -> None:
        self._told = told
        self.column = not (told[0].kind == "word" and told[0].text in _CONSTRAINTS)
        self.collation = self.generated = ""
        self.checks, self.options = list[str](), set[str]()
        self.deferred = list[tuple[str, ...]]()

    def read(self) -> None:
        told, keys = self._told, tuple[str, ...]()
        at = 0
        if self.column:
            keys, at = (told[0].text.strip("'\"").lower(),), 1
        while at < len(told):
            word = told[at].text if told[at].kind == "word" else ""
            inner = self._group(at + 1)
            if word == "check" and inner:
                self.checks.append(joined(inner))
            elif word == "as" and inner:
                kind = told[at + len(inner) + 3].text if at + len(inner) + 3 < len(told) else ""
                self.generated = f"{joined(inner)} {'stored' if kind == 'stored' else 'virtual'}"
            elif word == "collate":
                self.collation = told[at + 1].text.strip("'\"").upper()
            elif word == "autoincrement":
                self.options.add(word)
            elif word == "conflict":
                place = f"{keys[0]} {told[at - 2].text}" if self.column else joined(told[: at - 1])
                self.options.add(f"{place} on conflict {told[at + 1].text}")
            elif word == "key" and inner and told[at - 1].text == "foreign":
                keys = tuple(token.text.strip("'\"").lower() for token in inner if token.kind != "sign")
            elif word == "deferred" and not self._negated(at):
                self.deferred.append(keys)
            at += 1 if told[at].text != "(" else len(self._group(at)) + 2

    def _group(self, at: int) -> Tokens:
        """Return what stands in the parentheses that open at ``at``; nothing where none do."""
        if at >= len(self._told) or self._told[at] != Token("sign", "("):
            return ()
        return self._told[at + 1 : _closing(self._told, at)]

    def _negated(self, at: int) -> bool:
        return [token.text for token in self._told[at - 3 : at - 1]] == ["not", "deferrable"]


def _after(read: Tokens, kind: str) -> Tokens:
    """Return what follows the name in CREATE … ``kind`` name."""
    at = read.index(Token("word", kind)) + 2
    return read[at + 2 :] if read[at : at + 1] == [Token("sign", ".")] else read[at:]


def _closing(read: Tokens, opening: int) -> int:
    depth = 0
    for at in range(opening, len(read)):
        if read[at].kind == "sign":
            depth += {"(": 1, ")": -1}.get(read[at].text, 0)
        if not depth:
            return at
    return len(read)


def _parted(read: Tokens) -> Iterator[Tokens]:
    """Part at the commas that stand in no parentheses."""
    begin = depth = 0
    for at, token in enumerate(read):
        if token.kind == "sign":
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            if token.text == "," and not depth:
                yield read[begin:at]
                begin = at + 1
    if begin < len(read):
        yield read[begin:]
