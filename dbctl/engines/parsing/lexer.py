"""Tokens of SQL, and the translation of named parameters; each engine has its own lexer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

TokenKind: TypeAlias = Literal["text", "name", "comment", "space", "word", "parameter", "end", "sign"]


class Token(NamedTuple):
    """One token of a statement; the joined tokens are the statement."""

    kind: TokenKind
    text: str
    start: int


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
