"""One connection to a SQLite file: opening, waiting for locks, interruption and translated errors."""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from dbctl import signals
from dbctl.engines.contract import BATCH_ROWS, Capability, RowStream
from dbctl.engines.sql import Row
from dbctl.engines.sqlite.describe import SQLiteSchemaReader
from dbctl.engines.sqlite.errors import (
    ErrorContext,
    build_unreachable_error,
    get_error_name,
    is_busy,
    translate_error,
)
from dbctl.engines.sqlite.files import quote_for_uri
from dbctl.engines.sqlite.fulltext import SQLiteFullText
from dbctl.engines.sqlite.monitoring import SQLiteMaintenance
from dbctl.engines.sqlite.stream import SQLiteStreaming
from dbctl.engines.sqlite.types import SQLiteTimes
from dbctl.errors import DatabaseMissingError, DbctlError, QueryFailedError, ValueInvalidError

T = TypeVar("T")

#: Longest wait inside SQLite for a lock; signals and the deadline are checked between two waits.
WAIT_SECONDS = 0.1
#: Virtual-machine steps between two checks for signals, about a millisecond of work.
STEPS_BETWEEN_CHECKS = 20_000

#: Capabilities of readers and writers.
BASE_CAPABILITIES = frozenset(
    {
        Capability.BLOAT,
        Capability.CHECK,
        Capability.EXPLAIN,
        Capability.FULL_TEXT,
        Capability.INDEXES,
        Capability.TEXT_SCAN,
        Capability.MAINTAIN,
        Capability.MEASURE,
        Capability.SCHEMA,
        Capability.STREAM,
    }
)

#: Start of the message of Python's driver; this failure has no error code.
UNDECODABLE = "Could not decode to UTF-8"

#: Decodes any text, but takes nearly twice as long; a connection uses it only after it has read invalid text.
decode_leniently = partial(str, encoding="utf-8", errors="surrogateescape")


class SQLiteConnection(SQLiteStreaming, SQLiteMaintenance, SQLiteSchemaReader, SQLiteTimes, SQLiteFullText):
    """The common base of readers and writers."""

    read_only = True

    def __init__(self, path: Path, target: str, *, timeout: float) -> None:
        self.target = target
        try:  # side files are next to the real file, not next to a link to it
            self.path = Path(os.path.realpath(path))
        except ValueError:
            raise ValueInvalidError(name="path", value=ascii(str(path)), reason="it contains a NUL") from None
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = None
        self._deadline = math.inf  #: when the current statement is interrupted

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _require_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError(f"{self.target} is closed")
        return self._connection

    def _connect(self, parameters: str) -> None:
        wait = min(WAIT_SECONDS, self._timeout)
        try:
            self._connection = sqlite3.connect(
                f"file://{quote_for_uri(self.path)}?{parameters}",
                uri=True,
                isolation_level=None,
                timeout=wait,
            )
        except sqlite3.Error as error:
            raise self._translate(error) from error
        self._connection.set_progress_handler(self._must_interrupt, STEPS_BETWEEN_CHECKS)

    def _must_interrupt(self) -> bool:
        return signals.received_signal() is not None or time.monotonic() > self._deadline

    def _require_database(self) -> None:
        """Read once, because opening alone does not read the file and would accept any file."""
        self._fetch("select count(*) from sqlite_master", {})

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
            raise self._unreachable_error(f"{self.path} is {kind}")
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def _read_journal_mode(self) -> str:
        return str(self._run("pragma journal_mode", {})[0][0])

    def _set_pragma(self, name: str, value: str) -> None:
        if not (name.isidentifier() and value.removeprefix("-").isalnum()):  # profiles are written by hand
            raise ValueInvalidError(
                name="pragma", value=f"{name} = {value}", reason="a pragma must be a name and a word"
            )
        self._run(f"pragma {name} = {value}", {})

    def _fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        return self._retry_if_changed(lambda: self._rows(sql, parameters))

    def _fetch_within(
        self, sql: str, parameters: Mapping[str, object], timeout: timedelta
    ) -> list[Row] | None:
        try:
            with self._with_deadline(timeout):
                return self._fetch(sql, parameters)
        except QueryFailedError as error:
            if (
                isinstance(error.__cause__, sqlite3.Error)
                and get_error_name(error.__cause__) == "SQLITE_INTERRUPT"
            ):
                return None
            raise

    def _rows(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        connection = self._require_connection()
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if connection.text_factory is decode_leniently or not str(error).startswith(UNDECODABLE):
                raise
        connection.text_factory = decode_leniently
        return connection.execute(sql, parameters).fetchall()

    @contextmanager
    def _stream_rows(self, sql: str, parameters: Mapping[str, object]) -> Iterator[RowStream]:
        connection = self._require_connection()
        text_factory = connection.text_factory
        connection.text_factory = decode_leniently  # rows that were already returned cannot be decoded again
        cursor = self._retry_while_locked(lambda: connection.execute(sql, parameters))
        try:
            if cursor.description is None:
                raise QueryFailedError(target=self.target, reason="the statement returns no rows")
            yield RowStream([str(column[0]) for column in cursor.description], self._batches(cursor))
        finally:
            cursor.close()
            connection.text_factory = text_factory

    def _batches(self, cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
        while rows := self._retry_while_locked(lambda: cursor.fetchmany(BATCH_ROWS)):
            yield rows

    @contextmanager
    def _with_deadline(self, timeout: timedelta | None) -> Iterator[None]:
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout.total_seconds()
        try:
            yield
        finally:
            self._deadline = math.inf

    def _set_authorizer(self, authorizer: Callable[..., int] | None) -> None:
        self._require_connection().set_authorizer(authorizer)

    def _run(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        return self._retry_while_locked(
            lambda: self._require_connection().execute(sql, parameters).fetchall()
        )

    def _retry_while_locked(self, call: Callable[[], T]) -> T:
        """Return the result of ``call``; retry until the timeout while another connection holds a lock."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return self._call_once(call)
            except sqlite3.Error as error:
                if time.monotonic() >= deadline:
                    raise self._translate(error) from error

    def _call_once(self, call: Callable[[], T]) -> T:
        """Return the result of ``call``; lock conflicts remain ``sqlite3.Error``; all other errors are translated."""
        try:
            return call()
        except sqlite3.Error as error:
            signals.raise_if_interrupted()
            if is_busy(error):
                raise
            raise self._translate(error) from error
        except (OverflowError, UnicodeError) as error:
            raise ValueInvalidError(name="a value", value="given", reason=str(error)) from error

    def _translate(self, error: sqlite3.Error) -> DbctlError:
        return translate_error(error, self._error_context())

    def _unreachable_error(self, reason: str) -> DbctlError:
        return build_unreachable_error(self._error_context(), reason)

    def _error_context(self) -> ErrorContext:
        return ErrorContext(
            target=self.target, path=self.path, timeout=self._timeout, read_only=self.read_only
        )
