"""Contract: scripts that change the schema."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from dbctl.model import Struct


class Script(Struct, frozen=True, kw_only=True):
    """One direction of a migration."""

    statements: Sequence[tuple[int, str]]  #: each with its line number
    outside_transaction: bool = False  #: the statements run one by one, without a transaction


class LintFinding(Struct, frozen=True):
    """A risk of running a statement on a database in use."""

    line: int  #: the first line of the statement; 0: the script as a whole
    code: str
    message: str


class StatementEffect(Struct, frozen=True, kw_only=True):
    """The tables and rows that one statement may delete."""

    may_delete_rows: bool  #: it may delete rows
    is_destructive: bool = False  #: it deletes rows, or drops a table, a column or another object with data
    dropped_tables: Sequence[str] = ()  #: the tables that it drops, without schema
    emptied_tables: Sequence[str] = ()  #: the tables from which it deletes rows
    session_only: bool = False  #: it only changes a setting of the session


class ScriptDialect(Hashable, Protocol):
    """The SQL dialect of an engine's scripts; requires no connection."""

    def split(self, text: str, *, outside_transaction: bool = False) -> Sequence[tuple[int, str]]:
        """Split a script into statements, each with its first line (from 1).

        Each statement begins at its first word, without preceding comments. The last one may lack its semicolon.

        Raises:
            ValueError: the text ends inside a statement, a string or a comment, or contains a statement that cannot run
                in ``ScriptRunner.schema_transaction`` (or ``outside_transaction``). The message contains the line.
        """
        ...

    def effect(self, sql: str) -> StatementEffect:
        """Return what one statement may delete, determined from its text only."""
        ...

    def comments(self, text: str) -> Sequence[tuple[int, str]]:
        """Return the comments on separate lines (``-- text``), each with its line (from 1) and without dashes.

        Comments inside a string, another comment, parentheses, or the body of a trigger or function are not included.
        """
        ...

    def lint(self, scripts: Iterable[Script]) -> Iterator[Sequence[LintFinding]]:
        """Yield the findings of each script, in the order in which the scripts run.

        Objects that earlier scripts create are taken into account. The services define the severity of each code.
        """
        ...


@runtime_checkable
class ScriptRunner(Protocol):
    """The part of a writer that runs scripts which change the schema."""

    script_dialect: ScriptDialect
    #: Whether a failed ``schema_transaction`` is rolled back. If not, each statement is committed separately, and
    #: only the changes after the last statement, such as the row in the ledger, are part of the final transaction.
    transactional_ddl: bool

    #: How many attempts at a ``schema_transaction`` with short waits are useful when a lock is not available.
    lock_attempts: int

    def schema_transaction(self, *, short_waits: bool = False) -> AbstractContextManager[None]:
        """A transaction for statements that change the schema; foreign keys are checked at its end only.

        Args:
            short_waits: wait for each lock only briefly, so that sessions in the lock's queue are not blocked for long.

        Raises:
            ConstraintError: the script creates orphaned rows; its changes were rolled back as far as possible.
        """
        ...

    def outside_transaction(self) -> AbstractContextManager[None]:
        """A context for statements outside a transaction, each of which is committed separately.

        Session settings last until the end of the context. Between two statements ``transaction`` may be used.
        """
        ...

    def run_statement(self, sql: str) -> None:
        """Run one statement of a script in ``schema_transaction`` or ``outside_transaction``; transaction control is rejected."""
        ...

    def drop_statements(self) -> Sequence[str]:
        """Return the statements that drop everything in the database's schemas, for ``schema_transaction``.

        Raises:
            ConstraintError: an object in another schema depends on an object to drop.
        """
        ...

    def may_have_deleted(self, table: str) -> bool:
        """Return whether this transaction may have deleted the rows that ``table`` lost since it began; if unknown, True.

        On a server, where other sessions may delete rows concurrently, the engine may know that this transaction did not
        delete them.
        """
        ...

    def cleanup_statements(self, sql: str) -> Sequence[str]:
        """Return the statements that remove what a failed ``sql`` left outside a transaction; usually empty."""
        ...
