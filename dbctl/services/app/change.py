"""A change told twice by the same code: as a plan, and as the work of one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Generic, TypeVar

import msgspec

from dbctl.engines.contract import Readable, Writable
from dbctl.errors import (
    AlongUnreachableError,
    ConstraintError,
    DatabaseMissingError,
    DriverMissingError,
    NotADatabaseError,
    PlanChangedError,
    UnreachableError,
)
from dbctl.model import Plan, counted
from dbctl.services.app.app import App

R = TypeVar("R")


class Draft(msgspec.Struct, Generic[R], frozen=True):
    """What a look at the database led to: the plan, and the work that carries it out."""

    plan: Plan
    work: Callable[[Writable], R]


def exactly(done: int, wanted: int, db: Writable) -> None:
    """Refuse a write that did not do what it was to do: a trigger of the app can swallow one without a word.

    Raises:
        ConstraintError: the number of rows is another one; the transaction around it is to be rolled back.
    """
    if done != wanted:
        reason = f"{counted(wanted, 'row')} had to be written, and it wrote {done}; a trigger may have kept it from it"
        raise ConstraintError(target=db.target, reason=reason)


@contextmanager
def reaching(app: App, name: str, to: str) -> Iterator[None]:
    """Tell that a database ``name`` cannot be got at as what keeps a change of ``to`` from being whole.

    Raises:
        AlongUnreachableError: opening it has failed.
    """
    try:
        yield
    except (DatabaseMissingError, DriverMissingError, NotADatabaseError, UnreachableError) as error:
        raise AlongUnreachableError(
            target=app.target(name), reason=str(error), to=to, instead=error.hint
        ) from error


class Change(Generic[R]):
    """What a writing command is about to do.

    ``draft`` reads, checks every invariant and returns plan and work. It runs once on a reader for ``plan``, and again
    inside the transaction for ``apply``: what was shown and what is done come from one description, and the
    invariants hold at the moment of the write.
    """

    def __init__(
        self,
        app: App,
        database: str,
        purpose: str,
        draft: Callable[[Readable], Draft[R]],
        *,
        prepare: Callable[[], None] | None = None,
        along: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """Describe a change of one database.

        Args:
            app: the app.
            database: the one that is changed.
            purpose: what for, for whoever has to wait.
            draft: what leads to plan and work.
            prepare: slow work before the transaction, hashing for one.
            along: tells which others are written, too. Their transactions hold open until this one is committed: where
                it fails, what was written there is taken back. A crash just before the commit leaves it written
                there alone, and then the same command finishes it: nothing here says yet that it was done.
        """
        self.app, self.protected, self.target = app.name, app.protected, app.target(database)
        self.draft = draft
        self._opened, self._database, self._purpose, self._prepare = app, database, purpose, prepare
        self._along = along

    def plan(self) -> Plan:
        """Return what would be done now; writes nothing, and needs no right to write."""
        return self.draft(self._opened.reader(self._database)).plan

    def apply(self, seen: str | None = None) -> R:
        """Do it in one transaction.

        Args:
            seen: digest of the plan that a person agreed to.

        Raises:
            PlanChangedError: the data has changed since, and with it the plan; nothing was done.
        """
        if self._prepare:
            self._prepare()
        with ExitStack() as others, self._opened.writer(self._database, self._purpose) as database:
            for name in self._along():
                with reaching(self._opened, name, self._database):
                    other = others.enter_context(self._opened.writer(name, self._purpose))
                    others.enter_context(other.transaction())
            return self._applied(database, seen)

    def _applied(self, database: Writable, seen: str | None) -> R:
        with self._transaction(database):
            drafted = self.draft(database)
            if seen is not None and drafted.plan.digest != seen:
                raise PlanChangedError(target=self.target)
            return drafted.work(database)

    def _transaction(self, database: Writable) -> AbstractContextManager[None]:
        return database.transaction()
