"""Lint rules of MySQL and MariaDB: statements without rollback, table copies, and effects outside of the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from dbctl.engines.contract import LintFinding, Script
from dbctl.engines.mysql.sql.lexer import tokenize
from dbctl.engines.parsing import CodedMessage, Dialect, Linter, Statement, Token, Word, WordReader, lint

#: Statements that commit implicitly.
_DDL_VERBS = ("create", "alter", "drop", "rename", "truncate", "optimize", "analyze", "grant", "revoke")
_DML_VERBS = ("insert", "update", "delete", "replace", "load")
#: Statements that affect the whole server, or run a text that cannot be checked.
_SERVER_STATEMENTS = (
    *(
        (verb, kind)
        for verb in ("create", "alter", "drop")
        for kind in ("user", "role", "database", "schema", "server", "tablespace")
    ),
    ("create", "or", "replace", "user"),
    ("rename", "user"),
    ("set", "global"),
    ("set", "persist"),
    ("set", "password"),
    ("grant",),
    ("revoke",),
    ("install",),
    ("uninstall",),
    ("flush",),
    ("prepare",),
    ("execute",),
)
#: The names of rows in a trigger.
_TRIGGER_ROWS = ("new", "old")


class MySQLLinter(Linter):
    """The lint rules of MySQL and MariaDB."""

    dialect = Dialect(
        if_not_exists_kinds=frozenset({"table"}),
        ignore_clauses=(("insert", "ignore"), ("on", "duplicate", "key")),
    )

    def tokenize(self, sql: str) -> Iterator[Token]:
        return tokenize(sql)

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
        yield from self._check_scope(statement)
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
                yield from self._check_action(statement.altered, action)

    def _check_action(self, table: str, action: WordReader) -> Iterator[CodedMessage]:
        verb = action.take_any("modify", "change", "convert", "drop", "add")
        if verb in ("modify", "change"):
            action.take("column")
            name = action.read_name()
            if verb == "change" and (new_name := action.read_name()) != name:
                yield "renames", f"{table}.{name} is renamed to {new_name}"
            if action.peek() in ("enum", "set"):
                yield (
                    "changes-enum",
                    f"{table}.{name}: a value that is not added at the end copies the table, and a removed value is lost in the rows",
                )
            else:
                yield (
                    "copies-table",
                    f"{verb.upper()} of {table}.{name} copies the table, unless the type is unchanged",
                )
        elif verb == "convert":
            yield (
                "copies-table",
                f"CONVERT TO CHARACTER SET copies {table}, and may change which values are equal",
            )
        elif verb == "drop" and action.take("primary"):
            yield "copies-table", f"DROP PRIMARY KEY copies {table}"
        elif verb == "add" and action.take("fulltext"):
            yield "copies-table", f"the first full-text index of {table} copies the whole table"

    def _check_scope(self, statement: Statement) -> Iterator[CodedMessage]:
        for prefix in _SERVER_STATEMENTS:
            if statement.new_reader().take(*prefix):
                yield "external-side-effect", f"{' '.join(prefix).upper()} may affect more than this database"
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


def lint_scripts(scripts: Iterable[Script]) -> Iterator[list[LintFinding]]:
    """Yield the findings of each script."""
    return lint.lint_scripts(MySQLLinter(), scripts)
