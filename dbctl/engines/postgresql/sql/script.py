"""Split PostgreSQL scripts into statements, without a connection."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dbctl.engines.parsing.lexer import Token
from dbctl.engines.parsing.lint import Linter
from dbctl.engines.parsing.scripts import SqlScripts
from dbctl.engines.parsing.statements import unquote_name
from dbctl.engines.postgresql.sql.lexer import LEXER

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


class PostgreSQLScripts(SqlScripts):
    """The scripts of PostgreSQL."""

    lexer, head_length = LEXER, 5

    def depth_change(self, tokens: Sequence[Token], depth: int) -> int:
        """Return the change of the nesting depth at the last token; BEGIN ATOMIC … END is the body of a function."""
        word = tokens[-1].text.lower() if tokens[-1].kind == "word" else ""
        if word == "atomic" and tokens[-2:-1] and tokens[-2].text.lower() == "begin":
            return 1
        if depth and word == "case":
            return 1
        return -1 if depth and word == "end" else 0

    def find_refusal(self, tokens: Sequence[Token], *, outside: bool) -> str:
        if tokens and tokens[0].text == "\\":
            return "commands that begin with a backslash require psql"
        head = self.head(tokens)
        if match := _TRANSACTION_STATEMENTS.match(head):
            return f"{match.group().upper()} would begin or end the transaction of the script"
        if match := _SERVER_STATEMENTS.match(head) or (None if outside else _NOT_IN_TRANSACTION.match(head)):
            return f"{match.group().upper()} is not possible inside the transaction of the script"
        if head.startswith("copy ") and any(token.text.lower() in ("stdin", "stdout") for token in tokens):
            return "COPY from standard input requires psql; use INSERT"
        return ""

    def new_linter(self) -> Linter:
        from dbctl.engines.postgresql.sql.lint import PostgreSQLLinter

        return PostgreSQLLinter()


SCRIPTS = PostgreSQLScripts()


def remove_concurrently(sql: str) -> str:
    """Return a statement without CONCURRENTLY, for a transaction without other sessions; empty if nothing remains to be run."""
    significant = LEXER.read_significant(sql)
    if not _NOT_IN_TRANSACTION.match(SCRIPTS.head(significant)):
        return sql
    start = next((token.start for token in significant if token.text.lower() == "concurrently"), -1)
    return sql[:start] + sql[start + len("concurrently") :] if start >= 0 else ""


def find_concurrent_index(sql: str) -> str:
    """Return the unquoted name of the index that CREATE INDEX CONCURRENTLY creates; empty for others, or without a name."""
    significant = LEXER.read_significant(sql)
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
    return unquote_name(name.text) if name.kind == "name" else words[position]
