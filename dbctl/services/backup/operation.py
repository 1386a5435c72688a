"""Base of the operations on backups: what is planned, confirmed and applied with a progress in bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from dbctl.errors import PlanChangedError
from dbctl.model import Plan
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.sources import ByteProgress, ignore_bytes


class BackupOperation(ABC):
    """A command on the repository of an app, which can be planned and applied."""

    purpose: ClassVar[str]  #: the command, shown to processes that wait for its lock

    def __init__(self, repository: Repository, database: str = "") -> None:
        """Set the repository, and the only database that the operation affects, if it affects only one."""
        app = repository.app
        self.app, self.protected = app.name, app.protected
        self.target = app.target(database) if database else app.name
        self._app, self._repository = app, repository
        self.advance: ByteProgress = (
            ignore_bytes  #: receives the number of bytes processed since the last call
        )

    def size(self) -> int:
        """Return the approximate number of bytes that ``advance`` receives."""
        return 0

    @abstractmethod
    def plan(self) -> Plan:
        """Return the effects of ``apply``; writes nothing, and raises the errors that are detected in advance."""

    @abstractmethod
    def apply(self, confirmed: str | None = None) -> object:
        """Perform the operation; ``confirmed`` is the digest of the plan that the user confirmed, if required."""

    def _advance(self, byte_count: int) -> None:
        self.advance(byte_count)

    def _lock(self) -> AbstractContextManager[None]:
        """Lock the repository; raises BusyError if another process holds the lock for too long."""
        return self._repository.store.lock(self.purpose, timeout=self._app.timeout)

    def _require_confirmed(self, confirmed: str | None, plan: Callable[[], Plan] | None = None) -> None:
        """Plan again, under the lock; ``plan`` replaces the method of this name.

        Raises:
            PlanChangedError: the plan differs from the confirmed plan; nothing was changed.
        """
        if confirmed is not None and (plan or self.plan)().digest != confirmed:
            raise PlanChangedError(target=self.target)

    def _create_plan(
        self, title: str, steps: Sequence[str], rows: Mapping[str, int] = {}, *, destructive: bool = False
    ) -> Plan:
        return Plan(title=title, target=self.target, steps=steps, rows=dict(rows), destructive=destructive)
