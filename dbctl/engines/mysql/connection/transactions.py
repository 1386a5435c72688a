"""Transactions of a session that writes, and the lock between dbctl processes on a server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pymysql

from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.errors import UNSUPPORTED, error_number
from dbctl.engines.mysql.locks import (
    acquire_unless_swapping_sql,
    decode_holder,
    holder_locks_sql,
    holder_query,
    lock_name,
    swap_lock_name,
)
from dbctl.engines.mysql.types.values import format_literal
from dbctl.engines.servers.connection import TRANSACTION_ENDED, ServerTransactions, wait_for_lock
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import QueryFailedError


class MySQLTransactions(ServerTransactions):
    """Transactions that see the snapshot of their first statement, and their own changes.

    If another transaction has changed the same row since then, ``ConcurrentChangeError`` is raised; a server that cannot
    detect this locks everything that is read. Either way, only what was planned is executed.
    """

    _connection: MySQLConnection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            with self.begin("start transaction read write"):
                yield
        finally:
            if not self.depth:
                self.forget_errors()

    def require(self) -> None:
        session = self._connection.session
        if not self.depth:
            raise RuntimeError("a write outside a transaction")
        has_failed = self._connection.has_failed or self._connection.ending_error
        if session.open and (has_failed or not session.in_transaction):
            raise QueryFailedError(target=self._connection.target, reason=TRANSACTION_ENDED)

    def forget_errors(self) -> None:
        self._connection.has_failed, self._connection.ending_error = False, ""

    def _roll_back(self, sql: str) -> None:
        if not self._connection.is_open or (self.depth > 1 and self._connection.ending_error):
            return  # the server has rolled back everything
        try:
            self._connection.session.run(sql)
            self._connection.has_failed = False
        except pymysql.Error:
            self._connection.close()  # this rolls back; the original error is reported


class DbctlLock:
    """The lock of a session on a database; its name is valid on the whole server."""

    def __init__(self, connection: MySQLConnection, database: str = "") -> None:
        """Create the lock of ``database``; by default, of the one to which the session is connected."""
        self._connection = connection
        self._name = lock_name(database or connection.session.database)

    @contextmanager
    def acquire(self, purpose: str) -> Iterator[None]:
        """Block other dbctl processes, as ``Writable.lock`` describes.

        Raises:
            BusyError: another dbctl process holds the lock.
        """
        if not self.is_effective():  # doctor reports it
            yield
            return
        try:
            wait_for_lock(self._connection, self._try, self._describe_holder)
            since = datetime.now(UTC).isoformat(" ", "seconds")
            description = f"dbctl {purpose} (pid {os.getpid()} on {socket.gethostname()}, since {since})"
            self._connection.fetch(holder_locks_sql(self._name, description))
            yield
        finally:  # the lock ends with the session at the latest
            with suppress(DbctlError, RuntimeError):
                self._connection.fetch("select release_all_locks()")

    def is_effective(self) -> bool:
        """Whether the server has such locks."""
        try:
            self._connection.fetch(f"select is_free_lock({format_literal(self._name)})")
        except QueryFailedError as error:
            if error_number(error.__cause__) not in UNSUPPORTED:
                raise
            return False
        return True

    def _try(self) -> bool:
        return self._connection.fetch(acquire_unless_swapping_sql(self._name)) == [(1,)]

    def _describe_holder(self) -> str:
        ((*row,),) = self._connection.fetch(holder_query(self._name))
        connection_id, description = decode_holder(row)
        if connection_id == self._connection.session.connection_id:
            # This session has the lock but waits for the swap.
            swap_lock = format_literal(swap_lock_name(self._name))
            ((connection_id,),) = self._connection.fetch(f"select is_used_lock({swap_lock})")
            description = "a killed restore that has not ended yet"
        return (
            f" by {description or 'another dbctl'}, session {connection_id} of the server"
            if connection_id
            else " by another dbctl"
        )
