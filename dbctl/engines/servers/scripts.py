"""Run scripts that change the schema."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from dbctl.engines.servers.writer import ServerWriter


class ServerScripts(ABC):
    """What the parts ``ScriptRunner`` of all servers share."""

    def __init__(self, db: ServerWriter) -> None:
        self._connection, self._catalog, self._transactions = db.connection, db.catalog, db.transactions
        self._in_step_mode = False  #: whether statements may run outside a transaction

    @abstractmethod
    def run_statement(self, sql: str) -> None: ...

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        if self._transactions.depth:
            raise RuntimeError("step mode inside a transaction")
        self._in_step_mode = True
        try:
            with self._restore_settings():
                yield
        finally:
            self._in_step_mode = False

    @contextmanager
    def _restore_settings(self) -> Iterator[None]:
        """Let scripts change tables and settings; restore the settings of the session afterwards."""
        try:
            yield
        finally:
            self._catalog.forget()
            if self._connection.is_usable:
                self._connection.apply_settings()
