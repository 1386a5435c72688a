"""SQL text as PostgreSQL reads it, taken apart into statements without a connection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from dbctl.engines.base import Hazard, Script
from dbctl.engines.postgresql.tokens import is_closed, tokens
from dbctl.engines.scripts import Reading, remarked, taken_apart
from dbctl.engines.tokens import Token

#: The words that tell what a statement is: ``create unique index concurrently``.
_HEAD = 5
_ENDING = re.compile(
    r"(?:abort|begin|commit|end|prepare transaction|rollback|savepoint|release|start transaction)\b"
)
_OUTSIDE = re.compile(
    r"alter system|alter database \S+ set tablespace|cluster$|vacuum|reindex (?:database|system)"
    r"|(?:create|drop) (?:database|tablespace|subscription)"
    r"|(?:create (?:unique )?index|drop index|reindex \w+|refresh materialized view) concurrently"
)


def split(text: str) -> list[tuple[int, str]]:
    """Take a script apart, as ``Language.split`` says."""
    return taken_apart(text, _reading())


def remarks(text: str) -> list[tuple[int, str]]:
    """Return the comments of a script, as ``Language.remarks`` says."""
    return remarked(text, _reading())


def hazards(scripts: Iterable[Script], kept: str) -> Iterator[Sequence[Hazard]]:
    """Yield what is hazardous in each script, as ``Language.hazards`` says."""
    from dbctl.engines.postgresql import hazards as rules  # noqa: PLC0415 - what runs scripts needs none of it

    return rules.judged(scripts, kept)


def why_not(sql: str) -> str:
    """Return why ``schema_transaction`` cannot hold a statement, or nothing."""
    return _why_not([token for token in tokens(sql) if token.kind not in ("space", "comment")])


def _reading() -> Reading:
    return Reading(tokens=tokens, is_closed=is_closed, deeper=_deeper, why_not=_why_not)


def _deeper(held: list[Token], depth: int) -> int:
    """Of BEGIN ATOMIC … END, the body of a function."""
    word = held[-1].text.lower() if held[-1].kind == "word" else ""
    if word == "atomic" and held[-2:-1] and held[-2].text.lower() == "begin":
        return 1
    if depth and word == "case":
        return 1
    return -1 if depth and word == "end" else 0


def _why_not(held: list[Token]) -> str:
    if held and held[0].text == "\\":
        return "psql alone knows commands that begin with a backslash"
    head = " ".join(token.text.lower() for token in held[:_HEAD] if token.kind != "end")
    if found := _ENDING.match(head):
        return f"{found.group().upper()} would begin or end the transaction that all of it runs in"
    if found := _OUTSIDE.match(head):
        return f"{found.group().upper()} is not possible inside the transaction that all of it runs in"
    if head.startswith("copy ") and any(token.text.lower() in ("stdin", "stdout") for token in held):
        return "COPY takes its rows from psql alone; write them as INSERT"
    return ""
