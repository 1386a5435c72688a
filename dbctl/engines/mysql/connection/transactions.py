"""Transactions of a session that writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pymysql

from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.servers import TRANSACTION_ENDED, ServerTransactions
from dbctl.errors import QueryFailedError


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
        """Forget the errors of a transaction that has ended."""
        self._connection.has_failed, self._connection.ending_error = False, ""

    def _roll_back(self, sql: str) -> None:
        if not self._connection.is_open or (self.depth > 1 and self._connection.ending_error):
            return  # the server has rolled back everything
        try:
            self._connection.session.run(sql)
            self._connection.has_failed = False
        except pymysql.Error:
            self._connection.close()  # this rolls back; the original error is reported
