"""One connection to a SQLite file: opening, also without creating or changing any file, waiting for locks, interruption and translated errors."""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dbctl import signals
from dbctl.engines.sql.catalog import Row
from dbctl.engines.sqlite.errors import (
    NOT_UTF8,
    SALVAGE,
    ErrorContext,
    build_unreachable_error,
    get_error_name,
    is_busy,
    translate_error,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    ChangedWhileReadError,
    CorruptError,
    DatabaseMissingError,
    QueryFailedError,
    UncheckpointedWalError,
    UnreachableError,
)
from dbctl.errors.usage import NotSupportedError, ValueInvalidError

if TYPE_CHECKING:
    from dbctl.engines.contract.streaming import RowStream

T = TypeVar("T")

#: The first version with the pragma ``table_list``, which alone states of a table what it is: virtual, shadow, without rowid.
OLDEST = (3, 37, 0)

#: Longest wait inside SQLite for a lock; signals and the deadline are checked between two waits.
WAIT_SECONDS = 0.1
#: Virtual-machine steps between two checks for signals, about a millisecond of work.
STEPS_BETWEEN_CHECKS = 20_000

#: Start of the message of Python's driver; this failure has no error code.
UNDECODABLE = "Could not decode to UTF-8"

#: Decodes any text, but takes nearly twice as long; a connection uses it only after it has read invalid text.
decode_leniently = partial(str, encoding="utf-8", errors="surrogateescape")


def build_uri(path: Path, parameters: str) -> str:
    """Return the URI of a file for SQLite, with characters escaped that would end the path."""
    quoted = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file://{quoted}?{parameters}"


def connect(path: Path, parameters: str, *, timeout: float = 5.0) -> sqlite3.Connection:
    """Open a file with parameters of its URI; the driver begins no transactions.

    Python's driver opens it, because sqlite-utils has neither the parameters nor such connections.
    """
    return sqlite3.connect(build_uri(path, parameters), uri=True, isolation_level=None, timeout=timeout)


class SQLiteConnection:
    """One connection to a SQLite file, which waits for locks, ends at signals, and raises translated errors."""

    read_only = True

    def __init__(self, path: Path, target: str, *, timeout: float) -> None:
        self.target = target  #: ``app/database``, for messages
        try:  # side files are next to the real file, not next to a link to it
            self.path = Path(os.path.realpath(path))
        except ValueError:
            raise ValueInvalidError(name="path", value=ascii(str(path)), reason="it contains a NUL") from None
        self.timeout = timeout  #: seconds to wait for a lock
        self._context = ErrorContext(target=target, path=self.path, timeout=timeout, read_only=self.read_only)
        #: what services remember about the rows; see ``Readable.memo``
        self.memo = dict[object, object]()
        #: called when the tables of the connection may have changed
        self.on_change: list[Callable[[], None]] = [self.memo.clear]
        self._connection: sqlite3.Connection | None = None
        self._authorizer: Callable[..., int] | None = None  #: decides what a statement may do
        self._deadline = math.inf  #: when the current statement is interrupted

    # A file does not change while it is read with locks, and a connection that only reads changes nothing.

    def retry_if_changed(self, read: Callable[[], T]) -> T:
        """Return the result of ``read`` from one state of the file; read again if the file changed."""
        return self.retry_while_locked(read)

    def prepare_stream(self) -> None:
        """Prepare the connection for a result that is returned in batches."""

    def prepare_snapshot(self) -> None:
        """Prepare the connection for a transaction that reads."""

    def require_unchanged(self) -> None:
        """Raise ChangedWhileReadError if the file changed although it is read without locks."""

    @contextmanager
    def query_only(self) -> Iterator[None]:
        """Refuse changes of the database inside the block, for statements that dbctl has not written; a reader also refuses other files."""
        self.set_authorizer(_deny_other_files)
        try:
            yield
        finally:
            self.set_authorizer(None)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def is_open(self) -> bool:
        """Whether the connection can be used; a failed rollback closes it."""
        return self._connection is not None

    @property
    def driver(self) -> sqlite3.Connection:
        """The connection of Python's driver, for what the methods here do not cover; its errors are not translated."""
        if self._connection is None:
            raise RuntimeError(f"{self.target} is closed")
        return self._connection

    def accept_invalid_text(self) -> None:
        """Decode text that is not valid UTF-8 from now on, as lone surrogates."""
        self.driver.text_factory = decode_leniently

    def notify_change(self) -> None:
        """Report that the tables of the connection may have changed."""
        for callback in self.on_change:
            callback()

    def _connect(self, parameters: str) -> None:
        if sqlite3.sqlite_version_info < OLDEST:
            raise NotSupportedError(
                feature=f"opening {self.target}",
                subject=f"SQLite {sqlite3.sqlite_version}, which this Python uses",
                hint="dbctl requires SQLite 3.37 or later. Install dbctl for a Python that brings its own:"
                " uv tool install --managed-python DIR",
            )
        try:
            self._connection = connect(self.path, parameters, timeout=min(WAIT_SECONDS, self.timeout))
        except sqlite3.Error as error:
            raise self.translate(error) from error
        self._connection.set_progress_handler(self._must_interrupt, STEPS_BETWEEN_CHECKS)

    def _must_interrupt(self) -> bool:
        return signals.received_signal() is not None or time.monotonic() > self._deadline

    def _read_file_state(self) -> tuple[int, int, int, int]:
        """Return device, inode, size and modification time of the file that is at the path now."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise DatabaseMissingError(target=self.target, path=self.path) from None
        except OSError as error:
            raise self._unreachable_error(error.strerror or str(error)) from error
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise UnreachableError(
                target=self.target, reason=f"{self.path} is {kind}", hint="Name the file of the database."
            )
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def read_journal_mode(self) -> str:
        """Return the journal mode in lower case."""
        return str(self.run("pragma journal_mode")[0][0])

    def run(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        """Run one statement as ``rows`` does, waiting for locks."""
        return self.retry_while_locked(partial(self.rows, sql, parameters))

    #: runs one reading statement and returns its rows, from one state of the file
    fetch = run

    def fetch_within(
        self, timeout: timedelta, sql: str, parameters: Mapping[str, object]
    ) -> list[Row] | None:
        """As ``fetch``; None if it takes longer than a time limit."""
        try:
            with self.limit_time(timeout):
                return self.fetch(sql, parameters)
        except QueryFailedError as error:
            if not is_interruption(error):
                raise
            return None

    def rows(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        """Run one statement that changes no row, and return its rows; its errors are those of the driver."""
        connection = self.driver
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if connection.text_factory is decode_leniently or not str(error).startswith(UNDECODABLE):
                raise
        connection.text_factory = decode_leniently
        return connection.execute(sql, parameters).fetchall()

    @contextmanager
    def stream_rows(self, sql: str, parameters: Mapping[str, object] = {}) -> Iterator[RowStream]:
        """Run one reading statement and stream its rows."""
        from dbctl.engines.contract.streaming import RowStream  # most commands read all rows at once

        connection = self.driver
        text_factory = connection.text_factory
        connection.text_factory = decode_leniently  # rows that were already returned cannot be decoded again
        cursor = self.retry_while_locked(lambda: connection.execute(sql, parameters))
        try:
            if cursor.description is None:
                raise QueryFailedError(target=self.target, reason="the statement returns no rows")
            yield RowStream([str(column[0]) for column in cursor.description], self._batches(cursor))
        finally:
            cursor.close()
            connection.text_factory = text_factory

    def _batches(self, cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
        from dbctl.engines.contract.streaming import BATCH_ROWS

        while rows := self.retry_while_locked(lambda: cursor.fetchmany(BATCH_ROWS)):
            yield rows

    @contextmanager
    def limit_time(self, timeout: timedelta | None) -> Iterator[None]:
        """Interrupt statements inside the block after a time."""
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout.total_seconds()
        try:
            yield
        finally:
            self._deadline = math.inf

    def set_authorizer(self, authorizer: Callable[..., int] | None) -> None:
        """Let ``authorizer`` decide what a statement may do, also after the file was opened again; None: it may do anything."""
        self._authorizer = authorizer
        if self._connection is not None:
            self._connection.set_authorizer(authorizer)

    def retry_while_locked(self, call: Callable[[], T], *, seconds: float | None = None) -> T:
        """Return the result of ``call``, which uses the driver, with translated errors.

        While another connection holds a lock, it is called again until ``seconds``, or the timeout of the connection, are over.
        """
        deadline = time.monotonic() + (self.timeout if seconds is None else seconds)
        while True:
            try:
                return call()
            except sqlite3.Error as error:
                signals.raise_if_interrupted()
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise self.translate(error) from error
            except UnicodeDecodeError as error:
                # values are read as they are; the driver decodes definitions only
                raise CorruptError(target=self.target, reason=NOT_UTF8, hint=SALVAGE) from error
            except (OverflowError, UnicodeError) as error:
                raise ValueInvalidError(name="a value", value="given", reason=str(error)) from error

    def translate(self, error: sqlite3.Error) -> DbctlError:
        return translate_error(error, self._context)

    def _unreachable_error(self, reason: str) -> DbctlError:
        return build_unreachable_error(self._context, reason)


#: Maximum number of unlocked reads of a changing file before locks are acquired.
UNLOCKED_TRIES = 5
#: Seconds between two tries to open a file whose only user is opening or closing it.
RETRY_SECONDS = 0.02
#: The clock of file times: on Linux CLOCK_REALTIME_COARSE, which moves by ticks, and for which Python has no name.
FILE_CLOCK = 5 if sys.platform == "linux" else time.CLOCK_REALTIME
#: Two changes of a file within one tick leave the same mtime; a second tick is for servers of files whose clock differs.
TWO_TICKS_NS = round(2e9 * (time.clock_getres(FILE_CLOCK) if sys.platform == "linux" else 0.01))
read_file_clock = partial(time.clock_gettime_ns, FILE_CLOCK)


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
        # every read looks for them
        self._wal, self._journal = Path(f"{self.path}-wal"), Path(f"{self.path}-journal")
        self._traceless = traceless
        self.is_unlocked = False  #: whether the file is read without locks, and so has no unfinished writes
        #: device, inode, size and modification time of the file when it was opened
        self.opened_state: tuple[int, ...] = ()
        try:
            for remaining_tries in reversed(range(UNLOCKED_TRIES if traceless else 1)):
                try:
                    self.open()
                    # opening alone does not read the file, and would accept any file
                    self.fetch("select count(*) from sqlite_master")
                    break
                except UnreachableError:  # its only user may be opening or closing it right now
                    if not remaining_tries:
                        raise
                    time.sleep(RETRY_SECONDS)
        except BaseException:  # an open connection must not outlive the failure
            self.close()
            raise

    def open(self, *, unlocked: bool = True) -> None:
        """Open the file, or open it again; ``unlocked``: without locks, if it has no unfinished writes."""
        self.close()
        self.notify_change()
        self.opened_state = self._read_file_state()
        for _ in range(UNLOCKED_TRIES if unlocked else 0):
            changed_ns = self.opened_state[
                3
            ]  # newer than a clock that moves by ticks, if the kernel has finer times
            if abs(read_file_clock() - changed_ns) >= TWO_TICKS_NS:
                break
            while abs(read_file_clock() - changed_ns) < TWO_TICKS_NS:
                time.sleep(0.001)
            self.opened_state = self._read_file_state()
        else:  # it changes all the time
            unlocked = False
        # After the state: if a change began before it and has not ended, the rest of the change would be unnoticed.
        unlocked = unlocked and self._has_no_journal()
        self.is_unlocked = unlocked
        if unlocked:
            self._connect("mode=ro&immutable=1")
        elif self._traceless:
            self._require_shared_memory()
            self._connect("mode=ro&readonly_shm=1")
        else:
            self._connect("mode=ro")
        self.driver.execute("pragma query_only = 1")  # it waits for no lock
        self.driver.set_authorizer(self._authorizer)

    def _has_no_journal(self) -> bool:
        """Whether no ``-wal`` with content and no ``-journal`` exists."""
        for file in (self._wal, self._journal):
            try:
                if file.stat().st_size or file is self._journal:
                    return False
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def _require_shared_memory(self) -> None:
        if os.path.lexists(self._wal) and not os.path.lexists(f"{self.path}-shm"):
            raise UncheckpointedWalError(target=self.target, file=self._wal)

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

    def fetch(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        return self.retry_if_changed(partial(self.rows, sql, parameters))

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
        try:
            with self.path.open("rb") as file:
                return "wal" if file.read(20)[18:] == b"\2\2" else "delete"
        except OSError as error:
            self._read_file_state()  # raises that the file is missing
            raise self._unreachable_error(error.strerror or str(error)) from error

    def _was_replaced(self) -> bool:
        """Whether the path refers to another file, or (read without locks) the file changed since it was opened."""
        if self.is_unlocked:
            return self._was_modified() or not self._has_no_journal()
        return self._read_file_state()[:2] != self.opened_state[:2]

    def _was_modified(self) -> bool:
        return self.is_unlocked and self._read_file_state() != self.opened_state


def is_interruption(error: DbctlError) -> bool:
    """Whether a time limit, or a signal, ended a statement."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.Error) and get_error_name(cause) == "SQLITE_INTERRUPT"


def _deny_other_files(action: int, first: str | None, second: str | None, *_rest: str | None) -> int:
    """Deny access to other files (``VACUUM INTO`` attaches one), and changes of ``query_only``."""
    if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() == "query_only" and second is not None:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
