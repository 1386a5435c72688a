"""Scripts of any dialect: split them into statements, read their comments, lint them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from dbctl.engines.contract.schema import LintFinding, Script, StatementEffect
from dbctl.engines.parsing.effects import analyze_effect
from dbctl.engines.parsing.lexer import Lexer, Token
from dbctl.engines.parsing.lint import Linter


class SqlScripts(ABC):
    """The ``ScriptDialect`` of an engine; tokens are those of one statement, without blanks and comments."""

    lexer: ClassVar[Lexer]
    head_length: ClassVar[
        int
    ]  #: number of tokens that identify a statement: ``create unique index concurrently``

    @abstractmethod
    def depth_change(self, tokens: Sequence[Token], depth: int) -> int:
        """Return the change of the nesting depth of bodies by the last of the statement's tokens."""

    @abstractmethod
    def find_refusal(self, tokens: Sequence[Token], *, outside: bool) -> str:
        """Return why a script must not contain the statement, also ``outside`` a transaction; empty if it may."""

    @abstractmethod
    def new_linter(self) -> Linter:
        """Return a linter of successive scripts."""

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
        linter = self.new_linter()
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
