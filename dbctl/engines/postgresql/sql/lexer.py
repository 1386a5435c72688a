"""Lexer of PostgreSQL's SQL: strings, quoted names and comments are single tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from dbctl.engines.parsing import Token, TokenKind

#: A word includes the letters before a quote, so that only a lone E or e begins a string with escapes. An unclosed token
#: extends to the end of the text.
_TOKEN = re.compile(
    r"""(?P<text> [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | '[^']*(?:'|\Z) | (?P<dollar>\$(?:[^\W\d]\w*)?\$).*?(?:(?P=dollar)|\Z))
      | (?P<name>"[^"]*(?:"|\Z)) | (?P<comment>--[^\n]*|/\*) | (?P<space>\s+) | (?P<word>\w[\w$]*)
      | (?P<parameter>:[^\W\d]\w*) | (?P<end>;) | (?P<sign>::|\$\d+|.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"[eE]'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def tokenize(sql: str) -> Iterator[Token]:
    """Split ``sql`` into tokens."""
    position = 0
    while match := _TOKEN.match(sql, position):
        end = _comment_end(sql, position) if match.group() == "/*" else match.end()
        kind = "text" if match.lastgroup == "dollar" else match.lastgroup
        yield Token(cast("TokenKind", kind), sql[position:end], position)
        position = end


def _comment_end(sql: str, start: int) -> int:
    """Return where a comment ends; unlike in standard SQL, comments of PostgreSQL nest."""
    depth, position = 0, start
    while edge := _COMMENT_EDGE.search(sql, position):
        depth, position = depth + (1 if edge.group() == "/*" else -1), edge.end()
        if not depth:
            return position
    return len(sql)


def is_closed(token: Token) -> bool:
    """Return whether a text, a quoted name or a comment is closed."""
    text = token.text
    if token.kind == "comment":
        return text.startswith("--") or text.count("/*") == text.count("*/")
    if token.kind == "name":
        return len(text) > 1 and text.endswith('"')
    if token.kind == "text" and text[0] == "$":
        mark = text[: text.index("$", 1) + 1]
        return len(text) >= 2 * len(mark) and text.endswith(mark)
    if token.kind == "text" and text[0] in "eE":
        return _ESCAPED.fullmatch(text) is not None
    return token.kind != "text" or (len(text) > 1 and text.endswith("'"))
