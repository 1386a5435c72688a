"""Redact statements for display, because their values may be passwords."""

from __future__ import annotations

import re

from dbctl.engines.parsing.lexer import Lexer

#: Maximum length of a displayed statement.
MAX_CHARACTERS = 120
#: Several placeholders of one value: a text with a quote, or a number with a fraction.
_VALUE = re.compile(r"\?(?:\.?\?)+")


def redact_statement(sql: str, lexer: Lexer, quotes: str = "'") -> str:
    """Return a statement on one line, shortened, without comments, with ``?`` for every text and number.

    Servers truncate long statements, so a text may be unclosed. Whether a backslash escapes a quote depends on the
    session, so with a backslash nothing after the first quote is shown.

    Args:
        sql: the statement.
        lexer: that of the server.
        quotes: all characters that may begin a text.
    """
    is_cut = "\\" in sql
    if is_cut:
        sql = sql[: min((position for mark in quotes if (position := sql.find(mark)) >= 0), default=len(sql))]
    fragments = []
    for token in lexer.tokenize(sql):
        if token.kind == "text" or token.text[0] in quotes or token.text[0].isdigit():
            fragments.append("?")
        elif token.kind in ("space", "comment"):
            fragments.append(" ")
        else:
            fragments.append(token.text)
    line = " ".join(_VALUE.sub("?", "".join(fragments)).split())
    return line if len(line) < MAX_CHARACTERS and not is_cut else f"{line[: MAX_CHARACTERS - 1]}…"
