"""Scripts of any dialect: split them into statements, lint these by their words, and estimate what one may delete; no connection is needed.

The estimate is conservative: statements that are not known to be harmless may delete rows. Texts, comments and the bodies of
functions are not linted, and the effects of functions and triggers are not visible.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

from dbctl.engines.contract.schema import LintFinding, Script, StatementEffect
from dbctl.engines.parsing.lexer import Lexer, Token
from dbctl.engines.parsing.statements import Statement, WordReader, read_words

#: The code and the message of a finding.
CodedMessage = tuple[str, str]


class Rule(NamedTuple):
    """A finding for the statements, or actions of ALTER TABLE, that match a pattern."""

    code: str
    pattern: str  #: as in ``WordReader.match``
    message: str  #: a template for the names in the pattern; of an action also for ``table``

    def match(self, words: WordReader, **names: str) -> CodedMessage | None:
        match = words.match(self.pattern)
        return None if match is None else (self.code, self.message.format_map({**names, **match}))


def parse_rules(table: str) -> Sequence[Rule]:
    """Return the rules of a table of text: a line each, whose columns are separated by two or more spaces."""
    return [Rule(*re.split(" {2,}", line.strip())) for line in table.strip().splitlines()]


class Linter(ABC):
    """Linter of scripts, in order, with the shared rules and those of an engine."""

    lexer: ClassVar[Lexer]
    statement_rules: ClassVar[Sequence[Rule]]
    #: rules for the actions of ALTER TABLE on tables that the script did not create
    action_rules: ClassVar[Sequence[Rule]] = ()
    #: kinds of objects whose CREATE supports IF NOT EXISTS
    if_not_exists_kinds: ClassVar[Sequence[str]] = ("table", "index", "view", "trigger")
    #: words with which INSERT skips existing rows
    ignore_clauses: ClassVar[Sequence[Sequence[str]]] = (("on", "conflict"),)

    @abstractmethod
    def check_statement(self, statement: Statement) -> Iterator[CodedMessage]:
        """Yield the engine's findings for a statement that no pattern can express."""

    def check_script(self) -> Iterator[CodedMessage]:
        """Yield the findings for the script as a whole."""
        yield from ()

    def lint(self, script: Script) -> list[LintFinding]:
        self.script = script
        self.statements = [
            Statement(line, read_words(self.lexer.tokenize(sql))) for line, sql in script.statements
        ]
        #: Kinds and names of the objects that the script created so far; it also inserted the rows of tables.
        self._new_objects = set[tuple[str, str]]()
        self.added_columns = set[tuple[str, str]]()  #: columns that the script added so far
        self._created_tables = {
            name
            for statement in self.statements
            if statement.created and statement.created.kind == "table"
            for name in statement.created.names
        }
        renames = (pair for statement in self.statements for pair in statement.renamed_tables())
        #: Tables that are replaced by a new table, after their rows were copied.
        self.rebuilt_tables = {new for old, new in renames if old in self._created_tables}
        findings: list[LintFinding] = []
        for statement in self.statements:
            for code, message in (
                *self._check_drops(statement),
                *self._check_deletions(statement),
                *self._check_renames(statement),
                *self._check_guards(statement),
                *filter(None, self._match_rules(statement)),
                *self.check_statement(statement),
            ):
                findings.append(LintFinding(statement.line, code, message))
            self._record_statement(statement)
        findings += [LintFinding(0, code, message) for code, message in self.check_script()]
        return findings

    def is_new(self, kind: str, name: str) -> bool:
        """Whether the script created the object."""
        return (kind, name) in self._new_objects

    def is_new_table(self, table: str) -> bool:
        """Whether the script created the table, so that no user waits for it or loses rows."""
        return self.is_new("table", table)

    def _match_rules(self, statement: Statement) -> Iterator[CodedMessage | None]:
        for rule in self.statement_rules:
            yield rule.match(statement.new_reader())
        if statement.altered and not self.is_new_table(statement.altered):
            for action in statement.actions():
                for rule in self.action_rules:
                    yield rule.match(WordReader(action.words), table=statement.altered)

    def _record_statement(self, statement: Statement) -> None:
        if created := statement.created:
            self._new_objects.update((created.kind, name) for name in created.names)
        for old, new in statement.renamed_tables():
            if self.is_new_table(old):
                self._new_objects.discard(("table", old))
                self._new_objects.add(("table", new))
        self.added_columns.update((statement.altered, name) for name, _ in statement.added_columns())

    def _check_drops(self, statement: Statement) -> Iterator[CodedMessage]:
        dropped = statement.dropped
        # the rows of a foreign table remain on its server
        if dropped and dropped.kind == "table" and "foreign" not in dropped.modifiers:
            for name in dropped.names:
                if not (self.is_new_table(name) or name in self.rebuilt_tables):
                    yield "drops-table", f"DROP TABLE {name} deletes its rows"
        for column in statement.dropped_columns():
            if (
                not self.is_new_table(statement.altered)
                and (statement.altered, column) not in self.added_columns
            ):
                yield "drops-column", f"dropping {statement.altered}.{column} deletes its values"

    def _check_deletions(self, statement: Statement) -> Iterator[CodedMessage]:
        reader = statement.main_reader()
        if reader.take("truncate"):
            reader.take("table")
            reader.take("only")
            for name in reader.read_names():
                if not self.is_new_table(name):
                    yield "deletes-all", f"TRUNCATE deletes every row of {name}"
        elif reader.take("delete"):
            yield from self._check_delete(reader)
        elif reader.take("update"):
            yield from self._check_update(reader)

    def _check_delete(self, reader: WordReader) -> Iterator[CodedMessage]:
        reader.skip_past("from")
        reader.take("only")
        name = reader.read_name()
        if self.is_new_table(name):
            return
        if reader.contains("where"):
            yield "deletes-rows", f"DELETE removes rows of {name}"
        else:
            yield "deletes-all", f"DELETE without WHERE removes every row of {name}"

    def _check_update(self, reader: WordReader) -> Iterator[CodedMessage]:
        while reader.take_any("or", "ignore", "replace", "rollback", "abort", "fail", "low_priority", "only"):
            pass
        name = reader.read_name()
        if self.is_new_table(name) or reader.contains("where") or not reader.skip_past("set"):
            return
        columns = [part.read_name() for part in reader.split_at_commas()]
        if not all((name, column) in self.added_columns for column in columns):
            yield "updates-all", f"UPDATE without WHERE changes every row of {name}"

    def _check_renames(self, statement: Statement) -> Iterator[CodedMessage]:
        for old, new in statement.renamed_tables():
            if not (old in self._created_tables or self.is_new_table(old)):
                yield "renames", f"{old} is renamed to {new}"
        column = statement.renamed_column()
        if column and not self.is_new_table(statement.altered):
            yield "renames", f"{statement.altered}.{column} is renamed"

    def _check_guards(self, statement: Statement) -> Iterator[CodedMessage]:
        """Yield findings for rules that only some apps enable."""
        if (
            (created := statement.created)
            and created.kind in self.if_not_exists_kinds
            and not created.has_guard
        ):
            message = f"CREATE {created.kind.upper()} {_join_names(created.names)} without IF NOT EXISTS"
            yield "no-if-not-exists", message
        if (
            (dropped := statement.dropped)
            and not dropped.has_guard
            and not self._is_known_to_exist(dropped.names)
        ):
            yield (
                "no-if-exists",
                f"DROP {dropped.kind.upper()} {_join_names(dropped.names)} without IF EXISTS",
            )
        reader = statement.main_reader()
        ignores = any(reader.contains(*keys) for keys in self.ignore_clauses)
        if reader.take("insert") and reader.contains("values") and not ignores:
            reader.skip_past("into")
            message = f"INSERT INTO {reader.read_name()} does not skip existing rows"
            yield "no-insert-or-ignore", message

    def _is_known_to_exist(self, names: Sequence[str]) -> bool:
        """Whether the script itself shows that these objects exist."""
        return all(self.is_new_table(name) or name in self.rebuilt_tables for name in names)


def _join_names(names: Sequence[str]) -> str:
    return ", ".join(map(str, names))


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


def find_lock_release(tokens: Sequence[Token], function: str) -> str:
    """Return why a script must not contain a statement that calls ``function``, which releases all locks, or that does the same.

    The result is empty if it does not; the definition of a function may contain such a call.
    """
    words = [token.text.lower() for token in tokens]
    if words[:2] == ["discard", "all"]:
        return "DISCARD ALL would release the lock of dbctl"
    is_called = words[:1] != ["create"] and (function, "(") in pairwise(words)
    return f"{function} would release the lock of dbctl" if is_called else ""


def _is_line_comment(text: str, comment: Token) -> bool:
    """Whether a comment begins with two dashes, after only blanks on its line."""
    line_start = max(text.rfind("\n", 0, comment.start), text.rfind("\r", 0, comment.start)) + 1
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
#: Words after a table that are no alias of it.
_AFTER_TABLE = frozenset(
    """cross force from full group having ignore inner join left limit natural on order partition returning right set
    straight_join use using where""".split()
)
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
    is_temporary = created is not None and not created.modifiers.isdisjoint(("temp", "temporary"))
    return StatementEffect(
        may_delete_rows=not is_harmless, temporary_names=created.names if created and is_temporary else ()
    )


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
    reader, previous, aliases = statement.new_reader(), "", _read_aliases(statement.new_reader())
    while reader:
        word = reader.peek()
        reader.position += 1
        if word == "truncate" or (word == "delete" and previous != "on"):
            names = _read_names(reader)
            # DELETE a, b FROM a JOIN b
            for name in names or (_read_names(reader) if reader.take("from") else ()):
                yield aliases.get(name, name)
        previous = word


def _read_aliases(reader: WordReader) -> dict[str, str]:
    """Return the tables of a statement by their aliases: MySQL deletes from ``x`` in DELETE x FROM a AS x."""
    aliases = dict[str, str]()
    while reader:
        if not reader.take_any("from", "join", "using", ","):
            reader.position += 1
            continue
        reader.take_any("only", "lateral")
        if name := reader.read_name():
            reader.take("as")
            if (
                reader.remaining
                and reader.remaining[0].kind in ("word", "name")
                and reader.peek() not in _AFTER_TABLE
            ):
                aliases[reader.read_name()] = name
    return aliases


def _read_names(reader: WordReader) -> list[str]:
    """Read comma-separated names after the words that may precede them; none if FROM is next."""
    while reader.take_any(*_BEFORE_NAMES):
        pass
    return [] if reader.peek() == "from" else reader.read_names()
