"""Make all tables of a database refuse writes, by triggers, which no session can leave out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract.migrations import ScriptRunner
from dbctl.engines.contract.reader import require_part

if TYPE_CHECKING:
    from dbctl.engines.sql.database import SqlDatabase


class SqlWriteLock(ABC):
    """The part ``WriteLock``."""

    exceptions: str

    def __init__(self, db: SqlDatabase) -> None:
        self._db = db

    @abstractmethod
    def list_locked(self) -> Sequence[str]: ...

    @abstractmethod
    def _lock_statements(self) -> Sequence[str]:
        """Return the statements that lock the tables that are not locked."""

    @abstractmethod
    def _unlock_statements(self) -> Sequence[str]:
        """Return the statements that unlock all tables."""

    def lock(self) -> None:
        self._run(self._lock_statements())

    def unlock(self) -> None:
        self._run(self._unlock_statements())

    def _run(self, statements: Sequence[str]) -> None:
        scripts = require_part(self._db, ScriptRunner, "the lock of a transfer", "")
        with scripts.schema_transaction():
            for sql in statements:
                scripts.run_statement(sql)
