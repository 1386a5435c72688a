"""The contract of engines that run scripts which change the schema."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from dbctl.model import Value

if TYPE_CHECKING:
    from dbctl.engines.contract.effects import Effect


class Script(Value, frozen=True, kw_only=True):
    """One way of a migration."""

    statements: Sequence[tuple[int, str]]  #: each with its line
    outside: bool = False  #: they run one by one, outside a transaction


class Hazard(Value, frozen=True):
    """What a statement may do to a database with rows and users."""

    line: int  #: where the statement begins; 0: it is about the script as a whole
    code: str
    message: str


class Language(Hashable, Protocol):
    """How an engine reads a script; needs no connection."""

    def split(self, text: str, *, outside: bool = False) -> Sequence[tuple[int, str]]:
        """Take a script apart: statements in order, each with the line it begins on (from 1).

        Each begins at its first word, so that it is stored without what precedes it. The last one may lack its semicolon.

        Raises:
            ValueError: the text ends inside a statement, a string or a comment, or holds a statement that
                ``Migrates.schema_transaction`` cannot hold, or ``step_by_step`` where the script is to run ``outside``;
                the message says on which line.
        """
        ...

    def effect(self, sql: str) -> Effect:
        """Return what one statement may take away, judged by its words."""
        ...

    def remarks(self, text: str) -> Sequence[tuple[int, str]]:
        """Return the comments that are lines of their own (``-- so``), each with its line (from 1) and without the dashes.

        One inside a string, another comment, brackets, or the body of a trigger or function is none of them.
        """
        ...

    def hazards(self, scripts: Iterable[Script]) -> Iterator[Sequence[Hazard]]:
        """Yield for each script, in the order in which they run, what is hazardous in it.

        What earlier ones make is known to later ones. The codes are those of which services say how grave each is.
        """
        ...


@runtime_checkable
class Migrates(Protocol):
    """Capability.MIGRATE."""

    language: Language
    #: Whether what a ``schema_transaction`` did is gone where it fails. Where not, each of its statements is a change of
    #: its own that stays once it has run; only what follows the last of them is one with the end of the transaction.
    takes_schema_back: bool

    #: How often a ``brief`` transaction is worth beginning where a lock was not to be had.
    lock_tries: int

    def schema_transaction(self, *, brief: bool = False) -> AbstractContextManager[None]:
        """A transaction for statements that change the schema; foreign keys rest meanwhile and are checked at its end.

        Args:
            brief: whether to wait for each lock only so long that those who queue behind are not kept for long.

        Raises:
            ConstraintError: rows would point to nothing that did not before; what can be rolled back was.
        """
        ...

    def step_by_step(self) -> AbstractContextManager[None]:
        """Room for statements outside a transaction: each is a change of its own, which stays once it has run.

        What they set for the session lasts until its end. Between two of them ``transaction`` may be used.
        """
        ...

    def run_statement(self, sql: str) -> None:
        """Run one statement of a script inside ``schema_transaction`` or ``step_by_step``; what would end or escape it is refused."""
        ...

    def drop_statements(self) -> Sequence[str]:
        """Return the statements that drop everything in the database's own schemas, for ``schema_transaction``.

        Raises:
            ConstraintError: something outside of them depends on what would be dropped.
        """
        ...

    def may_have_taken(self, table: str) -> bool:
        """Return whether the rows that ``table`` lacks since this transaction began may be its own doing; careful: mostly true.

        Where a server lets others delete rows meanwhile, it can know that this transaction did not.
        """
        ...

    def left_by(self, sql: str) -> Sequence[str]:
        """Return the statements that clear away what ``sql`` left behind when it failed outside a transaction; mostly none."""
        ...
