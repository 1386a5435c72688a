"""Scripts of any dialect: split them into statements, read their comments, lint them, and estimate what a statement may delete.

The estimate is conservative: statements that are not known to be harmless may delete rows. The effects of functions and
triggers are not visible.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from dbctl.engines.contract.schema import LintFinding, Script, StatementEffect
from dbctl.engines.parsing.lexer import Lexer, Token
from dbctl.engines.parsing.lint import Linter
from dbctl.engines.parsing.statements import Statement, WordReader, read_words


class SqlScripts(ABC):
    """The ``ScriptDialect`` of an engine; tokens are those of one statement, without blanks and comments."""

    lexer: ClassVar[Lexer]
    #: number of tokens that identify a statement: ``create unique index concurrently``
    head_length: ClassVar[int]
    linter: ClassVar[type[Linter]]

    @abstractmethod
    def depth_change(self, tokens: Sequence[Token], depth: int) -> int:
        """Return the change of the nesting depth of bodies by the last of the statement's tokens."""

    @abstractmethod
    def find_refusal(self, tokens: Sequence[Token], *, outside: bool) -> str:
        """Return why a script must not contain the statement, also ``outside`` a transaction; empty if it may."""

    def split(self, text: str, *, outside_transaction: bool = False) -> list[tuple[int, str]]:
        text = text.removeprefix("\ufeff")
        statements: list[tuple[int, str]] = []
        tokens: list[Token] = []  # of the current statement, without blanks and comments
        depth = 0  # of bodies of functions and triggers
        line = token_line = 1  # of the current statement, and of the token

        def add_statement(end: int, terminator: str = "") -> None:
            if reason := self.find_refusal(tokens, outside=outside_transaction):
                raise ValueError(f"line {line}: {reason}")
            statements.append((line, text[tokens[0].start : end] + terminator))

        for token in self.lexer.tokenize(text):
            line = line if tokens else token_line
            token_line += token.text.count("\n")
            if not self.lexer.is_closed(token):
                is_outside = token.kind == "comment" and not tokens
                raise ValueError(
                    "the text ends inside a comment" if is_outside else _incomplete_message(line)
                )
            if token.kind in ("space", "comment"):
                continue
            if token.kind == "end" and not depth:
                if tokens:
                    add_statement(token.start + 1)
                tokens = []
                continue
            tokens.append(token)
            depth += self.depth_change(tokens, depth)
        if depth:
            raise ValueError(_incomplete_message(line))
        if tokens:
            add_statement(tokens[-1].start + len(tokens[-1].text), ";")
        return statements

    def comments(self, text: str) -> list[tuple[int, str]]:
        comments: list[tuple[int, str]] = []
        tokens: list[Token] = []  # of the current statement, without blanks and comments
        depth = brackets = 0
        line = 1
        text = text.removeprefix("\ufeff")
        for token in self.lexer.tokenize(text):
            if token.kind == "comment" and not (depth or brackets) and _is_line_comment(text, token):
                comments.append((line, token.text[2:].strip()))
            line += token.text.count("\n")
            if token.kind in ("space", "comment"):
                continue
            if token.kind == "end" and not depth:
                tokens, brackets = [], 0
                continue
            tokens.append(token)
            depth += self.depth_change(tokens, depth)
            brackets += {"(": 1, ")": -1}.get(token.text, 0)
        return comments

    def effect(self, sql: str) -> StatementEffect:
        return analyze_effect(self.lexer.tokenize(sql))

    def lint(self, scripts: Iterable[Script]) -> Iterator[Sequence[LintFinding]]:
        linter = self.linter()  # of successive scripts
        return (linter.lint(script) for script in scripts)

    def unsupported_reason(self, sql: str, *, outside: bool = False) -> str:
        """Return why ``schema_transaction``, or ``outside_transaction``, cannot run a statement; empty if it can."""
        return self.find_refusal(self.lexer.read_significant(sql), outside=outside)

    def head(self, tokens: Sequence[Token]) -> str:
        """Return the tokens that identify a statement, in lower case."""
        return " ".join(token.text.lower() for token in tokens[: self.head_length] if token.kind != "end")


def _is_line_comment(text: str, comment: Token) -> bool:
    """Whether a comment begins with two dashes, after only blanks on its line."""
    line_start = text.rfind("\n", 0, comment.start) + 1
    return comment.text.startswith("--") and not text[line_start : comment.start].strip("\ufeff \t\r\f")


def _incomplete_message(line: int) -> str:
    return f"the text ends inside the statement that begins on line {line}"


#: First words of statements that cannot delete rows; ``create table … as select`` may call a function that does.
_HARMLESS = frozenset(
    "analyze checkpoint cluster comment optimize pragma refresh reindex set vacuum".split()
) | {"alter index", "alter sequence", "alter type", "alter view", "drop index", "drop trigger", "drop view"}
_HARMLESS_KINDS = ("table", "index", "view", "trigger")
#: Objects without row values that ALTER TABLE can drop.
_NO_COLUMNS = frozenset("constraint index key primary foreign check".split())
#: Actions of ALTER TABLE that remove partitions or data files.
_PARTITION_ACTIONS = ("partition", "truncate", "exchange", "discard", "detach", "coalesce")
#: Objects whose DROP also drops tables or columns.
_CONTAINERS = frozenset("schema database owned extension type domain tablespace".split())
_BEFORE_NAMES = ("if", "exists", "only", "low_priority", "quick", "ignore", "table")
_SESSION = ("set", "pragma")
_GLOBAL_SCOPES = ("global", "persist", "persist_only")


def analyze_effect(tokens: Iterable[Token]) -> StatementEffect:
    """Return the effect of a statement; the tokens come from the engine that runs it."""
    statement = Statement(0, read_words(tokens))
    words = {word.text for word in statement.tokens if word.kind == "word"}
    head, second = statement.verb, statement.new_reader().peek(1)
    if head in _HARMLESS or f"{head} {second}".lower() in _HARMLESS:
        is_session = head in _SESSION and second not in _GLOBAL_SCOPES
        return StatementEffect(may_delete_rows="cascade" in words, session_only=is_session)
    if head == "create":
        return _analyze_create(statement, selects="select" in words)
    if head == "drop":
        return _analyze_drop(statement)
    if (head, second) == ("alter", "table"):
        return _analyze_alter(statement)
    if head == "insert" and words.isdisjoint(("replace", "delete", "truncate")):
        return StatementEffect(may_delete_rows=False)
    tables = list(_find_emptied_tables(statement))
    return StatementEffect(may_delete_rows=True, is_destructive=bool(tables), emptied_tables=tables)


def _analyze_create(statement: Statement, *, selects: bool) -> StatementEffect:
    created = statement.created
    is_table = created is not None and created.kind == "table"
    if created and is_table and "replace" in created.modifiers:
        return StatementEffect(may_delete_rows=True, is_destructive=True, dropped_tables=created.names[:1])
    is_harmless = created is not None and created.kind in _HARMLESS_KINDS and not (is_table and selects)
    return StatementEffect(may_delete_rows=not is_harmless)


def _analyze_drop(statement: Statement) -> StatementEffect:
    dropped, reader = statement.dropped, statement.new_reader()
    if dropped and dropped.kind == "table" and "foreign" not in dropped.modifiers:
        return StatementEffect(may_delete_rows=True, is_destructive=True, dropped_tables=dropped.names)
    is_destructive = not _CONTAINERS.isdisjoint((reader.peek(1), reader.peek(2)))
    return StatementEffect(may_delete_rows=True, is_destructive=is_destructive)


def _analyze_alter(statement: Statement) -> StatementEffect:
    """Return the effect of ALTER TABLE, which may have several actions."""
    actions = list(statement.actions())
    dropped = [action.peek(1) for action in actions if action.peek() == "drop"]
    drops_columns = not _NO_COLUMNS.issuperset(dropped)
    if any(action.contains(word) for action in actions for word in _PARTITION_ACTIONS):
        return StatementEffect(
            may_delete_rows=True,
            is_destructive=drops_columns,
            emptied_tables=[statement.altered] if drops_columns else (),
        )
    adds = not dropped and any(action.peek() in ("add", "rename") for action in actions)
    return StatementEffect(may_delete_rows=not adds, is_destructive=drops_columns)


def _find_emptied_tables(statement: Statement) -> Iterator[str]:
    """Yield the tables from which a statement, or one inside it, deletes rows."""
    reader, previous = statement.new_reader(), ""
    while reader:
        word = reader.peek()
        reader.position += 1
        if word == "truncate" or (word == "delete" and previous != "on"):
            names = _read_names(reader)
            # DELETE a, b FROM a JOIN b
            yield from names or (_read_names(reader) if reader.take("from") else ())
        previous = word


def _read_names(reader: WordReader) -> list[str]:
    """Read comma-separated names after the words that may precede them; none if FROM is next."""
    while reader.take_any(*_BEFORE_NAMES):
        pass
    return [] if reader.peek() == "from" else reader.read_names()
