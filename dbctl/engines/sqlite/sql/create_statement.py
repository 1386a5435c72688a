"""Parse CREATE statements for the parts of a schema that no pragma of SQLite returns."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise

from dbctl.engines.parsing.statements import Word, WordReader
from dbctl.engines.sqlite.sql.lexer import LEXER
from dbctl.engines.sqlite.sql.normalize import Words, join_words, read_normal_words
from dbctl.model import Struct

#: First words of table constraints in CREATE TABLE.
_CONSTRAINTS = frozenset({"constraint", "primary", "unique", "check", "foreign"})
_TRIGGER_TIMES = frozenset({"before", "after", "instead"})


class ColumnText(Struct, frozen=True, kw_only=True):
    """Properties of a column that only the CREATE statement contains."""

    collation: str = ""
    generated: str = ""


class TableText(Struct, frozen=True, kw_only=True):
    """Properties of a table that only the CREATE statement contains; ``columns`` are in its order."""

    columns: Sequence[ColumnText]
    checks: Sequence[str]
    options: Sequence[str]
    #: columns of the foreign keys that are checked at the end of the transaction
    deferred: frozenset[tuple[str, ...]]


class IndexText(Struct, frozen=True, kw_only=True):
    """The terms of an index, without collation and direction, and its condition."""

    terms: Sequence[str]
    where: str


def parse_table(sql: str, names: Collection[str]) -> TableText:
    """Parse a CREATE TABLE statement."""
    tokens = read_normal_words(sql, names)
    opening = tokens.index(Word("sign", "("))
    closing = _find_closing(tokens, opening)
    elements = [_TableElement(element) for element in _split_at_commas(tokens[opening + 1 : closing])]
    columns = [element for element in elements if element.is_column]
    for element in elements:
        element.parse()
    options = {join_words(option) for option in _split_at_commas(tokens[closing + 1 :])} - {""}
    return TableText(
        columns=[ColumnText(collation=element.collation, generated=element.generated) for element in columns],
        checks=sorted(check for element in elements for check in element.checks),
        options=sorted(options.union(*(element.options for element in elements))),
        deferred=frozenset(keys for element in elements for keys in element.deferred),
    )


def parse_index(sql: str, names: Collection[str]) -> IndexText:
    """Parse a CREATE INDEX statement."""
    tokens = read_normal_words(sql, names)
    opening = tokens.index(Word("sign", "("), tokens.index(Word("word", "on")))
    closing = _find_closing(tokens, opening)
    terms = []
    for part in _split_at_commas(tokens[opening + 1 : closing]):
        term = list(part)
        if term[-1] in (Word("word", "asc"), Word("word", "desc")):
            term.pop()
        if Word("word", "collate") in term[-2:-1]:
            del term[-2:]
        terms.append(join_words(term))
    return IndexText(terms=terms, where=join_words(tokens[closing + 2 :]))


def normalize_trigger(sql: str, names: Collection[str]) -> str:
    """Return the event and body of a trigger in normal form, with defaults made explicit."""
    tokens = _skip_name(read_normal_words(sql, names), "trigger")
    text = re.sub(r"^([^']*?) for each row\b", r"\1", join_words(tokens))
    return text if tokens[0].text in _TRIGGER_TIMES else f"before {text}"


def normalize_view(sql: str, names: Collection[str]) -> str:
    """Return the query of a view in normal form."""
    return join_words(_skip_name(read_normal_words(sql, names), "view"))


def normalize_virtual_table(sql: str) -> str:
    """Return what follows the name of a virtual table: ``using fts5(…)``.

    Case and blanks are normalized; quotes are not, because their meaning depends on the module.
    """
    tokens = LEXER.read_significant(sql)
    name = next(index for index, token in enumerate(tokens) if token.text.lower() == "table") + 1
    text = ""
    for previous, token in pairwise(tokens[name:]):
        word = token.text.lower() if token.kind == "word" else token.text
        is_separated = previous.start + len(previous.text) < token.start and "sign" not in (
            previous.kind,
            token.kind,
        )
        text += f" {word}" if text and (is_separated or previous.text == ",") else word
    return text


class _TableElement:
    """One column or one constraint of a CREATE TABLE statement."""

    def __init__(self, tokens: Words) -> None:
        self._tokens = tokens
        self.is_column = not (tokens[0].kind == "word" and tokens[0].text in _CONSTRAINTS)
        self.collation = self.generated = ""
        self.checks, self.options = list[str](), set[str]()
        self.deferred = list[tuple[str, ...]]()

    def parse(self) -> None:
        tokens, keys = self._tokens, tuple[str, ...]()
        position = 0
        if self.is_column:
            keys, position = (tokens[0].text.strip("'\"").lower(),), 1
        while position < len(tokens):
            word = tokens[position].text if tokens[position].kind == "word" else ""
            group = self._read_group(position + 1)
            if word == "check" and group:
                self.checks.append(join_words(group))
            elif word == "as" and group:
                kind = (
                    tokens[position + len(group) + 3].text if position + len(group) + 3 < len(tokens) else ""
                )
                self.generated = f"{join_words(group)} {'stored' if kind == 'stored' else 'virtual'}"
            elif word == "collate":
                self.collation = tokens[position + 1].text.strip("'\"").upper()
            elif word == "autoincrement":
                self.options.add(word)
            elif word == "conflict":
                location = (
                    f"{keys[0]} {tokens[position - 2].text}"
                    if self.is_column
                    else join_words(tokens[: position - 1])
                )
                self.options.add(f"{location} on conflict {tokens[position + 1].text}")
            elif word == "key" and group and tokens[position - 1].text == "foreign":
                keys = tuple(token.text.strip("'\"").lower() for token in group if token.kind != "sign")
            elif word == "deferred" and not self._is_negated(position):
                self.deferred.append(keys)
            position += 1 if tokens[position].text != "(" else len(self._read_group(position)) + 2

    def _read_group(self, position: int) -> Words:
        """Return the tokens in the parentheses that open at ``position``; empty without parentheses."""
        if position >= len(self._tokens) or self._tokens[position] != Word("sign", "("):
            return ()
        return self._tokens[position + 1 : _find_closing(self._tokens, position)]

    def _is_negated(self, position: int) -> bool:
        return [token.text for token in self._tokens[position - 3 : position - 1]] == ["not", "deferrable"]


def _skip_name(tokens: Words, kind: str) -> Words:
    """Return the tokens after the name in CREATE … ``kind`` name."""
    start = tokens.index(Word("word", kind)) + 2
    return tokens[start + 2 :] if tokens[start : start + 1] == [Word("sign", ".")] else tokens[start:]


def _find_closing(tokens: Words, opening: int) -> int:
    depth = 0
    for index in range(opening, len(tokens)):
        if tokens[index].kind == "sign":
            depth += {"(": 1, ")": -1}.get(tokens[index].text, 0)
        if not depth:
            return index
    return len(tokens)


def _split_at_commas(words: Words) -> list[Words]:
    return [reader.words for reader in WordReader(words).split_at_commas()]
