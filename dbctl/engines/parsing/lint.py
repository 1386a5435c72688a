"""Lint scripts by the words of their statements, without a connection.

Texts, comments and the bodies of functions are not examined.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

from dbctl.engines.contract.schema import LintFinding, Script
from dbctl.engines.parsing.lexer import Lexer
from dbctl.engines.parsing.statements import Statement, WordReader, read_words

#: The code and the message of a finding.
CodedMessage = tuple[str, str]


class Rule(NamedTuple):
    """A finding for the statements, or actions of ALTER TABLE, that match a pattern."""

    code: str
    pattern: str  #: as in ``WordReader.match``
    message: str  #: a template for the names in the pattern; of an action also for ``table``

    def match(self, words: WordReader, **names: str) -> CodedMessage | None:
        """Return the code and the message if the words match."""
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
        if statement.dropped and statement.dropped.kind == "table":
            for name in statement.dropped.names:
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
