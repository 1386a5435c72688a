"""Split SQL scripts of any server into statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from dbctl.engines.parsing.lexer import Token


class ScriptSyntax(NamedTuple):
    """The script syntax of a server."""

    tokenize: Callable[[str], Iterator[Token]]
    is_closed: Callable[[Token], bool]
    #: Returns the change of the nesting depth of bodies by the last of the statement's tokens.
    depth_change: Callable[[list[Token], int], int]
    #: Returns why a script must not contain the statement; empty if it may.
    unsupported_reason: Callable[[list[Token]], str]


def split_script(text: str, syntax: ScriptSyntax) -> list[tuple[int, str]]:
    """Split a script into statements; see ``ScriptDialect.split``."""
    text = text.removeprefix("\ufeff")
    statements: list[tuple[int, str]] = []
    tokens: list[Token] = []  # of the current statement, without blanks and comments
    depth = 0  # of bodies of functions and triggers
    line = token_line = 1  # of the current statement, and of the token

    def build_statement(end: int) -> tuple[int, str]:
        if reason := syntax.unsupported_reason(tokens):
            raise ValueError(f"line {line}: {reason}")
        return line, text[tokens[0].start : end]

    for token in syntax.tokenize(text):
        line = line if tokens else token_line
        token_line += token.text.count("\n")
        if not syntax.is_closed(token):
            raise ValueError(
                "the text ends inside a comment" if token.kind == "comment" else _incomplete_message(line)
            )
        if token.kind in ("space", "comment"):
            continue
        if token.kind == "end" and not depth:
            if tokens:
                statements.append(build_statement(token.start + 1))
            tokens = []
            continue
        tokens.append(token)
        depth += syntax.depth_change(tokens, depth)
    if depth:
        raise ValueError(_incomplete_message(line))
    if tokens:
        _, statement = build_statement(tokens[-1].start + len(tokens[-1].text))
        statements.append((line, statement + ";"))
    return statements


def read_comments(text: str, syntax: ScriptSyntax) -> list[tuple[int, str]]:
    """Return the comments of a script; see ``ScriptDialect.comments``."""
    comments: list[tuple[int, str]] = []
    tokens: list[Token] = []  # of the current statement, without blanks and comments
    depth = brackets = 0
    line = 1
    text = text.removeprefix("\ufeff")
    for token in syntax.tokenize(text):
        if (
            token.kind == "comment"
            and not depth
            and not brackets
            and is_line_comment(text, token.start, token.text)
        ):
            comments.append((line, token.text[2:].strip()))
        line += token.text.count("\n")
        if token.kind in ("space", "comment"):
            continue
        if token.kind == "end" and not depth:
            tokens, brackets = [], 0
            continue
        tokens.append(token)
        depth += syntax.depth_change(tokens, depth)
        brackets += {"(": 1, ")": -1}.get(token.text, 0)
    return comments


def is_line_comment(text: str, start: int, comment: str) -> bool:
    """Whether a comment begins with two dashes, after only blanks on its line."""
    return comment.startswith("--") and not text[text.rfind("\n", 0, start) + 1 : start].strip(
        "\ufeff \t\r\f"
    )


def _incomplete_message(line: int) -> str:
    return f"the text ends inside the statement that begins on line {line}"
