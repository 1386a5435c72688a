"""Read a SQLite file without creating or changing any file."""

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
from dbctl.engines.sqlite.connection import BASE_CAPABILITIES, SQLiteConnection
from dbctl.errors import ChangedWhileReadError, DbctlError, UncheckpointedWalError, UnreachableError
from dbctl.files import Progress, no_progress

if TYPE_CHECKING:
    from dbctl.engines.contract import DumpResult, DumpVerification

T = TypeVar("T")

#: Maximum number of unlocked reads of a changing file before locks are acquired.
UNLOCKED_TRIES = 5
#: Findings of SQLite's check about rows that violate a constraint: the app wrote them, and a copy is not worse.
APP_VIOLATIONS = ("NULL value in ", "CHECK constraint failed in ", "TEXT value in ", "NUMERIC value in ")
#: The only form of a dump is a copy of the file, without a further suffix.
FORMS: Mapping[str, str] = {"file": ""}
#: Two changes of a file within one tick of the kernel's clock leave the same mtime.
CLOCK_TICK_NS = 20_000_000


class SQLiteReader(SQLiteConnection):
    """A SQLite file opened read-only; no side files are created.

    A file without unfinished writes (no ``-journal``, no ``-wal`` with content) is read without locks
    (``immutable=1``), because a plain read-only open of a WAL file leaves ``-wal`` and ``-shm`` behind. After each read
    the identity, size and time of the file are compared: if the file changed, the result is discarded and read again,
    after several tries with locks. A replaced file is detected and opened again.
    """

    capabilities = BASE_CAPABILITIES | {Capability.DUMP}

    def __init__(self, path: Path, target: str, *, timeout: float = 5.0, traceless: bool = False) -> None:
        """Open ``path``; wait at most ``timeout`` seconds for each lock of another process.

        ``traceless`` does not write to the shared memory of a WAL file (``-shm``) either; without a ``-shm`` the file is
        not read.
        """
        super().__init__(path, target, timeout=timeout)
        self._traceless = traceless
        self._unlocked = False
        self._opened_state: tuple[int, ...] = ()
        try:
            self._open_with_retries()
        except BaseException:  # an open connection must not outlive the failure
            self.close()
            raise

    def _open_with_retries(self) -> None:
        for remaining_tries in reversed(range(UNLOCKED_TRIES if self._traceless else 1)):
            try:
                self._open(unlocked=self._has_no_journal())
                self._require_database()
            except UnreachableError:  # its only user may be opening or closing it right now
                if not remaining_tries:
                    raise
                time.sleep(CLOCK_TICK_NS / 1e9)
            else:
                return

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

    def _open(self, *, unlocked: bool) -> None:
        self.close()
        self._tables = None
        self._opened_state = self._read_file_state()
        if unlocked and 0 <= time.time_ns() - self._opened_state[3] < CLOCK_TICK_NS:
            time.sleep(CLOCK_TICK_NS / 1e9)
            self._opened_state = self._read_file_state()
        self._unlocked = unlocked
        if unlocked:
            self._connect("mode=ro&immutable=1")
        elif self._traceless:
            self._require_shared_memory()
            self._connect("mode=ro&readonly_shm=1")
        else:
            self._connect("mode=ro")
        self._set_pragma("query_only", "1")
        self._set_authorizer(None)

    def _set_authorizer(self, authorizer: Callable[..., int] | None) -> None:
        super()._set_authorizer(authorizer or _deny_other_files)

    def _prepare_stream(self) -> None:
        if self._was_replaced():
            self._open(unlocked=self._has_no_journal())
        if self._unlocked and self._read_journal_mode() != "wal":  # locks create side files only in WAL mode
            self._open(unlocked=False)

    def _batches(self, cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
        for rows in super()._batches(cursor):
            if self._was_modified():  # earlier batches were already returned
                raise ChangedWhileReadError(target=self.target)
            yield rows

    def _require_shared_memory(self) -> None:
        wal = Path(f"{self.path}-wal")
        if os.path.lexists(wal) and not os.path.lexists(f"{self.path}-shm"):
            raise UncheckpointedWalError(target=self.target, file=wal)

    forms = FORMS
    supports_partial = False
    is_compressed = False

    def dump(
        self,
        destination: Path,
        *,
        form: str = "",
        tables: Sequence[str] = (),
        progress: Progress = no_progress,
    ) -> DumpResult:
        from dbctl.engines.contract import DumpResult
        from dbctl.engines.sqlite.backup import dump

        del form  # there is only one form
        if tables:
            raise RuntimeError("single tables of a file cannot be dumped")

        mode = self._read_journal_mode()

        def copy_file() -> DumpResult:
            destination.unlink(missing_ok=True)  # left by an unlocked read of a file that changed
            return dump(self._require_connection(), destination, progress)

        # A copy takes long, and an unlocked one is discarded after any write: one try is enough.
        result = self._retry_if_changed(copy_file, unlocked_tries=1)
        metadata = {"journal_mode": mode, "mode": f"{stat.S_IMODE(self.path.stat().st_mode):o}"}
        return DumpResult(taken_at=result.taken_at, metadata={**metadata, **result.metadata})

    def blocks_writers(self) -> bool:
        return self._read_journal_mode() != "wal"

    def estimate_dump_size(self) -> int:
        return self.measure_storage().bytes

    def verify_dump(self, *, quick: bool) -> DumpVerification:
        """Check a dump; ``quick`` does not compare indexes with their tables."""
        from dbctl.engines.contract import DumpVerification
        from dbctl.engines.sql import digest_tables

        problems = [line for line in self.find_damage(quick=quick) if not line.startswith(APP_VIOLATIONS)]
        if problems:
            return DumpVerification(tables={}, schema="", problems=problems)
        rows = {name: self.count(name) for name, table in self.tables().items() if not table.is_view}
        return DumpVerification(
            tables=rows, schema=self.fingerprint(), problems=(), digests=digest_tables(self, rows)
        )

    def _retry_if_changed(self, read: Callable[[], T], *, unlocked_tries: int = UNLOCKED_TRIES) -> T:
        tries = 0
        while True:
            if self._was_replaced():
                self._open(unlocked=self._has_no_journal() and tries < unlocked_tries)
            try:
                result = self._retry_while_locked(read)
            except DbctlError:
                if not self._was_modified():
                    raise
            else:
                if not self._was_modified():
                    return result
            tries += 1

    def _read_journal_mode(self) -> str:
        if not self._unlocked:
            return super()._read_journal_mode()
        # Without locks SQLite reports "delete" for both kinds. Closing a file drops the locks of this process on it,
        # but an unlocked reader has none.
        with self.path.open("rb") as file:
            return "wal" if file.read(20)[18:] == b"\2\2" else "delete"

    def _was_replaced(self) -> bool:
        """Whether the path refers to another file, or (read without locks) the file changed since it was opened."""
        if self._unlocked:
            return self._was_modified() or not self._has_no_journal()
        return self._read_file_state()[:2] != self._opened_state[:2]

    def _was_modified(self) -> bool:
        return self._unlocked and self._read_file_state() != self._opened_state


def _deny_other_files(action: int, first: str | None, second: str | None, *_rest: str | None) -> int:
    """Deny access to other files (``VACUUM INTO`` attaches one), and changes of ``query_only``."""
    if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() == "query_only" and second is not None:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
