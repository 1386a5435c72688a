"""Tokens of PostgreSQL's SQL, scripts of it, and their problems."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from dbctl.engines.contract.schema import LintFinding, Script
from dbctl.engines.parsing.lexer import Lexer, Token, TokenPattern
from dbctl.engines.parsing.lint import CodedMessage, Linter, parse_rules
from dbctl.engines.parsing.scripts import SqlScripts
from dbctl.engines.parsing.statements import Statement, WordReader, find_default, read_words

#: A word includes the letters before a quote, so that only a lone E or e begins a string with escapes. Unlike in standard
#: SQL, comments nest.
LEXER = Lexer(
    [
        TokenPattern("text", r"[eE]'(?:[^'\\]|\\.|'')*", "'"),
        TokenPattern("text", "'[^']*", "'"),
        TokenPattern("text", r"(?P<dollar>\$(?:[^\W\d]\w*)?\$).*?", "(?P=dollar)"),
        TokenPattern("name", '"[^"]*', '"'),
        TokenPattern("comment", r"--[^\n]*"),
        TokenPattern("comment", r"/\*"),
        TokenPattern("space", r"\s+"),
        TokenPattern("word", r"\w[\w$]*"),
        TokenPattern("parameter", r":[^\W\d]\w*"),
        TokenPattern("end", ";"),
        TokenPattern("sign", r"::|\$\d+|."),
    ],
    nests_comments=True,
)


#: Functions with the same value for every row of a statement: a default that uses them is stored only once.
_STABLE_FUNCTIONS = frozenset(
    """now transaction_timestamp statement_timestamp timezone date_trunc lower upper coalesce to_char current_setting
    to_timestamp make_interval jsonb_build_object json_build_object""".split()
)
#: Words before parentheses that are not functions.
_TYPES = frozenset(
    """varchar char character varying numeric decimal bit time timestamp timestamptz timetz interval
    current_timestamp localtimestamp current_time localtime cast array in float""".split()
)
_SERIAL = ("serial", "bigserial", "smallserial", "serial4", "serial8", "serial2")
#: Statements that affect the whole server, or another database of it; also inside DO.
_SERVER_RULES = parse_rules("""
    external-side-effect  create|alter|drop role|user|group|database|tablespace|subscription  {words} affects more than this database
    external-side-effect  alter system                                                        {words} affects more than this database
    external-side-effect  reassign|drop owned                                                 {words} affects more than this database
""")


class PostgreSQLLinter(Linter):
    """The lint rules of PostgreSQL."""

    lexer = LEXER
    if_not_exists_kinds = ("table", "index", "schema", "sequence", "extension")
    statement_rules = (
        *_SERVER_RULES,
        *parse_rules("""
            external-side-effect  copy +program               COPY … PROGRAM runs a program on the server
            external-side-effect  grant|revoke -on            {words} of a role affects more than this database
            locks-table           lock [table] [only] {name}  LOCK blocks other sessions on {name} until the migration ends
            locks-table           refresh materialized view !concurrently {name}  REFRESH blocks reads of {name} until it is complete
        """),
    )
    action_rules = parse_rules("""
        rewrites-table    alter [column] {name} [set] [data] type            a type change of {table}.{name} rewrites the table, unless both types store values in the same way
        not-null-scans    alter [column] {name} set not null                 SET NOT NULL locks {table} while it scans all rows
        constraint-scans  add constraint {name} foreign|check -not_valid     {name} of {table} is checked for every row, which blocks writes
        constraint-scans  add foreign|check -not_valid                       {word} of {table} is checked for every row, which blocks writes
        unique-locks      add constraint {name} primary|unique|exclude -using_index  {name} of {table} creates an index, which locks the table
        unique-locks      add primary|unique|exclude -using_index            {word} of {table} creates an index, which locks the table
    """)

    def check_statement(self, statement: Statement) -> Iterator[CodedMessage]:
        yield from self._check_blocks(statement)
        yield from self._check_indexes(statement)
        yield from self._check_locks(statement)
        yield from self._check_labels(statement)
        if statement.altered and not self.is_new_table(statement.altered):
            yield from self._check_columns(statement)

    def _check_indexes(self, statement: Statement) -> Iterator[CodedMessage]:
        created, dropped = statement.created, statement.dropped
        if (
            created
            and created.kind == "index"
            and not (created.concurrently or self.is_new_table(created.table))
        ):
            yield "index-locks", f"CREATE INDEX blocks writes to {created.table} until it is complete"
        if dropped and dropped.kind == "index" and not dropped.concurrently:
            for name in dropped.names:
                if not self.is_new("index", name):
                    yield ("index-locks", f"DROP INDEX {name} locks its table, and waits for all readers")

    def _check_locks(self, statement: Statement) -> Iterator[CodedMessage]:
        words = statement.new_reader()
        if words.take("cluster"):
            yield ("locks-table", f"CLUSTER rewrites {words.read_name() or 'every table'} and locks it")
        elif words.take("vacuum") and any(word.text == "full" for word in words.remaining):
            yield "locks-table", "VACUUM FULL rewrites tables and locks them"
        elif words.take("reindex") and not any(word.text == "concurrently" for word in words.remaining):
            yield "locks-table", "REINDEX blocks writes to the table until it is complete"

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
        names = words.match("alter type {name} add value")
        if names and not self.is_new("type", names["name"]):
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

    def _check_blocks(self, statement: Statement) -> Iterator[CodedMessage]:
        """Apply the rules for statements that affect the whole server to each word of a DO block."""
        if statement.verb == "do":
            bodies = (word.text.strip("$") for word in statement.tokens if word.kind == "text")
            words = [word for body in bodies for word in read_words(LEXER.tokenize(body))]
            for rule in _SERVER_RULES:
                starts = (rule.match(WordReader(words[start:])) for start in range(len(words)))
                yield from dict.fromkeys(filter(None, starts))

    def lint(self, script: Script) -> list[LintFinding]:
        self._added_labels = set[str]()
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

    lexer, head_length, linter = LEXER, 5, PostgreSQLLinter

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
    reader = WordReader(read_words(LEXER.tokenize(sql)))
    if reader.match("create [unique] index concurrently") is None:
        return ""
    reader.take("if", "not", "exists")
    if not reader or reader.peek() == "on":
        return ""
    name = reader.remaining[0]
    return str(name.text) if name.kind == "name" else name.text.lower()
