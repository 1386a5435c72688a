"""Split MySQL scripts into statements, without a connection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from dbctl.engines.contract import LintFinding, Script, StatementEffect
from dbctl.engines.mysql.sql.lexer import is_closed, split_variants, tokenize
from dbctl.engines.parsing import ScriptSyntax, Token, analyze_effect, read_comments, split_script

#: The words that identify a statement: ``create definer = … trigger``.
_HEAD = 12
_TRANSACTION_STATEMENTS = re.compile(
    r"(?:begin|commit|rollback|savepoint|release|start transaction|xa|lock tables?|unlock tables?|set autocommit|set sql_mode|set names|use)\b"
)
#: Statements about another database, or about the database itself.
_SERVER_STATEMENTS = re.compile(r"(?:create|drop) (?:database|schema)\b")
_BODY = re.compile(r"create\b.*\b(?:trigger|procedure|function|event|package)\b")
#: Blocks that end with END IF and similar words, and that do not begin with a counted word.
_LOOPS = ("if", "loop", "while", "repeat", "for")


def split(text: str, *, outside_transaction: bool = False) -> list[tuple[int, str]]:
    """Split a script into statements, each with its line."""
    del outside_transaction  # a schema change is never inside a transaction here
    return split_script(text, _script_grammar())


def effect(sql: str) -> StatementEffect:
    """Return the effect of one statement, with and without the parts that only some servers run."""
    effects = [analyze_effect(read) for read in split_variants(sql)]
    return StatementEffect(
        may_delete_rows=any(variant.may_delete_rows for variant in effects),
        is_destructive=any(variant.is_destructive for variant in effects),
        dropped_tables=[name for variant in effects for name in variant.dropped_tables],
        emptied_tables=[name for variant in effects for name in variant.emptied_tables],
        session_only=all(variant.session_only for variant in effects),
    )


def comments(text: str) -> list[tuple[int, str]]:
    """Return the comments of a script, each with its line."""
    return read_comments(text, _script_grammar())


def lint(scripts: Iterable[Script]) -> Iterator[Sequence[LintFinding]]:
    """Yield the lint findings of each script."""
    from dbctl.engines.mysql.sql.lint import lint_scripts

    return lint_scripts(scripts)


def unsupported_reason(sql: str) -> str:
    """Return why ``schema_transaction`` cannot run a statement; or an empty text."""
    return _unsupported_reason([token for token in tokenize(sql) if token.kind not in ("space", "comment")])


def _script_grammar() -> ScriptSyntax:
    return ScriptSyntax(
        tokenize=tokenize,
        is_closed=is_closed,
        depth_change=_nesting_change,
        unsupported_reason=_unsupported_reason,
    )


def _nesting_change(significant: list[Token], depth: int) -> int:
    """Return 1 if the body of a trigger, or a block in it, begins with the last token, -1 if one ends."""
    word = significant[-1].text.lower() if significant[-1].kind == "word" else ""
    before = significant[-2].text.lower() if significant[-2:-1] else ""
    if word == "begin" and (depth or _BODY.match(_head_words(significant))):
        return 1
    if depth and word == "case" and before != "end":
        return 1
    if before == "end" and word in _LOOPS:
        return 1  # this END closes no counted block
    return -1 if depth and word == "end" else 0


def _head_words(significant: list[Token]) -> str:
    return " ".join(token.text.lower() for token in significant[:_HEAD] if token.kind != "end")


def _unsupported_reason(significant: list[Token]) -> str:
    head = _head_words(significant)
    if head.startswith("delimiter"):
        return "DELIMITER requires the mysql client; omit it, and end a body with END;"
    if head.startswith(("source ", "\\")):
        return "such commands require the mysql client"
    if match := _TRANSACTION_STATEMENTS.match(head):
        return f"{match.group().upper()} would change the transaction or the session of the script"
    if match := _SERVER_STATEMENTS.match(head):
        return f"{match.group().upper()} affects more than this database"
    if any(token.kind == "text" and "\\" in token.text for token in significant):
        return "the meaning of a backslash in a text depends on sql_mode; use x'5c', or char(10)"
    return ""
