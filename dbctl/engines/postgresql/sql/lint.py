"""Lint rules of PostgreSQL: locks, table scans and rewrites, and effects outside of the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from dbctl.engines.contract import LintFinding, Script
from dbctl.engines.parsing import (
    CodedMessage,
    Dialect,
    Linter,
    Statement,
    Token,
    WordReader,
    find_default,
    lint,
)
from dbctl.engines.postgresql.sql.lexer import tokenize

#: Functions with the same value for every row of a statement: a default that uses them is stored only once.
_STABLE_FUNCTIONS = frozenset(
    {
        "now",
        "transaction_timestamp",
        "statement_timestamp",
        "timezone",
        "date_trunc",
        "lower",
        "upper",
        "coalesce",
    }
) | {"to_char", "current_setting", "to_timestamp", "make_interval", "jsonb_build_object", "json_build_object"}
#: Words before parentheses that are not functions.
_TYPES = frozenset(
    {"varchar", "char", "character", "varying", "numeric", "decimal", "bit", "time", "timestamp"}
) | {
    "timestamptz",
    "timetz",
    "interval",
    "current_timestamp",
    "localtimestamp",
    "current_time",
    "localtime",
    "cast",
    "array",
    "in",
    "float",
}
_SERIAL = ("serial", "bigserial", "smallserial", "serial4", "serial8", "serial2")
#: Statements that affect the whole server, or another database of it.
_SERVER_STATEMENTS = (
    *(
        (verb, kind)
        for verb in ("create", "alter", "drop")
        for kind in ("role", "user", "group", "database", "tablespace", "subscription")
    ),
    ("alter", "system"),
    ("reassign", "owned"),
    ("drop", "owned"),
)


class PostgreSQLLinter(Linter):
    """The lint rules of PostgreSQL."""

    dialect = Dialect(if_not_exists_kinds=frozenset({"table", "index", "schema", "sequence", "extension"}))

    def tokenize(self, sql: str) -> Iterator[Token]:
        return tokenize(sql)

    def check_statement(self, statement: Statement) -> Iterator[CodedMessage]:
        yield from self._check_scope(statement)
        yield from self._check_indexes(statement)
        yield from self._check_locks(statement)
        yield from self._check_labels(statement)
        if statement.altered and not self.is_new_table(statement.altered):
            yield from self._check_columns(statement)
            for action in statement.actions():
                yield from self._check_action(statement.altered, action)

    def _check_indexes(self, statement: Statement) -> Iterator[CodedMessage]:
        created, dropped = statement.created, statement.dropped
        if created and created.kind == "index":
            if not (created.concurrently or self.is_new_table(created.table)):
                yield (
                    "index-locks",
                    f"CREATE INDEX blocks writes to {created.table} until it is complete",
                )
            self._created_indexes.update(created.names)
        if dropped and dropped.kind == "index" and not dropped.concurrently:
            for name in dropped.names:
                if name not in self._created_indexes:
                    yield (
                        "index-locks",
                        f"DROP INDEX {name} locks its table, and waits for all readers",
                    )

    def _check_locks(self, statement: Statement) -> Iterator[CodedMessage]:
        words = statement.new_reader()
        if words.take("lock"):
            words.take("table")
            words.take("only")
            yield "locks-table", f"LOCK blocks other sessions on {words.read_name()} until the migration ends"
        elif words.take("cluster"):
            yield (
                "locks-table",
                f"CLUSTER rewrites {words.read_name() or 'every table'} and locks it",
            )
        elif words.take("vacuum") and any(word.text == "full" for word in words.remaining):
            yield "locks-table", "VACUUM FULL rewrites tables and locks them"
        elif words.take("reindex") and not any(word.text == "concurrently" for word in words.remaining):
            yield "locks-table", "REINDEX blocks writes to the table until it is complete"
        elif words.take("refresh", "materialized", "view") and words.peek() != "concurrently":
            yield "locks-table", f"REFRESH blocks reads of {words.read_name()} until it is complete"

    def _check_labels(self, statement: Statement) -> Iterator[CodedMessage]:
        """Find uses of an enum label in the transaction that adds it."""
        for word in statement.tokens:
            if (
                word.kind == "text"
                and word.text in self._added_labels
                and not self.script.outside_transaction
            ):
                yield (
                    "enum-value-same-transaction",
                    f"{word.text} cannot be used in the migration that adds it",
                )
        words = statement.new_reader()
        if statement.created and statement.created.kind == "type":
            self._created_types.update(statement.created.names)
        if (
            words.take("alter", "type")
            and words.read_name() not in self._created_types
            and words.take("add", "value")
        ):
            words.take("if", "not", "exists")
            if words and words.remaining[0].kind == "text":
                self._added_labels.add(words.remaining[0].text)

    def _check_columns(self, statement: Statement) -> Iterator[CodedMessage]:
        for name, definition in statement.added_columns():
            kind, default = definition.peek(), find_default(definition)
            is_computed = definition.contains("generated")
            if kind in _SERIAL or is_computed or (default and _is_volatile(default)):
                yield (
                    "rewrites-table",
                    f"{statement.altered}.{name} gets a different value in each row, which rewrites the table",
                )
            has_default_value = default and [word.text for word in default.remaining] != ["null"]
            required = definition.contains("not", "null") or definition.contains("primary", "key")
            if required and not (has_default_value or is_computed or kind in _SERIAL):
                yield (
                    "not-null-without-default",
                    f"{statement.altered}.{name} is NOT NULL without a default, which fails if the table has rows",
                )

    def _check_action(self, table: str, action: WordReader) -> Iterator[CodedMessage]:
        if action.take("alter"):
            action.take("column")
            name = action.read_name()
            if action.take("type") or action.take("set", "data", "type"):
                yield (
                    "rewrites-table",
                    f"a type change of {table}.{name} rewrites the table, unless both types store values in the same way",
                )
            elif action.take("set", "not", "null"):
                yield (
                    "not-null-scans",
                    f"SET NOT NULL locks {table} while it scans all rows",
                )
        elif action.take("add"):
            constraint_name = action.take("constraint") and action.read_name()
            kind = action.take_any("foreign", "check", "primary", "unique", "exclude")
            constraint = f"{constraint_name or kind.upper()} of {table}"
            if kind in ("foreign", "check") and not action.contains("not", "valid"):
                yield "constraint-scans", f"{constraint} is checked for every row, which blocks writes"
            if kind in ("primary", "unique", "exclude") and not action.contains("using", "index"):
                yield "unique-locks", f"{constraint} creates an index, which locks the table"

    def _check_scope(self, statement: Statement) -> Iterator[CodedMessage]:
        texts = [word.text for word in statement.tokens]
        if statement.verb == "do":  # its body is a text token
            for word in statement.tokens:
                if word.kind == "text":
                    texts += [
                        token.text.lower() for token in tokenize(word.text.strip("$")) if token.kind == "word"
                    ]
        for prefix in _SERVER_STATEMENTS:
            starts = range(len(texts) if statement.verb == "do" else 1)
            if any(texts[start : start + 2] == [*prefix] for start in starts):
                yield "external-side-effect", f"{' '.join(prefix).upper()} affects more than this database"
        if statement.verb in ("grant", "revoke") and "on" not in texts:
            yield (
                "external-side-effect",
                f"{statement.verb.upper()} of a role affects more than this database",
            )
        if statement.verb == "copy" and statement.main_reader().contains("program"):
            yield "external-side-effect", "COPY … PROGRAM runs a program on the server"

    def lint(self, script: Script) -> list[LintFinding]:
        self._added_labels, self._created_types, self._created_indexes = set[str](), set[str](), set[str]()
        return super().lint(script)


def _is_volatile(default: WordReader) -> bool:
    """Return whether a default calls a function that may return a different value for each row."""
    words = default.remaining
    return any(
        word.kind in ("word", "name")
        and following.text == "("
        and word.text not in _STABLE_FUNCTIONS | _TYPES
        for word, following in pairwise(words)
    )


def lint_scripts(scripts: Iterable[Script]) -> Iterator[list[LintFinding]]:
    """Yield the findings of each script."""
    return lint.lint_scripts(PostgreSQLLinter(), scripts)
