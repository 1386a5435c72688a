"""Write on a server: nested transactions, and the lock against other dbctl processes."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dbctl import signals
from dbctl.engines.servers.connection import S, ServerConnection
from dbctl.errors import BusyError

#: Seconds between two tries for the lock of dbctl; short, so that signals are handled.
RETRY_SECONDS = 0.05
TRANSACTION_ENDED = "an earlier error ended the transaction"


class ServerWriter(ServerConnection[S]):
    """A session that may write."""

    read_only = False
    _depth = 0  #: number of nested transactions
    _in_step_mode = False  #: whether statements may run outside a transaction

    @abstractmethod
    def _require_transaction(self) -> None:
        """Refuse to write without an open transaction."""

    @abstractmethod
    def _roll_back(self, sql: str) -> None:
        """Roll back with ``sql``, or close the session; never raise."""

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        """Run a transaction that starts with ``begin``, or a savepoint inside another transaction."""
        nested = self._depth
        begin, commit, rollback = (
            (f"savepoint s{nested}", f"release savepoint s{nested}", f"rollback to savepoint s{nested}")
            if nested
            else (begin, "commit", "rollback")
        )
        try:
            self._control_transaction(begin)
            self._depth += 1
            yield
            self._require_transaction()  # a server would commit a part, or nothing, without an error
            self._control_transaction(commit)
        except BaseException:  # also on a signal: an incomplete change must be rolled back
            self._roll_back(rollback)
            raise
        finally:
            self._depth = nested

    def _apply_settings(self) -> None:
        with self._translate_errors("set"):
            self._require_session().apply_settings()

    @contextmanager
    def _restore_settings(self) -> Iterator[None]:
        """Let scripts change tables and settings; restore the settings of the session afterwards."""
        try:
            yield
        finally:
            self._tables = None
            if self._session is not None and not self._is_broken():
                self._apply_settings()

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        if self._depth:
            raise RuntimeError("step mode inside a transaction")
        self._in_step_mode = True
        try:
            with self._restore_settings():
                yield
        finally:
            self._in_step_mode = False

    def _wait_for_lock(self, try_lock: Callable[[], bool], describe_holder: Callable[[], str]) -> None:
        """Call ``try_lock`` until it succeeds; ``describe_holder`` returns the holder as `` by …``.

        Raises:
            BusyError: another process held the lock until the timeout.
        """
        deadline = time.monotonic() + self._timeout
        while not try_lock():
            signals.raise_if_interrupted()
            if time.monotonic() >= deadline:
                raise BusyError(target=self.target, holder=describe_holder(), waited=f"{self._timeout:g}")
            time.sleep(RETRY_SECONDS)
