"""One session on a server, what runs in it, its nested transactions, and the wait for the lock of dbctl."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from dbctl import signals
from dbctl.engines.servers.values import convert_row
from dbctl.engines.sql.catalog import Row
from dbctl.errors.connection import QueryFailedError, QueryTimeoutError, UnreachableError
from dbctl.files import liveness
from dbctl.model import Struct
from dbctl.url import Url

#: Minimum seconds for a server to answer; a higher --timeout extends them.
CONNECT_SECONDS = 5
#: Seconds between two attempts to connect to a server that starts.
RETRY_SECONDS = 0.25
#: Why a server that starts refuses a connection.
STARTING = re.compile(
    r"Connection refused|No such file or directory|the database system is (?:starting up|not yet accepting)"
    r"|Session open refused by peer"  # of ssh, which shares a connection that the user opened, and reports no more
)


class Session(Protocol):
    """A connection of the driver with known session settings."""

    def run(self, sql: str) -> object:
        """Run one statement without parameters."""
        ...

    def apply_settings(self) -> None:
        """Apply the session settings that dbctl relies on."""
        ...


S = TypeVar("S", bound=Session)
T = TypeVar("T")
V = TypeVar("V", bound=Struct)


class ServerConnection(ABC, Generic[S]):
    """One session; it must not be shared between threads.

    A read-only connection begins a new session once if the server restarted or closed an idle connection.
    """

    #: whether a transaction for a query is open, which a new session would lack
    _has_query_transaction = False
    ending_error = ""  #: the number of the error after which the server ended the open transaction

    def __init__(self, url: Url, target: str, *, timeout: float, read_only: bool) -> None:
        """Connect to the database at ``url``; wait at most ``timeout`` seconds for each lock of another process.

        A ``timeout`` above the default also waits until a server that refuses connections has started.

        Raises:
            UnreachableError, PrivilegeMissingError: the server is not reachable, or refused the session.
        """
        self.url, self.target, self.timeout, self.read_only = url, target, timeout, read_only
        self.on_change: list[Callable[[], None]] = []  #: called when a new session begins
        self.memo: dict[object, object] | None = {} if read_only else None
        self.cleanup = ExitStack()  #: runs before the session ends
        self._session: S | None = self._connect_when_started()

    def _connect_when_started(self) -> S:
        # With the default, a wrong port is reported at once.
        deadline = time.monotonic() + (self.timeout if self.timeout > CONNECT_SECONDS else 0)
        while True:
            try:
                return self._connect()
            except UnreachableError as error:
                if time.monotonic() >= deadline or not STARTING.search(str(error.context["reason"])):
                    raise
            time.sleep(RETRY_SECONDS)

    @abstractmethod
    def _connect(self) -> S:
        """Begin a session."""

    @abstractmethod
    def _disconnect(self, session: S) -> None:
        """End a session."""

    @property
    @abstractmethod
    def is_broken(self) -> bool:
        """Whether the session lost its connection."""

    @abstractmethod
    def execute(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> AbstractContextManager[Any]:
        """Run one statement; errors of the driver are translated until the block ends."""

    @abstractmethod
    def translate_errors(self, sql: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Convert errors of the driver to those of dbctl."""

    @abstractmethod
    def _fetch_limited(self, sql: str, parameters: Mapping[str, object], milliseconds: int) -> list[Row]:
        """Run ``fetch`` with a time limit, after which the server reports an error."""

    @abstractmethod
    def _is_timeout(self, error: BaseException | None) -> bool:
        """Whether the driver reports that a statement reached its time limit."""

    @abstractmethod
    def _query_statements(self) -> tuple[str, str]:
        """Return SQL that begins a transaction which cannot write, and SQL that rolls it back."""

    @abstractmethod
    def require_query(self, sql: str) -> None:
        """Refuse a statement that is not a query.

        Raises:
            QueryFailedError: it does something else.
        """

    @property
    def session(self) -> S:
        """The session; an error of the program if the connection is closed."""
        if self._session is None:
            raise RuntimeError(f"{self.target} is closed")
        return self._session

    @property
    def is_open(self) -> bool:
        """Whether the connection was not closed; its session may be lost."""
        return self._session is not None

    @property
    def is_usable(self) -> bool:
        """Whether the connection is open and was not lost."""
        return self._session is not None and not self.is_broken

    def close(self) -> None:
        """End the session; further calls do nothing."""
        if self._session is not None:
            self.cleanup.close()
            self._disconnect(self._session)
            self._session = None

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        """Run one statement of a profile or a user in a transaction that cannot write."""
        self.require_query(sql)
        with self.read_transaction():
            return self.fetch(sql, parameters)

    def fetch(self, sql: str, parameters: Mapping[str, object] = {}, *, writing: bool = False) -> list[Row]:
        """Run one statement and return all its rows; none if it returns no rows."""
        return self._retry_once(partial(self._fetch, sql, parameters, writing=writing))

    def fetch_by_name(self, sql: str, parameters: Mapping[str, object] = {}) -> list[dict[str, Any]]:
        """Run one reading statement and return its rows, each by column name in lower case."""
        return self._retry_once(partial(self._fetch_by_name, sql, parameters))

    def fetch_as(
        self, kind: type[V], sql: str, parameters: Mapping[str, object] = {}, **fields: object
    ) -> list[V]:
        """Return the rows of one reading statement as values of ``kind`` (see ``convert_row``).

        Its columns have the names of the fields; ``fields`` are the same in each row.
        """
        rows = self.fetch_by_name(sql, parameters)
        return [convert_row({**row, **fields}, kind) for row in rows]

    def fetch_within(
        self, timeout: timedelta, sql: str, parameters: Mapping[str, object]
    ) -> list[Row] | None:
        """As ``fetch``; None if it takes longer than a time limit."""
        milliseconds = timeout // timedelta(milliseconds=1)
        if milliseconds <= 0:  # 0 would mean no limit
            return None
        try:
            return self._fetch_limited(sql, parameters, milliseconds)
        except QueryFailedError as error:
            if self._is_timeout(error.__cause__):
                return None
            raise

    @contextmanager
    def translate_timeout(self, timeout: timedelta | None) -> Iterator[None]:
        """Raise QueryTimeoutError for a statement of a user that the server ended after ``timeout``."""
        try:
            yield
        except QueryFailedError as error:
            if timeout is None or not self._is_timeout(error.__cause__):
                raise
            limit = f"{timeout.total_seconds():g} s"
            raise QueryTimeoutError(target=self.target, limit=limit, hint="Increase --within.") from error

    @contextmanager
    def read_transaction(self, *settings: str) -> Iterator[None]:
        """Begin a transaction that cannot write, with further statements, and roll it back at the end."""
        is_nested = self._has_query_transaction
        begin, end = self._query_statements()
        self.run("; ".join([begin, *settings]))  # one message to the server
        self._has_query_transaction = True
        try:
            yield
        finally:
            self._has_query_transaction = is_nested
            if self.is_usable and not self.ending_error:
                self.run(end)

    def execute_write(self, sql: str, parameters: Mapping[str, object] = {}) -> int:
        with self.execute(sql, parameters, writing=True) as cursor:
            row_count: int = cursor.rowcount
            return row_count

    def run(self, sql: str) -> None:
        """Run a statement without parameters, such as one that begins or ends a transaction.

        Statements with parameters cannot end a failed transaction.
        """
        self._retry_once(partial(self._run, sql))

    def apply_settings(self) -> None:
        """Apply the settings of the session again."""
        with self.translate_errors("set"):
            self.session.apply_settings()

    @contextmanager
    def _check_binding(self, sql: str) -> Iterator[None]:
        """Refuse a parameter without a value, and a statement with a NUL."""
        try:
            yield
        except KeyError as error:
            reason = f"parameter :{error.args[0]} has no value"
            raise QueryFailedError(target=self.target, reason=reason) from None
        if "\0" in sql:
            raise QueryFailedError(target=self.target, reason="it contains a NUL")

    def _fetch(self, sql: str, parameters: Mapping[str, object], *, writing: bool) -> list[Row]:
        with self.execute(sql, parameters, writing=writing) as cursor:
            return list(cursor.fetchall()) if cursor.description else []

    def _fetch_by_name(self, sql: str, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        with self.execute(sql, parameters, writing=False) as cursor:
            # MySQL returns names of its information_schema in upper case, whatever the statement writes.
            names = [str(column[0]).lower() for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _run(self, sql: str) -> None:
        session = self.session
        with self.translate_errors(sql):
            session.run(sql)

    def _retry_once(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except UnreachableError as error:
            if not self.read_only or self._has_query_transaction or not self.is_broken:
                raise
            if liveness.UNREACHABLE in str(error):  # a new session would wait as long as the probe
                raise
        self._session = self._connect()
        for callback in self.on_change:
            callback()
        return read()


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

    def _commit(self, sql: str) -> None:
        """Commit, or release a savepoint."""
        self._connection.run(sql)

    @contextmanager
    def begin(self, statement: str) -> Iterator[None]:
        """Run a transaction that starts with ``statement``, or a savepoint inside another transaction."""
        nested = self.depth
        begin, commit, rollback = (
            (f"savepoint s{nested}", f"release savepoint s{nested}", f"rollback to savepoint s{nested}")
            if nested
            else (statement, "commit", "rollback")
        )
        if not nested:  # a signal may have arrived during the commit of the one before
            signals.raise_if_interrupted()
        try:
            self._connection.run(begin)
            self.depth += 1
            yield
            self.require()  # a server would commit a part, or nothing, without an error
            self._commit(commit)
        except BaseException:  # also on a signal: an incomplete change must be rolled back
            self._roll_back(rollback)
            raise
        finally:
            self.depth = nested
