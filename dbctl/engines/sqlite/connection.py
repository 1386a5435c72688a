"""One connection to a SQLite file: how it is opened, waited for, interrupted, and what its failures are called."""

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
from typing import TYPE_CHECKING, TypeVar

from dbctl import signals
from dbctl.engines.contract import BATCH, Answer, Capability
from dbctl.engines.sql import Row
from dbctl.engines.sqlite.describe import SQLiteDescribes
from dbctl.engines.sqlite.errors import Place, is_busy, name_of, translated, unreachable
from dbctl.engines.sqlite.files import quoted
from dbctl.engines.sqlite.fulltext import SQLiteFullText
from dbctl.engines.sqlite.monitoring import SQLiteKept
from dbctl.engines.sqlite.stream import SQLiteStreams
from dbctl.engines.sqlite.types import SQLiteTimes
from dbctl.errors import DatabaseMissingError, DbctlError, QueryFailedError, ValueInvalidError

if TYPE_CHECKING:
    from sqlite_utils import Database

T = TypeVar("T")

#: One wait of SQLite's own for a lock; between two waits signals are heard and the deadline is looked at.
WAIT_SECONDS = 0.1
#: Virtual-machine steps between two looks for a signal, about a millisecond of work.
STEPS_BETWEEN_LOOKS = 20_000

#: What every connection can tell, also one that may write.
TOLD = frozenset(
    {
        Capability.BLOAT,
        Capability.CHECK,
        Capability.EXPLAIN,
        Capability.FULL_TEXT,
        Capability.INDEXES,
        Capability.LOOK,
        Capability.MAINTAIN,
        Capability.MEASURE,
        Capability.SCHEMA,
        Capability.STREAM,
    }
)

#: How Python's driver words the failure, which has no name.
UNDECODABLE = "Could not decode to UTF-8"

#: Reads any text; reading with it takes nearly twice as long, so only a connection that met such text does.
lenient = partial(str, encoding="utf-8", errors="surrogateescape")


class SQLiteConnection(SQLiteStreams, SQLiteKept, SQLiteDescribes, SQLiteTimes, SQLiteFullText):
    """What reading and writing have in common."""

    reading = True  #: whether it is opened for reading only

    def __init__(self, path: Path, target: str, *, timeout: float) -> None:
        self.target = target
        try:  # side files stand beside the real file, not beside a link to it
            self.path = Path(os.path.realpath(path))
        except ValueError:
            raise ValueInvalidError(what="path", value=ascii(str(path)), reason="it holds a NUL") from None
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = None
        self._until = math.inf  #: when the statement that runs is given up

    @property
    def utils(self) -> Database:
        """The open connection as sqlite-utils sees it."""
        import sqlite_utils

        return sqlite_utils.Database(self._current(), recursive_triggers=False, execute_plugins=False)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _current(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError(f"{self.target} is closed")
        return self._connection

    def _connect(self, parameters: str) -> None:
        wait = min(WAIT_SECONDS, self._timeout)
        try:
            self._connection = sqlite3.connect(
                f"file://{quoted(self.path)}?{parameters}", uri=True, isolation_level=None, timeout=wait
            )
        except sqlite3.Error as error:
            raise self._translated(error) from error
        self._connection.set_progress_handler(self._to_be_ended, STEPS_BETWEEN_LOOKS)

    def _to_be_ended(self) -> bool:
        return signals.received() is not None or time.monotonic() > self._until

    def _prove(self) -> None:
        """Read once, so that a file which is no database is refused now: opening alone reads nothing of it."""
        self._fetch("select count(*) from sqlite_master", {})

    def _identity(self) -> tuple[int, int, int, int]:
        """Return device, inode, size and time of the file that stands at the path now."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            raise DatabaseMissingError(target=self.target, path=self.path) from None
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error
        if not stat.S_ISREG(found.st_mode):
            kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise self._unreachable(f"{self.path} is {kind}")
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _journal_mode(self) -> str:
        return str(self._run("pragma journal_mode", {})[0][0])

    def _pragma(self, name: str, value: str) -> None:
        if not (name.isidentifier() and value.removeprefix("-").isalnum()):  # profiles are written by people
            raise ValueInvalidError(
                what="pragma", value=f"{name} = {value}", reason="it is a name and a word"
            )
        self._run(f"pragma {name} = {value}", {})

    def _fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        return self._steadily(lambda: self._rows(sql, parameters))

    def _briefly(self, sql: str, parameters: Mapping[str, object], within: timedelta) -> list[Row] | None:
        try:
            with self._timed(within):
                return self._fetch(sql, parameters)
        except QueryFailedError as error:
            if isinstance(error.__cause__, sqlite3.Error) and name_of(error.__cause__) == "SQLITE_INTERRUPT":
                return None
            raise

    def _rows(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        connection = self._current()
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if connection.text_factory is lenient or not str(error).startswith(UNDECODABLE):
                raise
        connection.text_factory = lenient
        return connection.execute(sql, parameters).fetchall()

    @contextmanager
    def _flow(self, sql: str, parameters: Mapping[str, object]) -> Iterator[Answer]:
        connection = self._current()
        before = connection.text_factory
        connection.text_factory = lenient  # rows that were handed on cannot be read again another way
        cursor = self._patiently(lambda: connection.execute(sql, parameters))
        try:
            if cursor.description is None:
                raise QueryFailedError(target=self.target, reason="it answers nothing, so it is no question")
            yield Answer([str(column[0]) for column in cursor.description], self._batches(cursor))
        finally:
            cursor.close()
            connection.text_factory = before

    def _batches(self, cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
        while rows := self._patiently(lambda: cursor.fetchmany(BATCH)):
            yield rows

    @contextmanager
    def _timed(self, within: timedelta | None) -> Iterator[None]:
        self._until = math.inf if within is None else time.monotonic() + within.total_seconds()
        try:
            yield
        finally:
            self._until = math.inf

    def _guarded(self, guard: Callable[..., int] | None) -> None:
        self._current().set_authorizer(guard)

    def _run(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        return self._patiently(lambda: self._current().execute(sql, parameters).fetchall())

    def _patiently(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, trying again up to the deadline while somebody holds a lock."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return self._once(call)
            except sqlite3.Error as error:
                if time.monotonic() >= deadline:
                    raise self._translated(error) from error

    def _once(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns; what may help when it is tried again is raised as SQLite's own error."""
        try:
            return call()
        except sqlite3.Error as error:
            signals.check()
            if is_busy(error):
                raise
            raise self._translated(error) from error
        except (OverflowError, UnicodeError) as error:
            raise ValueInvalidError(what="a value", value="given", reason=str(error)) from error

    def _translated(self, error: sqlite3.Error) -> DbctlError:
        return translated(error, self._place())

    def _unreachable(self, reason: str) -> DbctlError:
        return unreachable(self._place(), reason)

    def _place(self) -> Place:
        return Place(target=self.target, path=self.path, timeout=self._timeout, reading=self.reading)
