"""Open a SQLite file for reading, without creating or changing any file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

from dbctl.engines.sql.catalog import Row
from dbctl.engines.sqlite.connection.base import SQLiteConnection
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    ChangedWhileReadError,
    UncheckpointedWalError,
    UnreachableError,
)

T = TypeVar("T")

#: Maximum number of unlocked reads of a changing file before locks are acquired.
UNLOCKED_TRIES = 5
#: Two changes of a file within one tick of the kernel's clock leave the same mtime.
CLOCK_TICK_NS = 20_000_000


class ReadConnection(SQLiteConnection):
    """A SQLite file opened read-only; no side files are created.

    A file without unfinished writes (no ``-journal``, no ``-wal`` with content) is read without locks
    (``immutable=1``), because a plain read-only open of a WAL file leaves ``-wal`` and ``-shm`` behind. After each read
    the identity, size and time of the file are compared: if the file changed, the result is discarded and read again,
    after several tries with locks. A replaced file is detected and opened again.
    """

    def __init__(self, path: Path, target: str, *, timeout: float, traceless: bool) -> None:
        """Open ``path``; wait at most ``timeout`` seconds for each lock of another process.

        ``traceless`` does not write to the shared memory of a WAL file (``-shm``) either; without a ``-shm`` the file is
        not read.
        """
        super().__init__(path, target, timeout=timeout)
        self._traceless = traceless
        self.is_unlocked = False  #: whether the file is read without locks, and so has no unfinished writes
        #: device, inode, size and modification time of the file when it was opened
        self.opened_state: tuple[int, ...] = ()
        try:
            for remaining_tries in reversed(range(UNLOCKED_TRIES if traceless else 1)):
                try:
                    self.open()
                    self._require_database()
                    break
                except UnreachableError:  # its only user may be opening or closing it right now
                    if not remaining_tries:
                        raise
                    time.sleep(CLOCK_TICK_NS / 1e9)
        except BaseException:  # an open connection must not outlive the failure
            self.close()
            raise

    def open(self, *, unlocked: bool = True) -> None:
        """Open the file, or open it again; ``unlocked``: without locks, if it has no unfinished writes."""
        self.close()
        self.notify_change()
        unlocked = unlocked and self._has_no_journal()
        self.opened_state = self._read_file_state()
        if unlocked and 0 <= time.time_ns() - self.opened_state[3] < CLOCK_TICK_NS:
            time.sleep(CLOCK_TICK_NS / 1e9)
            self.opened_state = self._read_file_state()
        self.is_unlocked = unlocked
        if unlocked:
            self._connect("mode=ro&immutable=1")
        elif self._traceless:
            self._require_shared_memory()
            self._connect("mode=ro&readonly_shm=1")
        else:
            self._connect("mode=ro")
        self.set_pragma("query_only", "1")
        self.driver.set_authorizer(_deny_other_files)

    def _has_no_journal(self) -> bool:
        """Whether no ``-wal`` with content and no ``-journal`` exists."""
        for suffix in ("-wal", "-journal"):
            try:
                if Path(f"{self.path}{suffix}").stat().st_size or suffix == "-journal":
                    return False
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def _require_shared_memory(self) -> None:
        wal = Path(f"{self.path}-wal")
        if os.path.lexists(wal) and not os.path.lexists(f"{self.path}-shm"):
            raise UncheckpointedWalError(target=self.target, file=wal)

    def set_authorizer(self, authorizer: Callable[..., int] | None) -> None:
        super().set_authorizer(authorizer or _deny_other_files)

    def query_only(self) -> AbstractContextManager[None]:
        return nullcontext()  # the connection always is

    def prepare_stream(self) -> None:
        if self._was_replaced():
            self.open()
        if self.is_unlocked and self.read_journal_mode() != "wal":  # locks create side files only in WAL mode
            self.open(unlocked=False)

    def prepare_snapshot(self) -> None:
        if self.is_unlocked or self._was_replaced():
            self.open(unlocked=False)

    def require_unchanged(self) -> None:
        if self._was_modified():  # earlier rows were already returned
            raise ChangedWhileReadError(target=self.target)

    def _batches(self, cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
        for rows in super()._batches(cursor):
            self.require_unchanged()
            yield rows

    def retry_if_changed(self, read: Callable[[], T], *, unlocked_tries: int = UNLOCKED_TRIES) -> T:
        tries = 0
        while True:
            if self._was_replaced():
                self.open(unlocked=tries < unlocked_tries)
            try:
                result = self.retry_while_locked(read)
            except DbctlError:
                if not self._was_modified():
                    raise
            else:
                if not self._was_modified():
                    return result
            tries += 1

    def read_journal_mode(self) -> str:
        if not self.is_unlocked:
            return super().read_journal_mode()
        # Without locks SQLite reports "delete" for both kinds. Closing a file drops the locks of this process on it,
        # but an unlocked reader has none.
        with self.path.open("rb") as file:
            return "wal" if file.read(20)[18:] == b"\2\2" else "delete"

    def _was_replaced(self) -> bool:
        """Whether the path refers to another file, or (read without locks) the file changed since it was opened."""
        if self.is_unlocked:
            return self._was_modified() or not self._has_no_journal()
        return self._read_file_state()[:2] != self.opened_state[:2]

    def _was_modified(self) -> bool:
        return self.is_unlocked and self._read_file_state() != self.opened_state


def _deny_other_files(action: int, first: str | None, second: str | None, *_rest: str | None) -> int:
    """Deny access to other files (``VACUUM INTO`` attaches one), and changes of ``query_only``."""
    if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() == "query_only" and second is not None:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
