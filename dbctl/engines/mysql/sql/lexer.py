r"""Lexer of SQL in the mode of dbctl's sessions: ``"`` quotes names, ``\`` is a character; see ``bind_parameters``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from dbctl.engines.parsing import Token, TokenKind

#: An unclosed token extends to the end of the text. ``--`` begins a comment only before a space.
_TOKEN = re.compile(
    r"""(?P<text> '[^']*(?:'|\Z))
      | (?P<name> "[^"]*(?:"|\Z) | `[^`]*(?:`|\Z))
      | (?P<comment> --(?=\s|\Z)[^\n]* | \#[^\n]* | /\*(?!M?!).*?(?:\*/|\Z))
      | (?P<space>\s+) | (?P<word>@{0,2}\w[\w$]*)
      | (?P<parameter>:[^\W\d]\w*) | (?P<end>;) | (?P<sign>/\*M?!|\*/|.)""",
    re.VERBOSE | re.DOTALL,
)


def tokenize(sql: str) -> Iterator[Token]:
    """Split ``sql`` into tokens; the content of comments that servers run (``/*!``) is part of the statement."""
    for match in _TOKEN.finditer(sql):
        yield Token(cast("TokenKind", match.lastgroup), match.group(), match.start())


def is_closed(token: Token) -> bool:
    """Return whether a text, a quoted name or a comment is closed."""
    text = token.text
    if token.kind == "comment":
        return not text.startswith("/*") or (len(text) > 3 and text.endswith("*/"))  # noqa: PLR2004 - "/*/" is open
    return token.kind not in ("text", "name") or (len(text) > 1 and text.endswith(text[0]))


def split_variants(sql: str) -> list[list[Token]]:
    """Return a statement as read by servers that run the content of comments (``/*!40000 … */``), and by others.

    The result has one item if there is no such comment, or nothing else.
    """
    with_comments: list[Token] = []
    without_comments: list[Token] = []
    in_comment = after_opening = False
    for token in tokenize(sql):
        if token.kind == "sign" and len(token.text) > 1:
            in_comment = after_opening = token.text != "*/"
            continue
        # The first word inside begins with the oldest version that runs it.
        stripped = token._replace(text=token.text.lstrip("0123456789")) if after_opening else token
        after_opening = False
        if stripped.text:
            with_comments.append(stripped)
            without_comments += [] if in_comment else [stripped]
    has_content = any(token.kind not in ("space", "comment", "end") for token in without_comments)
    return (
        [with_comments, without_comments]
        if has_content and without_comments != with_comments
        else [with_comments]
    )
