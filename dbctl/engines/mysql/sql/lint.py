"""Lint rules of MySQL and MariaDB: statements without rollback, table copies, and effects outside of the database."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from dbctl.engines.mysql.sql.lexer import LEXER
from dbctl.engines.parsing.lint import CodedMessage, Linter, parse_rules
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
