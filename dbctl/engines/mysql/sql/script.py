"""Split MySQL scripts into statements, without a connection."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dbctl.engines.contract.schema import StatementEffect
from dbctl.engines.mysql.sql.lexer import LEXER, split_variants
from dbctl.engines.parsing.effects import analyze_effect
from dbctl.engines.parsing.lexer import Token
from dbctl.engines.parsing.lint import Linter
from dbctl.engines.parsing.scripts import SqlScripts

_TRANSACTION_STATEMENTS = re.compile(
    r"(?:begin|commit|rollback|savepoint|release|start transaction|xa|lock tables?|unlock tables?|set autocommit|set sql_mode|set names|use)\b"
)
#: Statements about another database, or about the database itself.
_SERVER_STATEMENTS = re.compile(r"(?:create|drop) (?:database|schema)\b")
_BODY = re.compile(r"create\b.*\b(?:trigger|procedure|function|event|package)\b")
#: Blocks that end with END IF and similar words, and that do not begin with a counted word.
_LOOPS = ("if", "loop", "while", "repeat", "for")


class MySQLScripts(SqlScripts):
    """The scripts of MySQL and MariaDB, where a schema change is never inside a transaction."""

    lexer, head_length = LEXER, 12  # ``create definer = … trigger``

    def depth_change(self, tokens: Sequence[Token], depth: int) -> int:
        """Return 1 if the body of a trigger, or a block in it, begins with the last token, -1 if one ends."""
        word = tokens[-1].text.lower() if tokens[-1].kind == "word" else ""
        before = tokens[-2].text.lower() if tokens[-2:-1] else ""
        if word == "begin" and (depth or _BODY.match(self.head(tokens))):
            return 1
        if depth and word == "case" and before != "end":
            return 1
        if before == "end" and word in _LOOPS:
            return 1  # this END closes no counted block
        return -1 if depth and word == "end" else 0

    def find_refusal(self, tokens: Sequence[Token], *, outside: bool) -> str:
        del outside
        head = self.head(tokens)
        if head.startswith("delimiter"):
            return "DELIMITER requires the mysql client; omit it, and end a body with END;"
        if head.startswith(("source ", "\\")):
            return "such commands require the mysql client"
        if match := _TRANSACTION_STATEMENTS.match(head):
            return f"{match.group().upper()} would change the transaction or the session of the script"
        if match := _SERVER_STATEMENTS.match(head):
            return f"{match.group().upper()} affects more than this database"
        if any(token.kind == "text" and "\\" in token.text for token in tokens):
            return "the meaning of a backslash in a text depends on sql_mode; use x'5c', or char(10)"
        return ""

    def effect(self, sql: str) -> StatementEffect:
        """Return the effect of one statement, with and without the parts that only some servers run."""
        effects = [analyze_effect(read) for read in split_variants(sql)]
        return StatementEffect(
            may_delete_rows=any(variant.may_delete_rows for variant in effects),
            is_destructive=any(variant.is_destructive for variant in effects),
            dropped_tables=[name for variant in effects for name in variant.dropped_tables],
            emptied_tables=[name for variant in effects for name in variant.emptied_tables],
            session_only=all(variant.session_only for variant in effects),
        )

    def new_linter(self) -> Linter:
        from dbctl.engines.mysql.sql.lint import MySQLLinter

        return MySQLLinter()


SCRIPTS = MySQLScripts()
