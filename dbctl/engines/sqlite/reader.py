"""Reading a SQLite file without leaving a trace."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dbctl.engines.base import Capability
from dbctl.engines.sqlite.connection import SQLiteConnection
from dbctl.errors import DbctlError

T = TypeVar("T")

#: How often an unlocked read of a file that changed under it is tried again before locks are taken.
UNLOCKED_TRIES = 5
#: Two changes of a file within one tick of the kernel's clock leave the same mtime.
CLOCK_TICK_NS = 20_000_000


class SQLiteReader(SQLiteConnection):
    """A SQLite file opened for reading only, without a trace left beside it.

    A file that nobody is writing (no ``-journal``, no ``-wal`` with content) is read without locks
    (``immutable=1``), because a plain read-only open of a WAL file leaves ``-wal`` and ``-shm`` behind. Each answer
    is then checked against the file's identity, size and time: if the file changed meanwhile the answer is thrown
    away and read again, at last the shared way. A file that was replaced is noticed and opened anew.
    """

    capabilities = frozenset({Capability.CHECK, Capability.EXPLAIN, Capability.MEASURE, Capability.SCHEMA})

    def __init__(self, path: Path, target: str, *, timeout: float = 5.0) -> None:
        """Open ``path``, waiting at most ``timeout`` seconds whenever somebody else holds a lock."""
        super().__init__(path, target, timeout=timeout)
        self._unlocked = False
        self._opened_as: tuple[int, ...] = ()
        try:
            self._open(unlocked=self._quiet())
            self._prove()
        except BaseException:  # an open connection must not outlive the failure
            self.close()
            raise

    def _quiet(self) -> bool:
        """Whether nobody has left anything to be read, or rolled back, beside the file."""
        for suffix in ("-wal", "-journal"):
            try:
                if Path(f"{self.path}{suffix}").stat().st_size or suffix == "-journal":
                    return False
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def _open(self, *, unlocked: bool) -> None:
        self.close()
        self._tables = None
        self._opened_as = self._identity()
        if unlocked and 0 <= time.time_ns() - self._opened_as[3] < CLOCK_TICK_NS:
            time.sleep(CLOCK_TICK_NS / 1e9)
            self._opened_as = self._identity()
        self._unlocked = unlocked
        self._connect("mode=ro&immutable=1" if unlocked else "mode=ro")
        self._pragma("query_only", "1")
        self._current().set_authorizer(_only_this_file)

    def _steadily(self, read: Callable[[], T]) -> T:
        tries = 0
        while True:
            if self._replaced():
                self._open(unlocked=self._quiet() and tries < UNLOCKED_TRIES)
            try:
                answer = self._patiently(read)
            except DbctlError:
                if not self._disturbed():
                    raise
            else:
                if not self._disturbed():
                    return answer
            tries += 1

    def _journal_mode(self) -> str:
        if not self._unlocked:
            return super()._journal_mode()
        # Read without locks a file of either kind calls itself "delete". Closing a file drops this process's locks on
        # it, and here there are none.
        with self.path.open("rb") as file:
            return "wal" if file.read(20)[18:] == b"\2\2" else "delete"

    def _replaced(self) -> bool:
        """Whether the file at the path is another one, or (read without locks) not what it was when it was opened."""
        if self._unlocked:
            return self._disturbed() or not self._quiet()
        return self._identity()[:2] != self._opened_as[:2]

    def _disturbed(self) -> bool:
        return self._unlocked and self._identity() != self._opened_as


def _only_this_file(action: int, first: str | None, second: str | None, *_rest: str | None) -> int:
    """Refuse what reaches other files (``VACUUM INTO`` attaches one), and to undo ``query_only``."""
    if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() == "query_only" and second is not None:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
