"""Split scripts of SQLite into statements, without an open database."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from dbctl.engines.contract import LintFinding, Script, StatementEffect
from dbctl.engines.parsing import Token, TokenKind, analyze_effect, is_line_comment

#: Pragmas that are transactional or only read. Full-text tables use two of them, and adding a column with a check uses
#: ``quick_check``. ``foreign_keys`` has no effect inside a transaction; ``schema_transaction`` does what scripts use it
#: for (off while tables are rebuilt, checked at the end).
ALLOWED_PRAGMAS = frozenset(
    {
        "application_id",
        "data_version",
        "defer_foreign_keys",
        "foreign_key_check",
        "foreign_key_list",
        "foreign_keys",
        "index_info",
        "index_list",
        "page_size",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
        "user_version",
    }
)

#: Strings, quoted names and comments are one token each, even if they are not closed; so are words and ``;``.
_TOKEN = re.compile(
    r"""(?P<text>'[^']*(?:'|\Z)) | (?P<name>"[^"]*(?:"|\Z) | `[^`]*(?:`|\Z) | \[[^\]]*(?:\]|\Z))
      | (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z)) | (?P<word>[^\W\d]\w*) | (?P<end>;) | (?P<space>[ \t\n\f\r]+) | (?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_TRIGGER = re.compile(r"create (?:temp |temporary )?trigger\b")
#: Number of words that identify a statement: ``create temporary trigger``, ``pragma main . journal_mode``.
_HEAD = 4
_ENDING = {"begin", "commit", "end", "rollback"}
_OTHER_FILE = {"attach", "detach"}
#: Pragmas that are refused, because they allow writing any bytes as the schema.
_NEVER_PRAGMAS = {"writable_schema"}
_SAVEPOINTS = {"savepoint", "release"}


def split(text: str, *, outside_transaction: bool = False) -> list[tuple[int, str]]:
    """Split a script into statements; see ``ScriptDialect.split``."""
    text = text.removeprefix("\ufeff")
    statements: list[tuple[int, str]] = []
    begin, head = -1, ""  # start and first words of the current statement
    line = counted_end = word_count = end = 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind in ("comment", "space") or (kind == "end" and begin < 0):
            continue
        if begin < 0:
            begin, head, word_count = token.start(), "", 0
            line += text.count("\n", counted_end, begin)
            counted_end = begin
        end = token.end()
        if kind != "end":
            if word_count < _HEAD:
                head, word_count = f"{head} {token.group().lower()}".strip(), word_count + 1
        elif not _TRIGGER.match(head) or sqlite3.complete_statement(text[begin:end]):
            statements.append(
                _require_supported(line + 1, head, text[begin:end], outside=outside_transaction)
            )
            begin = -1
    if begin >= 0:
        # Only blanks and comments can follow the last word; an unclosed comment would include the semicolon.
        if not sqlite3.complete_statement(text[begin:] + "\n;"):
            raise ValueError(f"the text ends inside the statement that begins on line {line + 1}")
        statements.append(
            _require_supported(line + 1, head, text[begin:end] + ";", outside=outside_transaction)
        )
    elif text and not sqlite3.complete_statement(text + "\n;"):
        raise ValueError("the text ends inside a comment")
    return statements


def lint(scripts: Iterable[Script]) -> Iterator[Sequence[LintFinding]]:
    """Yield the findings of each script."""
    from dbctl.engines.sqlite.sql import lint

    return lint.lint_scripts(scripts)


def comments(text: str) -> list[tuple[int, str]]:
    """Return the comments of a script; see ``ScriptDialect.comments``."""
    text = text.removeprefix("\ufeff")
    comments: list[tuple[int, str]] = []
    begin, head, word_count, brackets = -1, "", 0, 0  # of the current statement
    for token in _TOKEN.finditer(text):
        kind, token_text = token.lastgroup, token.group()
        if kind == "comment" and is_line_comment(text, token.start(), token_text) and not brackets:
            # The body of a trigger ends with END, with or without a semicolon after it.
            if (
                begin < 0
                or not _TRIGGER.match(head)
                or sqlite3.complete_statement(text[begin : token.start()] + ";")
            ):
                comments.append((text.count("\n", 0, token.start()) + 1, token_text[2:].strip()))
        elif kind == "end":
            if not _TRIGGER.match(head) or sqlite3.complete_statement(text[begin : token.end()]):
                begin, head, word_count, brackets = -1, "", 0, 0
        elif kind not in ("comment", "space"):
            begin = token.start() if begin < 0 else begin
            if word_count < _HEAD:
                head, word_count = f"{head} {token_text.lower()}".strip(), word_count + 1
            brackets += {"(": 1, ")": -1}.get(token_text, 0)
    return comments


def effect(sql: str) -> StatementEffect:
    """Return the effect of one statement; see ``ScriptDialect.effect``."""
    return analyze_effect(tokenize(sql))


def tokenize(sql: str) -> Iterator[Token]:
    """Yield the tokens of ``sql``."""
    for match in _TOKEN.finditer(sql):
        yield Token(cast("TokenKind", match.lastgroup), match.group(), match.start())


def _require_supported(line: int, head: str, sql: str, *, outside: bool) -> tuple[int, str]:
    if reason := _unsupported_reason(head, outside=outside):
        raise ValueError(f"line {line}: {reason}")
    return line, sql


def unsupported_reason(sql: str) -> str:
    """Return why a statement cannot run outside a transaction; empty if it can."""
    words = [token.text.lower() for token in tokenize(sql) if token.kind not in ("comment", "space", "end")]
    return _unsupported_reason(" ".join(words[:_HEAD]), outside=True)


def _unsupported_reason(head: str, *, outside: bool) -> str:
    first, *rest = head.split(" ")
    if first in _ENDING:
        return f"{first.upper()} would begin or end the transaction of the script"
    if first in _SAVEPOINTS and outside:
        return f"{first.upper()} would begin or end a transaction"
    if first in _OTHER_FILE or (first == "vacuum" and "into" in rest):
        return f"{first.upper()} would access another file"
    name = ""
    if first == "pragma":
        name = (rest[2] if rest[1:2] == ["."] and len(rest) > 2 else rest[0] if rest else "").strip("\"'`[]")  # noqa: PLR2004 - schema, dot, name
        if name in _NEVER_PRAGMAS:
            return f"PRAGMA {name} would allow writing an invalid schema"
    if not outside and (first == "vacuum" or (name and name not in ALLOWED_PRAGMAS)):
        return f"{first.upper()} {name}".rstrip() + " is not possible inside the transaction of the script"
    return ""
