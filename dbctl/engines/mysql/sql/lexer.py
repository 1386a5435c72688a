r"""SQL text as every session here has it read: ``"`` is for names, ``\`` is a letter; see ``parameters.translated``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from dbctl.engines.parsing import Kind, Token

#: What nothing closes reaches to the end of the text. ``--`` begins a comment only with a blank behind it.
_TOKEN = re.compile(
    r"""(?P<text> '[^']*(?:'|\Z))
      | (?P<name> "[^"]*(?:"|\Z) | `[^`]*(?:`|\Z))
      | (?P<comment> --(?=\s|\Z)[^\n]* | \#[^\n]* | /\*(?!M?!).*?(?:\*/|\Z))
      | (?P<space>\s+) | (?P<word>@{0,2}\w[\w$]*)
      | (?P<parameter>:[^\W\d]\w*) | (?P<end>;) | (?P<sign>/\*M?!|\*/|.)""",
    re.VERBOSE | re.DOTALL,
)


def tokens(sql: str) -> Iterator[Token]:
    """Take ``sql`` apart; what a comment holds that servers run (``/*!``) is part of the statement."""
    for found in _TOKEN.finditer(sql):
        yield Token(cast("Kind", found.lastgroup), found.group(), found.start())


def is_closed(token: Token) -> bool:
    """Whether a text, a quoted name or a comment ends before the statement does."""
    text = token.text
    if token.kind == "comment":
        return not text.startswith("/*") or (len(text) > 3 and text.endswith("*/"))  # noqa: PLR2004 - "/*/" is open
    return token.kind not in ("text", "name") or (len(text) > 1 and text.endswith(text[0]))


def readings(sql: str) -> list[list[Token]]:
    """Return a statement as servers that run what its comments hold (``/*!40000 … */``) read it, and as the others do.

    There is one where it holds no such comment, or nothing else.
    """
    run: list[Token] = []
    rest: list[Token] = []
    inside = opened = False
    for token in tokens(sql):
        if token.kind == "sign" and len(token.text) > 1:
            inside = opened = token.text != "*/"
            continue
        # The first word inside begins with the oldest version that runs it.
        told = token._replace(text=token.text.lstrip("0123456789")) if opened else token
        opened = False
        if told.text:
            run.append(told)
            rest += [] if inside else [told]
    said = any(token.kind not in ("space", "comment", "end") for token in rest)
    return [run, rest] if said and rest != run else [run]
