"""Base of the operations on backups: what is planned, confirmed and applied with a progress in bytes."""

from __future__ import annotations

from contextlib import AbstractContextManager

from dbctl.services.app.change import Operation
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.sources import ByteProgress, ignore_bytes


class BackupOperation(Operation):
    """A command on the repository of an app, which can be planned and applied."""

    def __init__(self, repository: Repository, database: str = "") -> None:
        """Set the repository, and the only database that the operation affects, if it affects only one."""
        app = repository.app
        super().__init__(app, app.target(database) if database else "")
        self._repository = repository
        self.advance: ByteProgress = (
            ignore_bytes  #: receives the number of bytes processed since the last call
        )

    def size(self) -> int:
        """Return the approximate number of bytes that ``advance`` receives."""
        return 0

    def _advance(self, byte_count: int) -> None:
        self.advance(byte_count)

    def _lock(self) -> AbstractContextManager[None]:
        """Lock the repository; raises BusyError if another process holds the lock for too long."""
        return self._repository.store.lock(self._app.spec.name, timeout=self._app.timeout)
