"""What reading and writing on a server have in common: one session, and what runs on it."""

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

#: What every session on a server can tell, also one that may write.
TOLD = frozenset(
    {
        Capability.ADVISE,
        Capability.BLOAT,
        Capability.CHECK,
        Capability.EXPLAIN,
        Capability.FULL_TEXT,
        Capability.INDEXES,
        Capability.LOOK,
        Capability.MAINTAIN,
        Capability.MEASURE,
        Capability.SCHEMA,
        Capability.SESSIONS,
        Capability.SLOW,
        Capability.STREAM,
    }
)


class Session(Protocol):
    """A connection to a server that knows what its settings are to be."""

    def run(self, sql: str) -> object:
        """Run one statement without parameters, as it stands."""
        ...

    def settle(self) -> None:
        """Bring the settings of the session to what everything here relies on."""
        ...


class Cursor(Protocol):
    """What has run, and its answer."""

    @property
    def description(self) -> object: ...

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> Iterable[Row]: ...


S = TypeVar("S", bound=Session)
T = TypeVar("T")


class ServedConnection(SqlReader, Generic[S]):
    """One session. Services share no connection between threads, and neither does this."""

    reading = True  #: whether it is opened for reading only
    _tables: dict[str, Table] | None  #: the live schema, where it was read already
    _asks = False  #: whether a transaction for a question is open, which a new session would not have

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        """Open the database at ``url``, waiting at most ``timeout`` seconds whenever somebody else holds a lock."""
        self.target = target
        self._url, self._timeout = url, timeout
        self._session: S | None = None
        self._open()

    @abstractmethod
    def _open(self) -> None:
        """Begin a session.

        Raises:
            UnreachableError, PrivilegeMissingError: the server refused, or there is none.
        """

    @abstractmethod
    def _is_broken(self) -> bool:
        """Whether there is a session whose connection is lost."""

    @abstractmethod
    def _ran(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> AbstractContextManager[Cursor]:
        """Run one statement; what the driver raises meanwhile is a failure of ours."""

    @abstractmethod
    def _told(self, sql: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Let what the driver raises be a failure of ours."""

    @property
    def url(self) -> Url:
        return self._url

    def _current(self) -> S:
        if self._session is None:
            raise RuntimeError(f"{self.target} is closed")
        return self._session

    def _fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        return self._rows(sql, parameters)

    def _rows(self, sql: str, parameters: Mapping[str, object], *, writing: bool = False) -> list[Row]:
        with self._ran(sql, parameters, writing=writing) as cursor:
            return list(cursor.fetchall()) if cursor.description else []

    def _count(self, sql: str, parameters: Mapping[str, object]) -> int:
        """Run one writing statement and return how many rows it touched."""
        with self._ran(sql, parameters, writing=True) as cursor:
            return cursor.rowcount

    def _say(self, sql: str) -> None:
        """Run one of the statements that begin and end transactions; a failed one ends by none with parameters."""
        session = self._current()
        with self._told(sql):
            session.run(sql)


class ServedReader(ServedConnection[S]):
    """A session that takes up a new connection where the server was restarted, or ended an idle one."""

    def _say(self, sql: str) -> None:
        return self._repeated(partial(super()._say, sql))

    def _rows(self, sql: str, parameters: Mapping[str, object], *, writing: bool = False) -> list[Row]:
        return self._repeated(partial(super()._rows, sql, parameters, writing=writing))

    def _repeated(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except UnreachableError:
            if self._asks or not self._is_broken():
                raise
        self._open()
        return read()
