"""The mixins of engines that are not yet composed of parts; remove it with the last of them."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Generic, Protocol, TypeVar, cast

from dbctl import signals
from dbctl.engines.contract import Capability, IndexDifference, OrphanedRows, Table
from dbctl.engines.sql import Row, SqlReader, ident
from dbctl.errors import BusyError, NotSupportedError, UnreachableError
from dbctl.url import Url

#: Seconds between two tries for the lock of dbctl; short, so that signals are handled.
RETRY_SECONDS = 0.05
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


class MixinConnection(SqlReader, Generic[S]):
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


class MixinReader(MixinConnection[S]):
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


class MixinWriter(MixinConnection[S]):
    """A session that may write."""

    read_only = False
    _depth = 0  #: number of nested transactions
    _in_step_mode = False  #: whether statements may run outside a transaction

    @abstractmethod
    def _require_transaction(self) -> None:
        """Refuse to write without an open transaction."""

    @abstractmethod
    def _roll_back(self, sql: str) -> None:
        """Roll back with ``sql``, or close the session; never raise."""

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        """Run a transaction that starts with ``begin``, or a savepoint inside another transaction."""
        nested = self._depth
        begin, commit, rollback = (
            (f"savepoint s{nested}", f"release savepoint s{nested}", f"rollback to savepoint s{nested}")
            if nested
            else (begin, "commit", "rollback")
        )
        try:
            self._control_transaction(begin)
            self._depth += 1
            yield
            self._require_transaction()  # a server would commit a part, or nothing, without an error
            self._control_transaction(commit)
        except BaseException:  # also on a signal: an incomplete change must be rolled back
            self._roll_back(rollback)
            raise
        finally:
            self._depth = nested

    def _apply_settings(self) -> None:
        with self._translate_errors("set"):
            self._require_session().apply_settings()

    @contextmanager
    def _restore_settings(self) -> Iterator[None]:
        """Let scripts change tables and settings; restore the settings of the session afterwards."""
        try:
            yield
        finally:
            self._tables = None
            if self._session is not None and not self._is_broken():
                self._apply_settings()

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        if self._depth:
            raise RuntimeError("step mode inside a transaction")
        self._in_step_mode = True
        try:
            with self._restore_settings():
                yield
        finally:
            self._in_step_mode = False

    def _wait_for_lock(self, try_lock: Callable[[], bool], describe_holder: Callable[[], str]) -> None:
        """Call ``try_lock`` until it succeeds; ``describe_holder`` returns the holder as `` by …``.

        Raises:
            BusyError: another process held the lock until the timeout.
        """
        deadline = time.monotonic() + self._timeout
        while not try_lock():
            signals.raise_if_interrupted()
            if time.monotonic() >= deadline:
                raise BusyError(target=self.target, holder=describe_holder(), waited=f"{self._timeout:g}")
            time.sleep(RETRY_SECONDS)


class MixinChecks(SqlReader):
    """Capability.CHECK, except ``find_damage``, which each engine implements."""

    @abstractmethod
    def _row_label(self, key: Sequence[str]) -> str:
        """Return SQL for a text that identifies a row of ``c``."""

    def _select_tables(self, table: str) -> list[str]:
        if table:
            return [self._require_table(table).name]
        return [name for name, definition in self.tables().items() if not definition.is_view]

    def _find_orphans(
        self, child: str, schema: str, parent: str, columns: Sequence[str], to: Sequence[str]
    ) -> Iterator[OrphanedRows]:
        """Yield the orphaned rows of ``child``, if any."""
        link = " and ".join(
            f"p.{ident(target)} = c.{ident(source)}" for source, target in zip(columns, to, strict=True)
        )
        has_key = " and ".join(f"c.{ident(column)} is not null" for column in columns)
        key = self._primary_key(child)
        sql = (
            f"select count(*), {f'min({self._row_label(key)})' if key else 'null'} from {ident(child)} c where {has_key}"  # noqa: S608 - names are quoted
            f" and not exists (select 1 from {ident(schema)}.{ident(parent)} p where {link})"
        )
        ((count, first_label),) = cast("list[tuple[int, str | None]]", self._fetch(sql, {}))
        if count:
            example = f"{', '.join(key)} {first_label}" if key else None
            yield OrphanedRows(
                table=child, columns=columns, referenced_table=parent, count=count, example=example
            )

    def find_index_differences(self, index: str, limit: int) -> Sequence[IndexDifference]:
        del index, limit  # the engine cannot read an index without its table
        return ()

    def count_lost_commits(self) -> int:
        return 0  # the server replays its complete log, or does not start

    def list_text_indexes(self) -> Sequence[str]:
        return ()

    def check_text_index(self, name: str) -> str:
        raise NotSupportedError(
            feature=f"checking {name}", subject=self.target, hint="It is not a full-text index."
        )
