"""Statements as they may be shown: what stands in them as a value may be a password."""

from __future__ import annotations

import re

from dbctl.engines.postgresql.tokens import tokens

#: Characters of a statement that are shown.
LONGEST = 120
#: Pieces of one value: a text with a quote in it, a number with a fraction.
_VALUE = re.compile(r"\?(?:\.?\?)+")


def shown(sql: str) -> str:
    """Return a statement on one line, shortened, with ``?`` in place of every text and number in it.

    The server keeps so many characters of a statement, so that a text may end nowhere: it is one all the same. What
    others wrote into comments goes, too.
    """
    pieces = []
    for token in tokens(sql):
        if token.kind == "text" or (token.kind == "word" and token.text[0].isdigit()):
            pieces.append("?")
        elif token.kind in ("space", "comment"):
            pieces.append(" ")
        else:
            pieces.append(token.text)
    line = " ".join(_VALUE.sub("?", "".join(pieces)).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
