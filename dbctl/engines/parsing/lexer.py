"""Lexer of SQL, which reads a table of token patterns of each dialect, and the translation of named parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

TokenKind: TypeAlias = Literal[
    "text", "name", "comment", "space", "word", "number", "parameter", "end", "sign"
]


class Token(NamedTuple):
    """One token of a statement; the joined tokens are the statement."""

    kind: TokenKind
    text: str
    start: int


class TokenPattern(NamedTuple):
    """One kind of token of a dialect."""

    kind: TokenKind
    pattern: str  #: its beginning, without capturing groups that have no name
    end: str = ""  #: closes the token; an unclosed one extends to the end of the text


class Lexer:
    def __init__(self, patterns: Sequence[TokenPattern], *, nests_comments: bool = False) -> None:
        """Use the first of ``patterns`` that matches; with ``nests_comments``, a comment may contain comments."""
        self._patterns, self._nests_comments = patterns, nests_comments
        self._kinds = {f"t{index}": pattern.kind for index, pattern in enumerate(patterns)}

    @cached_property  # a reading command compiles no regular expression on import
    def _token(self) -> re.Pattern[str]:
        groups = [
            f"(?P<t{index}>{pattern}" + (f"(?:{end}|\\Z))" if end else ")")
            for index, (_, pattern, end) in enumerate(self._patterns)
        ]
        return re.compile("|".join(groups), re.DOTALL)

    @cached_property
    def _closed_tokens(self) -> dict[TokenKind, re.Pattern[str]]:
        alternatives: dict[TokenKind, list[str]] = {}
        for kind, pattern, end in self._patterns:
            alternatives.setdefault(kind, []).append(f"(?:{pattern}){end}")
        endable = {kind for kind, _, end in self._patterns if end}
        return {kind: re.compile("|".join(alternatives[kind]), re.DOTALL) for kind in endable}

    def tokenize(self, sql: str) -> Iterator[Token]:
        """Split ``sql`` into tokens; each character belongs to one."""
        position = 0
        while match := self._token.match(sql, position):
            nests = self._nests_comments and match.group().startswith("/*")
            end = _find_comment_end(sql, position) if nests else match.end()
            yield Token(self._kinds[str(match.lastgroup)], sql[position:end], position)
            position = end

    def read_significant(self, sql: str) -> list[Token]:
        """Return the tokens of ``sql`` without space and comments."""
        return [token for token in self.tokenize(sql) if token.kind not in ("space", "comment")]

    def is_closed(self, token: Token) -> bool:
        """Whether a text, a quoted name or a comment is closed; other tokens always are."""
        if self._nests_comments and token.text.startswith("/*"):
            return token.text.count("/*") == token.text.count("*/")
        pattern = self._closed_tokens.get(token.kind)
        return pattern is None or pattern.fullmatch(token.text) is not None


def _find_comment_end(sql: str, start: int) -> int:
    """Return where a comment that may contain comments ends."""
    edges, depth, position = re.compile(r"/\*|\*/"), 0, start
    while edge := edges.search(sql, position):
        depth, position = depth + (1 if edge.group() == "/*" else -1), edge.end()
        if not depth:
            return position
    return len(sql)


class Fragment(NamedTuple):
    """Plain text, or a parameter with its operator."""

    text: str
    name: str = ""  #: of a parameter; empty for plain text
    #: "in" or "not in" before the parameter, which is part of the fragment, or "is" after it
    operator: str = ""


def split_parameters(tokens: Sequence[Token]) -> Sequence[Fragment]:
    """Split a statement into plain text and ``:name`` parameters."""
    words = [index for index, token in enumerate(tokens) if token.kind not in ("space", "comment")]
    fragments: dict[int, Fragment] = {}
    omitted: set[int] = set()
    for position, index in enumerate(words):
        if tokens[index].kind != "parameter":
            continue
        preceding = [tokens[word].text.lower() for word in words[max(0, position - 2) : position]]
        following = [tokens[word].text.lower() for word in words[position + 1 : position + 2]]
        operator = "" if preceding[-1:] != ["in"] else "not in" if preceding == ["not", "in"] else "in"
        if operator:
            omitted.update(range(words[position - len(operator.split())], index))
        elif following == ["is"]:
            operator = "is"
        fragments[index] = Fragment("", tokens[index].text[1:], operator)
    return tuple(
        fragments.get(index, Fragment(token.text))
        for index, token in enumerate(tokens)
        if index not in omitted
    )
