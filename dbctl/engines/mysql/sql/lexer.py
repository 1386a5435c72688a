r"""Lexer of SQL in the mode of dbctl's sessions: ``"`` quotes names, ``\`` is a character; see ``bind_parameters``."""

from __future__ import annotations

from dbctl.engines.parsing.lexer import Lexer, Token, TokenPattern

#: ``--`` begins a comment only before a space. The content of comments that servers run (``/*!``) is part of the statement.
LEXER = Lexer(
    [
        TokenPattern("text", "'[^']*", "'"),
        TokenPattern("name", '"[^"]*', '"'),
        TokenPattern("name", "`[^`]*", "`"),
        TokenPattern("comment", r"--(?=\s|\Z)[^\n]*"),
        TokenPattern("comment", r"#[^\n]*"),
        TokenPattern("comment", r"/\*(?!M?!).*?", r"\*/"),
        TokenPattern("space", r"\s+"),
        TokenPattern("word", r"@{0,2}\w[\w$]*"),
        TokenPattern("parameter", r":[^\W\d]\w*"),
        TokenPattern("end", ";"),
        TokenPattern("sign", r"/\*M?!|\*/|."),
    ]
)


def split_variants(sql: str) -> list[list[Token]]:
    """Return a statement as read by servers that run the content of comments (``/*!40000 … */``), and by others.

    The result has one item if there is no such comment, or nothing else.
    """
    with_comments: list[Token] = []
    without_comments: list[Token] = []
    in_comment = after_opening = False
    for token in LEXER.tokenize(sql):
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
