"""Split PostgreSQL scripts into statements, without a connection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from dbctl.engines.contract import LintFinding, Script, StatementEffect
from dbctl.engines.parsing import ScriptSyntax, Token, analyze_effect, read_comments, split_script
from dbctl.engines.postgresql.sql.lexer import is_closed, tokenize

#: The words that identify a statement: ``create unique index concurrently``.
_HEAD = 5
_TRANSACTION_STATEMENTS = re.compile(
    r"(?:abort|begin|commit|end|prepare transaction|rollback|savepoint|release|start transaction)\b"
)
#: Statements about the server or another database, which no script may contain.
_SERVER_STATEMENTS = re.compile(
    r"alter system|alter database \S+ set tablespace|(?:create|drop) (?:database|tablespace|subscription)"
)
_NOT_IN_TRANSACTION = re.compile(
    r"cluster$|vacuum|reindex (?:database|system)"
    r"|(?:create (?:unique )?index|drop index|reindex \w+|refresh materialized view) concurrently"
)


def split(text: str, *, outside_transaction: bool = False) -> list[tuple[int, str]]:
    """Split a script into statements, each with its line."""
    return split_script(text, _script_grammar(outside=outside_transaction))


def effect(sql: str) -> StatementEffect:
    """Return the effect of one statement."""
    return analyze_effect(tokenize(sql))


def comments(text: str) -> list[tuple[int, str]]:
    """Return the comments of a script, each with its line."""
    return read_comments(text, _script_grammar())


def lint(scripts: Iterable[Script]) -> Iterator[Sequence[LintFinding]]:
    """Yield the lint findings of each script."""
    from dbctl.engines.postgresql.sql.lint import lint_scripts

    return lint_scripts(scripts)


def unsupported_reason(sql: str, *, outside: bool = False) -> str:
    """Return why ``schema_transaction``, or ``outside_transaction``, cannot run a statement; or an empty text."""
    return _unsupported_reason(significant_tokens(sql), outside=outside)


def significant_tokens(sql: str) -> list[Token]:
    """Return the tokens of a statement without space and comments."""
    return [token for token in tokenize(sql) if token.kind not in ("space", "comment")]


def remove_concurrently(sql: str) -> str:
    """Return a statement without CONCURRENTLY, for a transaction without other sessions; empty if nothing remains to be run."""
    significant = significant_tokens(sql)
    if not _NOT_IN_TRANSACTION.match(_head_words(significant)):
        return sql
    start = next((token.start for token in significant if token.text.lower() == "concurrently"), -1)
    return sql[:start] + sql[start + len("concurrently") :] if start >= 0 else ""


def find_concurrent_index(sql: str) -> str:
    """Return the unquoted name of the index that CREATE INDEX CONCURRENTLY creates; empty for others, or without a name."""
    significant = significant_tokens(sql)
    words = [token.text.lower() for token in significant]
    if words[:3] != ["create", "index", "concurrently"] and words[:4] != [
        "create",
        "unique",
        "index",
        "concurrently",
    ]:
        return ""
    position = words.index("concurrently") + 1
    position += 3 if words[position : position + 3] == ["if", "not", "exists"] else 0
    if position >= len(significant) or words[position] == "on":
        return ""
    name = significant[position]
    return name.text[1:-1].replace('""', '"') if name.kind == "name" else words[position]


def _script_grammar(*, outside: bool = False) -> ScriptSyntax:
    return ScriptSyntax(
        tokenize=tokenize,
        is_closed=is_closed,
        depth_change=_nesting_change,
        unsupported_reason=partial(_unsupported_reason, outside=outside),
    )


def _head_words(significant: list[Token]) -> str:
    return " ".join(token.text.lower() for token in significant[:_HEAD] if token.kind != "end")


def _nesting_change(significant: list[Token], depth: int) -> int:
    """Return the change of the nesting depth at the last token; BEGIN ATOMIC … END is the body of a function."""
    word = significant[-1].text.lower() if significant[-1].kind == "word" else ""
    if word == "atomic" and significant[-2:-1] and significant[-2].text.lower() == "begin":
        return 1
    if depth and word == "case":
        return 1
    return -1 if depth and word == "end" else 0


def _unsupported_reason(significant: list[Token], *, outside: bool) -> str:
    if significant and significant[0].text == "\\":
        return "commands that begin with a backslash require psql"
    head = _head_words(significant)
    if match := _TRANSACTION_STATEMENTS.match(head):
        return f"{match.group().upper()} would begin or end the transaction of the script"
    if match := _SERVER_STATEMENTS.match(head) or (None if outside else _NOT_IN_TRANSACTION.match(head)):
        return f"{match.group().upper()} is not possible inside the transaction of the script"
    if head.startswith("copy ") and any(token.text.lower() in ("stdin", "stdout") for token in significant):
        return "COPY from standard input requires psql; use INSERT"
    return ""
