"""Nested transactions of a session that writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dbctl.engines.servers.connection import ServerConnection

TRANSACTION_ENDED = "an earlier error ended the transaction"


class ServerTransactions(ABC):
    """The open transactions of one connection."""

    depth = 0  #: number of nested transactions

    def __init__(self, connection: ServerConnection[Any]) -> None:
        self._connection = connection

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Begin a transaction, commit at the end, roll back on any exception; nested, it is a savepoint."""

    @abstractmethod
    def require(self) -> None:
        """Refuse to write without an open transaction."""

    @abstractmethod
    def _roll_back(self, sql: str) -> None:
        """Roll back with ``sql``, or close the session; never raise."""

    @contextmanager
    def begin(self, statement: str) -> Iterator[None]:
        """Run a transaction that starts with ``statement``, or a savepoint inside another transaction."""
        nested = self.depth
        begin, commit, rollback = (
            (f"savepoint s{nested}", f"release savepoint s{nested}", f"rollback to savepoint s{nested}")
            if nested
            else (statement, "commit", "rollback")
        )
        try:
            self._connection.run(begin)
            self.depth += 1
            yield
            self.require()  # a server would commit a part, or nothing, without an error
            self._connection.run(commit)
        except BaseException:  # also on a signal: an incomplete change must be rolled back
            self._roll_back(rollback)
            raise
        finally:
            self.depth = nested
