"""Nested transactions of a session that writes, and the wait for the lock of dbctl."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dbctl import signals
from dbctl.engines.servers.connection import ServerConnection
from dbctl.errors.connection import BusyError

#: Seconds between two tries; short, so that signals are handled.
RETRY_SECONDS = 0.05
TRANSACTION_ENDED = "an earlier error ended the transaction"


class ServerTransactions(ABC):
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


def wait_for_lock(
    connection: ServerConnection[Any], try_lock: Callable[[], bool], describe_holder: Callable[[], str]
) -> None:
    """Call ``try_lock`` until it succeeds; ``describe_holder`` returns the holder as `` by …``.

    Raises:
        BusyError: another process held the lock until the timeout of the connection.
    """
    timeout = connection.timeout
    deadline = time.monotonic() + timeout
    while not try_lock():
        signals.raise_if_interrupted()
        if time.monotonic() >= deadline:
            raise BusyError(target=connection.target, holder=describe_holder(), waited=f"{timeout:g}")
        time.sleep(RETRY_SECONDS)
