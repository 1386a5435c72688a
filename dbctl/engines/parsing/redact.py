"""Statements as they may be shown: a value in them may be a password."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from dbctl.engines.parsing.lexer import Token

#: Characters of a statement that are shown.
LONGEST = 120
#: Pieces of one value: a text with a quote in it, a number with a fraction.
_VALUE = re.compile(r"\?(?:\.?\?)+")


def shown(sql: str, tokens: Callable[[str], Iterator[Token]], quotes: str = "'") -> str:
    """Return a statement on one line, shortened, with ``?`` in place of every text and number in it.

    A server keeps only so many characters, so that a text may end nowhere: it is one all the same. What others wrote
    into comments goes, too. Whether a backslash keeps a text from ending depends on the session that sent it, so where
    there is one nothing behind the first quote is shown.

    Args:
        sql: the statement.
        tokens: takes it apart.
        quotes: what begins a text, in one session or another.
    """
    cut = "\\" in sql
    if cut:
        sql = sql[: min((at for mark in quotes if (at := sql.find(mark)) >= 0), default=len(sql))]
    pieces = []
    for token in tokens(sql):
        if token.kind == "text" or token.text[0] in quotes or token.text[0].isdigit():
            pieces.append("?")
        elif token.kind in ("space", "comment"):
            pieces.append(" ")
        else:
            pieces.append(token.text)
    line = " ".join(_VALUE.sub("?", "".join(pieces)).split())
    return line if len(line) < LONGEST and not cut else f"{line[: LONGEST - 1]}…"
