"""One session on a server, and what runs in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Generic, Protocol, TypeVar

from dbctl.engines.sql import Row
from dbctl.errors import UnreachableError
from dbctl.url import Url


class Session(Protocol):
    """A connection of the driver with known session settings."""

    def run(self, sql: str) -> object:
        """Run one statement without parameters."""
        ...

    def apply_settings(self) -> None:
        """Apply the session settings that dbctl relies on."""
        ...


class Cursor(Protocol):
    """An executed statement and its result."""

    @property
    def description(self) -> object: ...

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> Iterable[Row]: ...


S = TypeVar("S", bound=Session)
T = TypeVar("T")


class ServerConnection(ABC, Generic[S]):
    """One session; it must not be shared between threads.

    A read-only connection begins a new session once if the server restarted or closed an idle connection.
    """

    #: whether a transaction for a query is open, which a new session would lack
    _has_query_transaction = False

    def __init__(self, url: Url, target: str, *, timeout: float, read_only: bool) -> None:
        """Connect to the database at ``url``; wait at most ``timeout`` seconds for each lock of another process.

        Raises:
            UnreachableError, PrivilegeMissingError: the server is not reachable, or refused the session.
        """
        self.url, self.target, self.timeout, self.read_only = url, target, timeout, read_only
        self._on_reconnect: Callable[[], None] | None = None
        self._session: S | None = self._connect()

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
    ) -> AbstractContextManager[Cursor]:
        """Run one statement; errors of the driver are translated until the block ends."""

    @abstractmethod
    def translate_errors(self, sql: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Convert errors of the driver to those of dbctl."""

    @abstractmethod
    def fetch_within(
        self, sql: str, parameters: Mapping[str, object], timeout: timedelta
    ) -> list[Row] | None:
        """Run ``fetch``, or return None after a time limit."""

    @abstractmethod
    def read_transaction(self) -> AbstractContextManager[None]:
        """Begin a transaction that cannot write, and roll it back at the end."""

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

    def on_reconnect(self, action: Callable[[], None]) -> None:
        """Run ``action`` whenever a new session begins."""
        self._on_reconnect = action

    def close(self) -> None:
        """End the session; further calls do nothing."""
        if self._session is not None:
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

    def execute_write(self, sql: str, parameters: Mapping[str, object] = {}) -> int:
        """Run one writing statement and return the number of affected rows."""
        with self.execute(sql, parameters, writing=True) as cursor:
            return cursor.rowcount

    def run(self, sql: str) -> None:
        """Run a statement without parameters, such as one that begins or ends a transaction.

        Statements with parameters cannot end a failed transaction.
        """
        self._retry_once(partial(self._run, sql))

    def apply_settings(self) -> None:
        """Apply the settings of the session again."""
        with self.translate_errors("set"):
            self.session.apply_settings()

    def _fetch(self, sql: str, parameters: Mapping[str, object], *, writing: bool) -> list[Row]:
        with self.execute(sql, parameters, writing=writing) as cursor:
            return list(cursor.fetchall()) if cursor.description else []

    def _run(self, sql: str) -> None:
        session = self.session
        with self.translate_errors(sql):
            session.run(sql)

    def _retry_once(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except UnreachableError:
            if not self.read_only or self._has_query_transaction or not self.is_broken:
                raise
        self._session = self._connect()
        if self._on_reconnect:
            self._on_reconnect()
        return read()
