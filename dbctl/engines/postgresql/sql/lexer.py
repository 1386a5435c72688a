"""Tokens of PostgreSQL's SQL: strings, quoted names and comments are single tokens."""

from __future__ import annotations

from dbctl.engines.parsing.lexer import Lexer, TokenPattern

#: A word includes the letters before a quote, so that only a lone E or e begins a string with escapes. Unlike in standard
#: SQL, comments nest.
LEXER = Lexer(
    [
        TokenPattern("text", r"[eE]'(?:[^'\\]|\\.|'')*", "'"),
        TokenPattern("text", "'[^']*", "'"),
        TokenPattern("text", r"(?P<dollar>\$(?:[^\W\d]\w*)?\$).*?", "(?P=dollar)"),
        TokenPattern("name", '"[^"]*', '"'),
        TokenPattern("comment", r"--[^\n]*"),
        TokenPattern("comment", r"/\*"),
        TokenPattern("space", r"\s+"),
        TokenPattern("word", r"\w[\w$]*"),
        TokenPattern("parameter", r":[^\W\d]\w*"),
        TokenPattern("end", ";"),
        TokenPattern("sign", r"::|\$\d+|."),
    ],
    nests_comments=True,
)
