"""A change told twice by the same code: as a plan, and as the work of one transaction."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

import msgspec

from dbctl.engines.base import Readable, Writable
from dbctl.errors import ConstraintError, PlanChangedError
from dbctl.model import Plan, counted
from dbctl.services.apps import App

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
    ) -> None:
        """Describe a change of one database; ``prepare`` does slow work before the transaction, hashing for one."""
        self.app, self.protected, self.target = app.name, app.protected, app.target(database)
        self.draft = draft
        self._opened, self._database, self._purpose, self._prepare = app, database, purpose, prepare

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
        with self._opened.writer(self._database, self._purpose) as database, self._transaction(database):
            drafted = self.draft(database)
            if seen is not None and drafted.plan.digest != seen:
                raise PlanChangedError(target=self.target)
            return drafted.work(database)

    def _transaction(self, database: Writable) -> AbstractContextManager[None]:
        return database.transaction()
