"""Transactions of a session that writes, and the lock between dbctl processes on a server."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import psycopg
from psycopg import pq

from dbctl.engines.postgresql.connection.connection import PostgreSQLConnection
from dbctl.engines.postgresql.connection.session import application_name
from dbctl.engines.postgresql.errors import is_unsupported
from dbctl.engines.servers.connection import TRANSACTION_ENDED, ServerTransactions, wait_for_lock
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import QueryFailedError


class PostgreSQLTransactions(ServerTransactions):
    """Transactions that see the snapshot of their first statement, and their own changes.

    If another transaction has changed the same row since then, ``ConcurrentChangeError`` is raised, so that only what
    was planned is executed.
    """

    _connection: PostgreSQLConnection
    base_depth = 0  #: the depth without an open transaction of dbctl

    def transaction(self) -> AbstractContextManager[None]:
        # Without locks of rows, only this level detects that a row which was only read has changed.
        level = "repeatable read" if self._connection.can_lock_rows else "serializable"
        return self.begin(f"begin isolation level {level} read write")

    def require(self) -> None:
        session = self._connection.session
        if not self.depth:
            raise RuntimeError("a write outside a transaction")
        if (
            session.pgconn.status == pq.ConnStatus.OK
            and session.pgconn.transaction_status != pq.TransactionStatus.INTRANS
        ):
            raise QueryFailedError(target=self._connection.target, reason=TRANSACTION_ENDED)

    def _roll_back(self, sql: str) -> None:
        if not self._connection.is_open:
            return
        session = self._connection.session
        if session.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            return  # a rejected commit has ended it already
        try:
            if session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                raise psycopg.OperationalError  # a signal arrived where the statement could not be cancelled
            session.execute(sql.encode())
        except psycopg.Error:
            with suppress(psycopg.Error):
                session.cancel_safe(timeout=1)
            self._connection.close()  # this rolls back; the original error is reported


HOLDER = """select a.application_name, a.pid, coalesce(host(a.client_addr), 'the server itself'), a.backend_start
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
  and (l.classid::int8 << 32) | l.objid::int8 = :key limit 1"""


def lock_key(name: str) -> int:
    """Return the key of the advisory lock for a name."""
    digest = hashlib.sha256(f"dbctl/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # not negative, since pg_locks shows two unsigned halves


class DbctlLock:
    """An advisory lock of a session, by its key; the server separates such locks by database."""

    def __init__(self, connection: PostgreSQLConnection, key: int | None = None) -> None:
        """Create the lock of the connection's database and schema, or with ``key`` another one."""
        self._connection, self._key = connection, key

    @contextmanager
    def acquire(self, purpose: str) -> Iterator[None]:
        """Block other dbctl processes, as ``Writable.lock`` describes.

        Raises:
            BusyError: another dbctl process holds the lock.
        """
        self._connection.session.settings["application_name"] = application_name(f"dbctl {purpose}")
        self._connection.apply_settings()
        key = self._own_key() if self._key is None else self._key
        try:
            wait_for_lock(self._connection, lambda: self._try(key), lambda: self._describe_holder(key))
        except QueryFailedError as error:
            if not is_unsupported(error.__cause__):  # doctor reports a server without such locks
                raise
        try:
            yield
        finally:  # the lock ends with the session at the latest
            with suppress(DbctlError, RuntimeError):
                self._release(key)

    def is_effective(self) -> bool:
        """Whether the server has such locks; some accept the function, and lock nothing."""
        key = secrets.randbits(63)
        try:
            is_locked = self._try(key) and bool(self._connection.fetch(HOLDER, {"key": key}))
            self._release(key)
        except QueryFailedError as error:
            if not is_unsupported(error.__cause__):
                raise
            return False
        return is_locked

    def wait_for_killed_restore(self, key: int) -> None:
        """Wait until no session holds the lock ``key``, which a killed restore leaves until its statement ends.

        Raises:
            BusyError: a session held it for longer than the timeout.
        """
        wait_for_lock(
            self._connection,
            lambda: self._try(key),
            lambda: f"{self._describe_holder(key)}, a killed restore that has not ended yet",
        )
        self._release(key)

    def _try(self, key: int) -> bool:
        return self._connection.fetch("select pg_try_advisory_lock(:key)", {"key": key}) == [(True,)]

    def _release(self, key: int) -> None:
        self._connection.fetch("select pg_advisory_unlock(:key)", {"key": key})

    def _own_key(self) -> int:
        """Return the key that all dbctl processes use for this database and schema."""
        session = self._connection.session
        return lock_key(f"{session.database}/{session.schema}")

    def _describe_holder(self, key: int) -> str:
        rows = self._connection.fetch(HOLDER, {"key": key})
        if not rows:
            return " by another dbctl"
        name, pid, host, since = rows[0]
        return f" by {name or 'another dbctl'} (pid {pid} of the server, from {host}, since {since})"
