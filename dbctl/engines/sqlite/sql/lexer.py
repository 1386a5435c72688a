"""Tokens of SQLite's SQL: strings, quoted names and comments are single tokens."""

from __future__ import annotations

from dbctl.engines.parsing.lexer import Lexer, TokenPattern

#: SQLite reads a name in double quotes as text if no such name exists.
LEXER = Lexer(
    [
        TokenPattern("text", "[xX]?'[^']*(?:''[^']*)*", "'"),
        TokenPattern("name", '"[^"]*(?:""[^"]*)*', '"'),
        TokenPattern("name", "`[^`]*(?:``[^`]*)*", "`"),
        TokenPattern("name", r"\[[^\]]*", r"\]"),
        TokenPattern("comment", r"--[^\n]*"),
        TokenPattern("comment", r"/\*.*?", r"\*/"),
        TokenPattern("space", r"[ \t\n\f\r]+"),
        # all characters but those of ASCII that are not part of words: a set of the others compiles ten times as long
        TokenPattern("word", r"[^\x00-@\[-^`{-\x7f][^\x00-#%-/:-@\[-^`{-\x7f]*"),
        TokenPattern("number", r"0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"),
        TokenPattern("end", ";"),
        TokenPattern("sign", r"->>|->|\|\||[<>!=]=|<>|<<|>>|."),
    ]
)
