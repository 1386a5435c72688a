"""Writing on a server: transactions inside one another, and the lock that keeps every other dbctl away."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dbctl import signals
from dbctl.engines.servers.connection import S, ServedConnection
from dbctl.errors import BusyError

#: Seconds between two tries for the lock of all dbctl; short, so that signals are heard.
RETRY_SECONDS = 0.05
ENDED = "an earlier failure ended the transaction around it"


class ServedWriter(ServedConnection[S]):
    """A session that may write."""

    reading = False
    _depth = 0  #: how many transactions are open, one inside the other
    _stepping = False  #: whether statements run outside of any

    @abstractmethod
    def _require_transaction(self) -> None:
        """Refuse what could not be taken back."""

    @abstractmethod
    def _roll_back(self, sql: str) -> None:
        """Take back what was written, by ``sql`` or by whatever else does; never fail."""

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        """Begin one by ``begin``; inside another one, a savepoint."""
        nested = self._depth
        begin, commit, rollback = (
            (f"savepoint s{nested}", f"release savepoint s{nested}", f"rollback to savepoint s{nested}")
            if nested
            else (begin, "commit", "rollback")
        )
        try:
            self._say(begin)
            self._depth += 1
            yield
            self._require_transaction()  # a server would commit what is left, or nothing, and call that no error
            self._say(commit)
        except BaseException:  # also on a signal, whenever it comes: half a change must not stay
            self._roll_back(rollback)
            raise
        finally:
            self._depth = nested

    def _settle(self) -> None:
        with self._told("set"):
            self._current().settle()

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Let scripts change tables and set what they like; afterwards the session is as it was."""
        try:
            yield
        finally:
            self._tables = None
            if self._session is not None and not self._is_broken():
                self._settle()

    @contextmanager
    def step_by_step(self) -> Iterator[None]:
        if self._depth:
            raise RuntimeError("statements outside a transaction, inside one")
        self._stepping = True
        try:
            with self._settled():
                yield
        finally:
            self._stepping = False

    def _wait_for_lock(self, take: Callable[[], bool], holder: Callable[[], str]) -> None:
        """Try until ``take`` has the lock; ``holder`` tells who has it, as `` by …``.

        Raises:
            BusyError: somebody held it for too long.
        """
        deadline = time.monotonic() + self._timeout
        while not take():
            signals.check()
            if time.monotonic() >= deadline:
                raise BusyError(target=self.target, holder=holder(), waited=f"{self._timeout:g}")
            time.sleep(RETRY_SECONDS)
