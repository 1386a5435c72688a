"""A script of SQL taken apart into its statements, whichever server it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from dbctl.engines.parsing.lexer import Token


class Reading(NamedTuple):
    """How a server reads a script."""

    tokens: Callable[[str], Iterator[Token]]
    is_closed: Callable[[Token], bool]
    #: By how much the last of the tokens, those of one statement, changes how deep inside a body it is.
    deeper: Callable[[list[Token], int], int]
    #: Why a statement of these tokens cannot be part of a script, or nothing.
    why_not: Callable[[list[Token]], str]


def taken_apart(text: str, how: Reading) -> list[tuple[int, str]]:
    """Take a script apart as ``Language.split`` says."""
    text = text.removeprefix("\ufeff")
    statements: list[tuple[int, str]] = []
    held: list[Token] = []  # of the statement at hand, without blanks and comments
    depth = 0  # of the body of a function or a trigger
    line = at = 1  # of the statement at hand, and of the token

    def whole(end: int) -> tuple[int, str]:
        if reason := how.why_not(held):
            raise ValueError(f"line {line}: {reason}")
        return line, text[held[0].start : end]

    for token in how.tokens(text):
        line = line if held else at
        at += token.text.count("\n")
        if not how.is_closed(token):
            raise ValueError("it ends inside a comment" if token.kind == "comment" else _cut_off(line))
        if token.kind in ("space", "comment"):
            continue
        if token.kind == "end" and not depth:
            if held:
                statements.append(whole(token.start + 1))
            held = []
            continue
        held.append(token)
        depth += how.deeper(held, depth)
    if depth:
        raise ValueError(_cut_off(line))
    if held:
        _, statement = whole(held[-1].start + len(held[-1].text))
        statements.append((line, statement + ";"))
    return statements


def remarked(text: str, how: Reading) -> list[tuple[int, str]]:
    """Return the comments of a script as ``Language.remarks`` says."""
    found: list[tuple[int, str]] = []
    held: list[Token] = []  # of the statement at hand, as above
    depth = brackets = 0
    line = 1
    text = text.removeprefix("\ufeff")
    for token in how.tokens(text):
        if token.kind == "comment" and not depth and not brackets and is_line(text, token.start, token.text):
            found.append((line, token.text[2:].strip()))
        line += token.text.count("\n")
        if token.kind in ("space", "comment"):
            continue
        if token.kind == "end" and not depth:
            held, brackets = [], 0
            continue
        held.append(token)
        depth += how.deeper(held, depth)
        brackets += {"(": 1, ")": -1}.get(token.text, 0)
    return found


def is_line(text: str, start: int, comment: str) -> bool:
    """Whether a comment begins with two dashes, and nothing but blanks stands before it on its line."""
    return comment.startswith("--") and not text[text.rfind("\n", 0, start) + 1 : start].strip(
        "\ufeff \t\r\f"
    )


def _cut_off(line: int) -> str:
    return f"it ends inside the statement that begins on line {line}"
