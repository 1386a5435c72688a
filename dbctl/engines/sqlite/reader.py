"""Reading a SQLite file without leaving a trace."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dbctl.engines.contract import Capability
from dbctl.engines.sql import Row
from dbctl.engines.sqlite.connection import TOLD, SQLiteConnection
from dbctl.errors import ChangedWhileReadError, ChangesLeftError, DbctlError, UnreachableError
from dbctl.files import Progress, silent

if TYPE_CHECKING:
    from dbctl.engines.contract import Dumped, Proof

T = TypeVar("T")

#: How often an unlocked read of a file that changed under it is tried again before locks are taken.
UNLOCKED_TRIES = 5
#: What SQLite's check says of rows that break a rule of their own table: the app put them in, and a copy of them is
#: as good as they are.
OF_THE_APP = ("NULL value in ", "CHECK constraint failed in ", "TEXT value in ", "NUMERIC value in ")
#: A file is copied as it is, and called as its app calls it.
FORMS: Mapping[str, str] = {"file": ""}
#: Two changes of a file within one tick of the kernel's clock leave the same mtime.
CLOCK_TICK_NS = 20_000_000


class SQLiteReader(SQLiteConnection):
    """A SQLite file opened for reading only, without a trace left beside it.

    A file that nobody is writing (no ``-journal``, no ``-wal`` with content) is read without locks
    (``immutable=1``), because a plain read-only open of a WAL file leaves ``-wal`` and ``-shm`` behind. Each answer
    is then checked against the file's identity, size and time: if the file changed meanwhile the answer is thrown
    away and read again, at last the shared way. A file that was replaced is noticed and opened anew.
    """

    capabilities = TOLD | {Capability.DUMP}

    def __init__(self, path: Path, target: str, *, timeout: float = 5.0, traceless: bool = False) -> None:
        """Open ``path``, waiting at most ``timeout`` seconds whenever somebody else holds a lock.

        ``traceless`` also leaves alone the memory that readers of a WAL file share (``-shm``): it is read as the
        others left it, and where it is missing the file is not read.
        """
        super().__init__(path, target, timeout=timeout)
        self._traceless = traceless
        self._unlocked = False
        self._opened_as: tuple[int, ...] = ()
        try:
            self._begin()
        except BaseException:  # an open connection must not outlive the failure
            self.close()
            raise

    def _begin(self) -> None:
        for left in reversed(range(UNLOCKED_TRIES if self._traceless else 1)):
            try:
                self._open(unlocked=self._quiet())
                self._prove()
            except UnreachableError:  # its only user may be between two steps of opening or closing it
                if not left:
                    raise
                time.sleep(CLOCK_TICK_NS / 1e9)
            else:
                return

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
        if unlocked:
            self._connect("mode=ro&immutable=1")
        elif self._traceless:
            self._refuse_what_leaves_a_trace()
            self._connect("mode=ro&readonly_shm=1")
        else:
            self._connect("mode=ro")
        self._pragma("query_only", "1")
        self._guarded(None)

    def _guarded(self, guard: Callable[..., int] | None) -> None:
        super()._guarded(guard or _only_this_file)

    def _settle(self) -> None:
        if self._replaced():
            self._open(unlocked=self._quiet())
        if (
            self._unlocked and self._journal_mode() != "wal"
        ):  # taking locks leaves a trace beside a WAL file only
            self._open(unlocked=False)

    def _batches(self, cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
        for rows in super()._batches(cursor):
            if self._disturbed():  # what was handed on cannot be taken back
                raise ChangedWhileReadError(target=self.target)
            yield rows

    def _refuse_what_leaves_a_trace(self) -> None:
        changes = Path(f"{self.path}-wal")
        if os.path.lexists(changes) and not os.path.lexists(f"{self.path}-shm"):
            raise ChangesLeftError(target=self.target, file=changes)

    forms = FORMS
    parts = False
    packed = False

    def dump(
        self, destination: Path, *, form: str = "", tables: Sequence[str] = (), progress: Progress = silent
    ) -> Dumped:
        from dbctl.engines.contract import Dumped
        from dbctl.engines.sqlite.backup import dump

        del form  # there is but one
        if tables:
            raise RuntimeError("a file is copied whole")

        mode = self._journal_mode()

        def copied() -> Dumped:
            destination.unlink(missing_ok=True)  # what an unlocked read left, when the file changed under it
            return dump(self._current(), destination, progress)

        # A copy takes long, and an unlocked one counts for nothing once somebody writes: one try is enough.
        dumped = self._steadily(copied, unlocked_tries=1)
        facts = {"journal_mode": mode, "mode": f"{stat.S_IMODE(self.path.stat().st_mode):o}"}
        return Dumped(taken_at=dumped.taken_at, facts={**facts, **dumped.facts})

    def holds_up(self) -> bool:
        return self._journal_mode() != "wal"

    def dump_size(self) -> int:
        return self.storage().bytes

    def proof(self, *, quick: bool) -> Proof:
        """Look into a dump: ``quick`` leaves out whether indexes and tables agree."""
        from dbctl.engines.contract import Proof
        from dbctl.engines.sql import digests

        problems = [line for line in self.damage(quick=quick) if not line.startswith(OF_THE_APP)]
        if problems:
            return Proof(tables={}, schema="", problems=problems)
        rows = {name: self.count(name) for name, one in self.tables().items() if not one.view}
        return Proof(tables=rows, schema=self.fingerprint(), problems=(), digests=digests(self, rows))

    def _steadily(self, read: Callable[[], T], *, unlocked_tries: int = UNLOCKED_TRIES) -> T:
        tries = 0
        while True:
            if self._replaced():
                self._open(unlocked=self._quiet() and tries < unlocked_tries)
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
