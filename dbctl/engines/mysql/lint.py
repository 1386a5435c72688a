"""Scripts of MySQL and MariaDB, and their lint rules; no driver is required."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from dbctl.engines.contract.schema import StatementEffect
from dbctl.engines.mysql.read_only import LEXER, split_variants
from dbctl.engines.parsing.lexer import Token
from dbctl.engines.parsing.lint import CodedMessage, Linter, parse_rules
from dbctl.engines.parsing.scripts import SqlScripts, analyze_effect
from dbctl.engines.parsing.statements import Statement, Word

#: Statements that commit implicitly.
_DDL_VERBS = ("create", "alter", "drop", "rename", "truncate", "optimize", "analyze", "grant", "revoke")
_DML_VERBS = ("insert", "update", "delete", "replace", "load")
#: The names of rows in a trigger.
_TRIGGER_ROWS = ("new", "old")


class MySQLLinter(Linter):
    """The lint rules of MySQL and MariaDB."""

    lexer = LEXER
    if_not_exists_kinds = ("table",)
    ignore_clauses = (("insert", "ignore"), ("on", "duplicate", "key"))
    #: Statements that affect the whole server, or run a text that cannot be checked.
    statement_rules = parse_rules("""
        external-side-effect  create|alter|drop user|role|database|schema|server|tablespace  {words} may affect more than this database
        external-side-effect  create or replace user                                {words} may affect more than this database
        external-side-effect  rename user                                           {words} may affect more than this database
        external-side-effect  set global|persist|password                           {words} may affect more than this database
        external-side-effect  grant|revoke|install|uninstall|flush|prepare|execute  {words} may affect more than this database
    """)
    action_rules = parse_rules("""
        changes-enum  modify [column] {name} enum|set         {table}.{name}: a value that is not added at the end copies the table, and a removed value is lost in the rows
        changes-enum  change [column] {name} {new} enum|set   {table}.{name}: a value that is not added at the end copies the table, and a removed value is lost in the rows
        copies-table  modify [column] {name} !enum|set        MODIFY of {table}.{name} copies the table, unless the type is unchanged
        copies-table  change [column] {name} {new} !enum|set  CHANGE of {table}.{name} copies the table, unless the type is unchanged
        copies-table  convert                                 CONVERT TO CHARACTER SET copies {table}, and may change which values are equal
        copies-table  drop primary                            DROP PRIMARY KEY copies {table}
        copies-table  add fulltext                            the first full-text index of {table} copies the whole table
    """)

    def check_script(self) -> Iterator[CodedMessage]:
        ddl_statements = [statement for statement in self.statements if statement.verb in _DDL_VERBS]
        if ddl_statements and len(self.statements) > 1:
            yield (
                "not-transactional",
                f"{len(self.statements)} statements, each of which remains if a later one fails",
            )
        if ddl_statements and any(
            statement.main_reader().peek() in _DML_VERBS for statement in self.statements
        ):
            yield "mixed-ddl-dml", "it changes the schema, which commits implicitly, and rows"

    def check_statement(self, statement: Statement) -> Iterator[CodedMessage]:
        yield from self._check_qualifiers(statement)
        created = statement.created
        if (
            created
            and created.kind == "index"
            and "fulltext" in created.modifiers
            and not self.is_new_table(created.table)
        ):
            yield "copies-table", f"the first full-text index of {created.table} copies the whole table"
        if statement.altered and not self.is_new_table(statement.altered):
            for action in statement.actions():
                names = action.match("change [column] {name} {new_name}")
                if names and names["new_name"] != names["name"]:
                    message = "{table}.{name} is renamed to {new_name}"
                    yield "renames", message.format(table=statement.altered, **names)

    def _check_qualifiers(self, statement: Statement) -> Iterator[CodedMessage]:
        words = statement.tokens
        unqualified = {
            word.text
            for position, word in enumerate(words)
            if _is_name(word) and not (position + 1 < len(words) and words[position + 1].text == ".")
        }
        # A qualifier that is neither a table nor an alias in the statement is a database.
        others = {
            word.text
            for word, following in pairwise(words)
            if following.text == "." and _is_name(word) and word.text not in {*unqualified, *_TRIGGER_ROWS}
        }
        for name in sorted(others):
            yield (
                "external-side-effect",
                f"the statement names database {name}, so it uses that database wherever it runs",
            )


def _is_name(word: Word) -> bool:
    return word.kind == "name" or (word.kind == "word" and not word.text[0].isdigit())


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

    lexer, linter = LEXER, MySQLLinter
    head_length = 12  # ``create definer = … trigger``

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


SCRIPTS = MySQLScripts()
