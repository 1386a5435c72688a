"""SQL text as PostgreSQL reads it, taken apart into statements without a connection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from dbctl.engines.contract import Effect, Hazard, Script
from dbctl.engines.parsing import Reading, Token, effect_of, remarked, taken_apart
from dbctl.engines.postgresql.sql.lexer import is_closed, tokens

#: The words that tell what a statement is: ``create unique index concurrently``.
_HEAD = 5
_ENDING = re.compile(
    r"(?:abort|begin|commit|end|prepare transaction|rollback|savepoint|release|start transaction)\b"
)
#: About the server, or another database: no script does that.
_ELSEWHERE = re.compile(
    r"alter system|alter database \S+ set tablespace|(?:create|drop) (?:database|tablespace|subscription)"
)
_OUTSIDE = re.compile(
    r"cluster$|vacuum|reindex (?:database|system)"
    r"|(?:create (?:unique )?index|drop index|reindex \w+|refresh materialized view) concurrently"
)


def split(text: str, *, outside: bool = False) -> list[tuple[int, str]]:
    """Take a script apart, as ``Language.split`` says."""
    return taken_apart(text, _reading(outside=outside))


def effect(sql: str) -> Effect:
    """Judge one statement, as ``Language.effect`` says."""
    return effect_of(tokens(sql))


def remarks(text: str) -> list[tuple[int, str]]:
    """Return the comments of a script, as ``Language.remarks`` says."""
    return remarked(text, _reading())


def hazards(scripts: Iterable[Script]) -> Iterator[Sequence[Hazard]]:
    """Yield what is hazardous in each script, as ``Language.hazards`` says."""
    from dbctl.engines.postgresql.sql import lint

    return lint.judged(scripts)


def why_not(sql: str, *, outside: bool = False) -> str:
    """Return why ``schema_transaction``, or ``step_by_step`` outside of it, cannot hold a statement, or nothing."""
    return _why_not(told(sql), outside=outside)


def told(sql: str) -> list[Token]:
    """Return the pieces of a statement that say something."""
    return [token for token in tokens(sql) if token.kind not in ("space", "comment")]


def inside(sql: str) -> str:
    """Return a statement as a transaction can hold it where nobody else is there; empty where none is needed then."""
    held = told(sql)
    if not _OUTSIDE.match(_words(held)):
        return sql
    at = next((token.start for token in held if token.text.lower() == "concurrently"), -1)
    return sql[:at] + sql[at + len("concurrently") :] if at >= 0 else ""


def concurrent_index(sql: str) -> str:
    """Return the name of the index that CREATE INDEX CONCURRENTLY makes, unquoted; empty where it makes none, or names none."""
    held = told(sql)
    words = [token.text.lower() for token in held]
    if words[:3] != ["create", "index", "concurrently"] and words[:4] != [
        "create",
        "unique",
        "index",
        "concurrently",
    ]:
        return ""
    at = words.index("concurrently") + 1
    at += 3 if words[at : at + 3] == ["if", "not", "exists"] else 0
    if at >= len(held) or words[at] == "on":
        return ""
    name = held[at]
    return name.text[1:-1].replace('""', '"') if name.kind == "name" else words[at]


def _reading(*, outside: bool = False) -> Reading:
    return Reading(
        tokens=tokens, is_closed=is_closed, deeper=_deeper, why_not=partial(_why_not, outside=outside)
    )


def _words(held: list[Token]) -> str:
    return " ".join(token.text.lower() for token in held[:_HEAD] if token.kind != "end")


def _deeper(held: list[Token], depth: int) -> int:
    """Of BEGIN ATOMIC … END, the body of a function."""
    word = held[-1].text.lower() if held[-1].kind == "word" else ""
    if word == "atomic" and held[-2:-1] and held[-2].text.lower() == "begin":
        return 1
    if depth and word == "case":
        return 1
    return -1 if depth and word == "end" else 0


def _why_not(held: list[Token], *, outside: bool) -> str:
    if held and held[0].text == "\\":
        return "psql alone knows commands that begin with a backslash"
    head = _words(held)
    if found := _ENDING.match(head):
        return f"{found.group().upper()} would begin or end the transaction that all of it runs in"
    if found := _ELSEWHERE.match(head) or (None if outside else _OUTSIDE.match(head)):
        return f"{found.group().upper()} is not possible inside the transaction that all of it runs in"
    if head.startswith("copy ") and any(token.text.lower() in ("stdin", "stdout") for token in held):
        return "COPY takes its rows from psql alone; write them as INSERT"
    return ""
