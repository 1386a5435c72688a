"""A session on a server, its transactions for queries, and the conversion of its errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import cast

import pymysql

from dbctl import signals
from dbctl.engines.mysql.connection.blockers import describe_blockers
from dbctl.engines.mysql.connection.opening import lock_wait_seconds, open_session
from dbctl.engines.mysql.connection.server import Server
from dbctl.engines.mysql.connection.session import Session
from dbctl.engines.mysql.errors import (
    ROLLED_BACK,
    TIMEOUT_ERRORS,
    ErrorContext,
    error_number,
    translate_error,
    unreachable_error,
)
from dbctl.engines.mysql.sql import find_rejection
from dbctl.engines.mysql.types import bind_parameters
from dbctl.engines.servers import ServerConnection
from dbctl.engines.sql import Row, is_storable
from dbctl.errors import DbctlError, QueryFailedError, ValueInvalidError


class MySQLConnection(ServerConnection[Session]):
    """One session on a server."""

    ending_error = ""  #: the error number that ended the open transaction
    has_failed = False  #: whether a statement of the open transaction failed

    def _connect(self) -> Session:
        try:
            return open_session(self.url, self.target, timeout=self.timeout, read_only=self.read_only)
        except pymysql.Error as error:
            raise unreachable_error(error, self.target) from None  # a traceback would show the arguments

    def _disconnect(self, session: Session) -> None:
        session.drop()

    @property
    def server(self) -> Server:
        """The product and the version of the server."""
        return self.session.server

    @property
    def is_broken(self) -> bool:
        return self._session is not None and not self._session.open

    def fetch_within(
        self, sql: str, parameters: Mapping[str, object], timeout: timedelta
    ) -> list[Row] | None:
        milliseconds = timeout // timedelta(milliseconds=1)
        if milliseconds <= 0:  # 0 would mean no limit
            return None
        limited = (
            f"set statement max_statement_time = {milliseconds / 1000} for {sql}"
            if self.server.is_mariadb
            else sql.replace("select", f"select /*+ MAX_EXECUTION_TIME({milliseconds}) */", 1)
        )
        try:
            return self.fetch(limited, parameters)
        except QueryFailedError as error:
            if error_number(error.__cause__) in TIMEOUT_ERRORS:
                return None
            raise

    def fetch_by_column(self, sql: str, parameters: Mapping[str, object]) -> list[dict[str, object]]:
        """Return the rows of a reading statement, each by column name."""
        with self.execute(sql, parameters, writing=False) as cursor:
            names = [str(description[0]) for description in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cast("list[Row]", cursor.fetchall())]

    @contextmanager
    def execute(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> Iterator[pymysql.cursors.Cursor]:
        session = self.session
        try:
            text = bind_parameters(sql, parameters, escapes=session.server.backslash_escapes)
        except KeyError as error:
            raise QueryFailedError(
                target=self.target, reason=f"parameter :{error.args[0]} has no value"
            ) from None
        if not is_storable(text):
            if "\0" in text:
                raise QueryFailedError(target=self.target, reason="it contains a NUL")
            raise ValueInvalidError(name="statement", value="given", reason="it is not valid UTF-8")
        with self.translate_errors(sql, writing=writing), session.cursor() as cursor:
            cursor.execute(text)
            yield cursor

    @contextmanager
    def translate_errors(self, sql: str, *, writing: bool = False) -> Iterator[None]:
        session = self.session
        try:
            yield
        except pymysql.Error as error:
            signals.raise_if_interrupted()  # a driver error is expected after a signal
            self.has_failed = self.has_failed or writing
            if error_number(error) in ROLLED_BACK:
                self.ending_error = str(error_number(error))
            raise translate_error(
                error, self.error_context(session), sql, writing=writing, broken=self.is_broken
            ) from error
        except UnicodeDecodeError as error:
            self.abandon(session)
            reason = "the result contains text that is not valid Unicode (half of a surrogate pair)"
            raise QueryFailedError(target=self.target, reason=reason) from error
        except BaseException:  # a signal anywhere in the driver
            if session.in_flight or self.is_broken:
                self.abandon(session)
            raise

    def abandon(self, session: Session) -> None:
        """Make the server stop a statement, which would otherwise continue and keep its locks."""
        session.drop()
        with suppress(pymysql.Error, DbctlError):
            other = open_session(self.url, self.target, timeout=1, read_only=True)
            try:
                other.run(f"kill {session.connection_id}")
            finally:
                other.drop()

    def error_context(self, session: Session) -> ErrorContext:
        """Return the context for messages about errors of ``session``."""
        return ErrorContext(
            target=self.target,
            timeout=lock_wait_seconds(self.timeout, session.server),
            account=session.account,
            database=session.database,
            blockers=lambda: describe_blockers(self.url, self.target, session),
        )

    def require_query(self, sql: str) -> None:
        if reason := find_rejection(sql):
            raise QueryFailedError(target=self.target, reason=reason)

    def execute_text(self, sql: str) -> int:
        """Run a writing statement without parameters; return the number of affected rows."""
        with self.translate_errors(sql, writing=True), self.session.cursor() as cursor:
            cursor.execute(sql)
            return cursor.rowcount

    @contextmanager
    def read_transaction(self) -> Iterator[None]:
        """Begin a transaction that cannot write, and roll it back at the end.

        Inside a writing transaction, a server cannot forbid writes temporarily; they are rolled back to a savepoint.
        """
        in_transaction, had_failed = self.session.in_transaction, self.has_failed
        begin, end = (
            ("savepoint question", "rollback to savepoint question")
            if in_transaction
            else ("start transaction with consistent snapshot, read only", "rollback")
        )
        self.run(begin)
        self._has_query_transaction = True
        try:
            yield
        finally:
            self._has_query_transaction = False
            if self.is_usable and not self.ending_error:
                self.run(end)
                self.has_failed = had_failed
