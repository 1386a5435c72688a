"""Transactions of a session that writes."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress

import psycopg
from psycopg import pq

from dbctl.engines.postgresql.connection.connection import PostgreSQLConnection
from dbctl.engines.servers import TRANSACTION_ENDED, ServerTransactions
from dbctl.errors import QueryFailedError


class PostgreSQLTransactions(ServerTransactions):
    """Transactions that see the snapshot of their first statement, and their own changes.

    If another transaction has changed the same row since then, ``ConcurrentChangeError`` is raised, so that only what
    was planned is executed.
    """

    _connection: PostgreSQLConnection
    base_depth = 0  #: the depth without an open transaction of dbctl

    def transaction(self) -> AbstractContextManager[None]:
        return self.begin("begin isolation level repeatable read read write")

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
