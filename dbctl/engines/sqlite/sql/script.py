"""SQL text as SQLite reads it, taken apart without an open database."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from dbctl.engines.contract import Effect, Hazard, Script
from dbctl.engines.parsing import Kind, Token, effect_of, is_line

#: Pragmas that take part in a transaction, or only tell something. Full-text tables ask two of them by themselves, and
#: a column that is added with a check has the rows that are there checked.
#: ``foreign_keys`` does nothing inside a transaction, and what files want of it (off while tables are rebuilt,
#: checked at the end) is what ``schema_transaction`` does.
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

#: Strings, quoted names and comments are one token each, also where nothing closes them; so is a word, and a ``;``.
_TOKEN = re.compile(
    r"""(?P<text>'[^']*(?:'|\Z)) | (?P<name>"[^"]*(?:"|\Z) | `[^`]*(?:`|\Z) | \[[^\]]*(?:\]|\Z))
      | (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z)) | (?P<word>[^\W\d]\w*) | (?P<end>;) | (?P<space>[ \t\n\f\r]+) | (?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_TRIGGER = re.compile(r"create (?:temp |temporary )?trigger\b")
#: The words that tell what a statement is: ``create temporary trigger``, ``pragma main . journal_mode``.
_HEAD = 4
_ENDING = {"begin", "commit", "end", "rollback"}
_ELSEWHERE = {"attach", "detach"}
#: What no script may touch: it would let one write any bytes as the schema.
_NEVER_PRAGMAS = {"writable_schema"}
_SAVEPOINTS = {"savepoint", "release"}


def split(text: str, *, outside: bool = False) -> list[tuple[int, str]]:
    """Take a script apart, as ``Language.split`` says."""
    text = text.removeprefix("\ufeff")
    statements: list[tuple[int, str]] = []
    begin, head = -1, ""  # where the statement at hand begins, and its first words
    line = counted = words = last = 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind in ("comment", "space") or (kind == "end" and begin < 0):
            continue
        if begin < 0:
            begin, head, words = token.start(), "", 0
            line += text.count("\n", counted, begin)
            counted = begin
        last = token.end()
        if kind != "end":
            if words < _HEAD:
                head, words = f"{head} {token.group().lower()}".strip(), words + 1
        elif not _TRIGGER.match(head) or sqlite3.complete_statement(text[begin:last]):
            statements.append(_checked(line + 1, head, text[begin:last], outside=outside))
            begin = -1
    if begin >= 0:
        # What follows the last word can only be blanks and comments; an unclosed one of those swallows the semicolon.
        if not sqlite3.complete_statement(text[begin:] + "\n;"):
            raise ValueError(f"it ends inside the statement that begins on line {line + 1}")
        statements.append(_checked(line + 1, head, text[begin:last] + ";", outside=outside))
    elif text and not sqlite3.complete_statement(text + "\n;"):
        raise ValueError("it ends inside a comment")
    return statements


def hazards(scripts: Iterable[Script]) -> Iterator[Sequence[Hazard]]:
    """Yield what is hazardous in each script, as ``Language.hazards`` says."""
    from dbctl.engines.sqlite.sql import lint

    return lint.judged(scripts)


def remarks(text: str) -> list[tuple[int, str]]:
    """Return the comments of a script, as ``Language.remarks`` says."""
    text = text.removeprefix("\ufeff")
    found: list[tuple[int, str]] = []
    begin, head, words, brackets = -1, "", 0, 0  # of the statement at hand
    for token in _TOKEN.finditer(text):
        kind, told = token.lastgroup, token.group()
        if kind == "comment" and is_line(text, token.start(), told) and not brackets:
            # The body of a trigger is inside of it until its END, with or without the semicolon behind.
            if (
                begin < 0
                or not _TRIGGER.match(head)
                or sqlite3.complete_statement(text[begin : token.start()] + ";")
            ):
                found.append((text.count("\n", 0, token.start()) + 1, told[2:].strip()))
        elif kind == "end":
            if not _TRIGGER.match(head) or sqlite3.complete_statement(text[begin : token.end()]):
                begin, head, words, brackets = -1, "", 0, 0
        elif kind not in ("comment", "space"):
            begin = token.start() if begin < 0 else begin
            if words < _HEAD:
                head, words = f"{head} {told.lower()}".strip(), words + 1
            brackets += {"(": 1, ")": -1}.get(told, 0)
    return found


def effect(sql: str) -> Effect:
    """Judge one statement, as ``Language.effect`` says."""
    return effect_of(tokens(sql))


def tokens(sql: str) -> Iterator[Token]:
    """Take ``sql`` apart."""
    for found in _TOKEN.finditer(sql):
        yield Token(cast("Kind", found.lastgroup), found.group(), found.start())


def _checked(line: int, head: str, sql: str, *, outside: bool) -> tuple[int, str]:
    if reason := _why_not(head, outside=outside):
        raise ValueError(f"line {line}: {reason}")
    return line, sql


def why_not(sql: str) -> str:
    """Return why ``step_by_step`` cannot run a statement, or nothing."""
    held = [token.text.lower() for token in tokens(sql) if token.kind not in ("comment", "space", "end")]
    return _why_not(" ".join(held[:_HEAD]), outside=True)


def _why_not(head: str, *, outside: bool) -> str:
    first, *rest = head.split(" ")
    if first in _ENDING:
        return f"{first.upper()} would begin or end the transaction that all of it runs in"
    if first in _SAVEPOINTS and outside:
        return f"{first.upper()} would begin or end a transaction"
    if first in _ELSEWHERE or (first == "vacuum" and "into" in rest):
        return f"{first.upper()} would reach into another file"
    name = ""
    if first == "pragma":
        name = (rest[2] if rest[1:2] == ["."] and len(rest) > 2 else rest[0] if rest else "").strip("\"'`[]")  # noqa: PLR2004 - schema, dot, name
        if name in _NEVER_PRAGMAS:
            return f"PRAGMA {name} would let anything stand in place of the schema"
    if not outside and (first == "vacuum" or (name and name not in ALLOWED_PRAGMAS)):
        return (
            f"{first.upper()} {name}".rstrip()
            + " is not possible inside the transaction that all of it runs in"
        )
    return ""
