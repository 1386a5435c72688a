"""The session of a server, which readers and writers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Generic, Protocol, TypeVar

from dbctl.engines.contract import Capability, Table
from dbctl.engines.sql import Row, SqlReader
from dbctl.errors import UnreachableError
from dbctl.url import Url

#: Capabilities of readers and writers.
BASE_CAPABILITIES = frozenset(
    {
        Capability.ADVISE,
        Capability.BLOAT,
        Capability.CHECK,
        Capability.EXPLAIN,
        Capability.FULL_TEXT,
        Capability.INDEXES,
        Capability.TEXT_SCAN,
        Capability.MAINTAIN,
        Capability.MEASURE,
        Capability.SCHEMA,
        Capability.SESSIONS,
        Capability.SLOW_QUERIES,
        Capability.STREAM,
    }
)


class Session(Protocol):
    """A connection to a server with known session settings."""

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


class ServerConnection(SqlReader, Generic[S]):
    """One session; it must not be shared between threads."""

    read_only = True
    _tables: dict[str, Table] | None  #: the live schema, if it was read
    #: whether a transaction for a query is open, which a new session would lack
    _has_query_transaction = False

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        """Open the database at ``url``; wait at most ``timeout`` seconds for each lock of another process."""
        self.target = target
        self._url, self._timeout = url, timeout
        self._session: S | None = None
        self._open()

    @abstractmethod
    def _open(self) -> None:
        """Begin a session.

        Raises:
            UnreachableError, PrivilegeMissingError: the server is not reachable, or refused the session.
        """

    @abstractmethod
    def _is_broken(self) -> bool:
        """Whether the session lost its connection."""

    @abstractmethod
    def _execute(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> AbstractContextManager[Cursor]:
        """Run one statement; errors of the driver are translated until the block ends."""

    @abstractmethod
    def _translate_errors(self, sql: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Translate the driver's errors."""

    @property
    def url(self) -> Url:
        return self._url

    def _require_session(self) -> S:
        if self._session is None:
            raise RuntimeError(f"{self.target} is closed")
        return self._session

    def _fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        return self._rows(sql, parameters)

    def _rows(self, sql: str, parameters: Mapping[str, object], *, writing: bool = False) -> list[Row]:
        with self._execute(sql, parameters, writing=writing) as cursor:
            return list(cursor.fetchall()) if cursor.description else []

    def _execute_write(self, sql: str, parameters: Mapping[str, object]) -> int:
        """Run one writing statement and return the number of affected rows."""
        with self._execute(sql, parameters, writing=True) as cursor:
            return cursor.rowcount

    def _control_transaction(self, sql: str) -> None:
        """Run a statement that begins or ends a transaction; statements with parameters cannot end a failed one."""
        session = self._require_session()
        with self._translate_errors(sql):
            session.run(sql)


class ServerReader(ServerConnection[S]):
    """A session that reconnects once if the server restarted or closed an idle connection."""

    def _control_transaction(self, sql: str) -> None:
        return self._retry_once(partial(super()._control_transaction, sql))

    def _rows(self, sql: str, parameters: Mapping[str, object], *, writing: bool = False) -> list[Row]:
        return self._retry_once(partial(super()._rows, sql, parameters, writing=writing))

    def _retry_once(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except UnreachableError:
            if self._has_query_transaction or not self._is_broken():
                raise
        self._open()
        return read()
