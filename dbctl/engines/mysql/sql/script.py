"""SQL text as MySQL reads it, taken apart into statements without a connection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from dbctl.engines.contract import Effect, Hazard, Script
from dbctl.engines.mysql.sql.lexer import is_closed, readings, tokens
from dbctl.engines.parsing import Reading, Token, effect_of, remarked, taken_apart

#: The words that tell what a statement is: ``create definer = … trigger``.
_HEAD = 12
_ENDING = re.compile(
    r"(?:begin|commit|rollback|savepoint|release|start transaction|xa|lock tables?|unlock tables?|set autocommit|set sql_mode|set names|use)\b"
)
#: About another database, or what holds this one.
_ELSEWHERE = re.compile(r"(?:create|drop) (?:database|schema)\b")
_BODY = re.compile(r"create\b.*\b(?:trigger|procedure|function|event|package)\b")
#: What ends with END IF and the like, and does not begin with a word that is counted.
_LOOPS = ("if", "loop", "while", "repeat", "for")


def split(text: str, *, outside: bool = False) -> list[tuple[int, str]]:
    """Take a script apart, as ``Language.split`` says."""
    del outside  # what changes a schema is never inside a transaction here
    return taken_apart(text, _reading())


def effect(sql: str) -> Effect:
    """Judge one statement, as ``Language.effect`` says; with and without what only some servers run of it."""
    judged = [effect_of(read) for read in readings(sql)]
    return Effect(
        may_take_rows=any(one.may_take_rows for one in judged),
        destroys=any(one.destroys for one in judged),
        drops=[name for one in judged for name in one.drops],
        empties=[name for one in judged for name in one.empties],
        session=all(one.session for one in judged),
    )


def remarks(text: str) -> list[tuple[int, str]]:
    """Return the comments of a script, as ``Language.remarks`` says."""
    return remarked(text, _reading())


def hazards(scripts: Iterable[Script]) -> Iterator[Sequence[Hazard]]:
    """Yield what is hazardous in each script, as ``Language.hazards`` says."""
    from dbctl.engines.mysql.sql import lint

    return lint.judged(scripts)


def why_not(sql: str) -> str:
    """Return why ``schema_transaction`` cannot hold a statement, or nothing."""
    return _why_not([token for token in tokens(sql) if token.kind not in ("space", "comment")])


def _reading() -> Reading:
    return Reading(tokens=tokens, is_closed=is_closed, deeper=_deeper, why_not=_why_not)


def _deeper(held: list[Token], depth: int) -> int:
    """Return 1 where the body of a trigger, or a block inside of it, begins with the last token, -1 where one ends."""
    word = held[-1].text.lower() if held[-1].kind == "word" else ""
    before = held[-2].text.lower() if held[-2:-1] else ""
    if word == "begin" and (depth or _BODY.match(_words(held))):
        return 1
    if depth and word == "case" and before != "end":
        return 1
    if before == "end" and word in _LOOPS:
        return 1  # that END was of none of those that are counted
    return -1 if depth and word == "end" else 0


def _words(held: list[Token]) -> str:
    return " ".join(token.text.lower() for token in held[:_HEAD] if token.kind != "end")


def _why_not(held: list[Token]) -> str:
    head = _words(held)
    if head.startswith("delimiter"):
        return "DELIMITER is known to the mysql client alone; leave it out, and end a body with END;"
    if head.startswith(("source ", "\\")):
        return "the mysql client alone knows such commands"
    if found := _ENDING.match(head):
        return f"{found.group().upper()} would change what all of it runs in"
    if found := _ELSEWHERE.match(head):
        return f"{found.group().upper()} is about more than this database"
    if any(token.kind == "text" and "\\" in token.text for token in held):
        return "what a backslash in a text means depends on sql_mode; write x'5c', or char(10)"
    return ""
