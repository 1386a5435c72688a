"""The common part of readers and writers: one session, the conversion of its errors, and its queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import cast

import pymysql

from dbctl import signals
from dbctl.engines.mysql.describe import MySQLSchemaReader
from dbctl.engines.mysql.errors import (
    ROLLED_BACK,
    TIMEOUT_ERRORS,
    ErrorContext,
    error_number,
    translate_error,
    unreachable_error,
)
from dbctl.engines.mysql.fulltext import MySQLFullText
from dbctl.engines.mysql.locks import describe_blockers
from dbctl.engines.mysql.monitoring import (
    MySQLAdvice,
    MySQLChecks,
    MySQLIndexes,
    MySQLMaintenance,
    MySQLSessions,
    MySQLSizes,
    MySQLSlowQueries,
)
from dbctl.engines.mysql.session import Server, Session, lock_wait_seconds, open_session
from dbctl.engines.mysql.sql import find_rejection
from dbctl.engines.mysql.stream import MySQLStreaming
from dbctl.engines.mysql.types import bind_parameters
from dbctl.engines.servers import MixinConnection
from dbctl.engines.sql import Row, is_storable
from dbctl.errors import DbctlError, QueryFailedError, ValueInvalidError


class MySQLConnection(
    MixinConnection[Session],
    MySQLAdvice,
    MySQLChecks,
    MySQLSchemaReader,
    MySQLIndexes,
    MySQLSizes,
    MySQLFullText,
    MySQLSessions,
    MySQLSlowQueries,
    MySQLStreaming,
    MySQLMaintenance,
):
    """One session on a server."""

    _ending_error = ""  #: the error number that ended the open transaction
    _has_failed = False  #: whether a statement of the open transaction failed

    def _open(self) -> None:
        self._tables = None
        try:
            self._session = open_session(
                self._url, self.target, timeout=self._timeout, read_only=self.read_only
            )
        except pymysql.Error as error:
            raise unreachable_error(error, self.target) from None  # a traceback would show the arguments

    @property
    def server(self) -> Server:
        return self._require_session().server

    def close(self) -> None:
        if self._session is not None:
            self._session.drop()
            self._session = None

    def _is_broken(self) -> bool:
        return self._session is not None and not self._session.open

    def _fetch_within(
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
            return self._rows(limited, parameters)
        except QueryFailedError as error:
            if error_number(error.__cause__) in TIMEOUT_ERRORS:
                return None
            raise

    def _rows_by_column(self, sql: str, parameters: Mapping[str, object]) -> list[dict[str, object]]:
        with self._execute(sql, parameters, writing=False) as cursor:
            names = [str(description[0]) for description in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cast("list[Row]", cursor.fetchall())]

    @contextmanager
    def _execute(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> Iterator[pymysql.cursors.Cursor]:
        session = self._require_session()
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
        with self._translate_errors(sql, writing=writing), session.cursor() as cursor:
            cursor.execute(text)
            yield cursor

    @contextmanager
    def _translate_errors(self, sql: str, *, writing: bool = False) -> Iterator[None]:
        """Convert driver errors to dbctl errors."""
        session = self._require_session()
        try:
            yield
        except pymysql.Error as error:
            signals.raise_if_interrupted()  # a driver error is expected after a signal
            self._has_failed = self._has_failed or writing
            if error_number(error) in ROLLED_BACK:
                self._ending_error = str(error_number(error))
            raise translate_error(
                error, self._error_context(session), sql, writing=writing, broken=self._is_broken()
            ) from error
        except UnicodeDecodeError as error:
            self._abandon(session)
            reason = "the result contains text that is not valid Unicode (half of a surrogate pair)"
            raise QueryFailedError(target=self.target, reason=reason) from error
        except BaseException:  # a signal anywhere in the driver
            if session.in_flight or self._is_broken():
                self._abandon(session)
            raise

    def _abandon(self, session: Session) -> None:
        """Make the server stop a statement, which would otherwise continue and keep its locks."""
        session.drop()
        with suppress(pymysql.Error, DbctlError):
            other = open_session(self._url, self.target, timeout=1, read_only=True)
            try:
                other.run(f"kill {session.connection_id}")
            finally:
                other.drop()

    def _error_context(self, session: Session) -> ErrorContext:
        return ErrorContext(
            target=self.target,
            timeout=lock_wait_seconds(self._timeout, session.server),
            account=session.account,
            database=session.database,
            blockers=lambda: describe_blockers(self._url, self.target, session),
        )

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        """Run one statement of a profile or a user in a read-only transaction."""
        if reason := find_rejection(sql):
            raise QueryFailedError(target=self.target, reason=reason)
        with self._read_transaction():
            return self._rows(sql, parameters)

    @contextmanager
    def _read_transaction(self) -> Iterator[None]:
        """Begin a transaction that cannot write, and roll it back at the end.

        Inside a writing transaction, a server cannot forbid writes temporarily; they are rolled back to a savepoint.
        """
        in_transaction, had_failed = self._require_session().in_transaction, self._has_failed
        begin, end = (
            ("savepoint question", "rollback to savepoint question")
            if in_transaction
            else ("start transaction with consistent snapshot, read only", "rollback")
        )
        self._control_transaction(begin)
        self._has_query_transaction = True
        try:
            yield
        finally:
            self._has_query_transaction = False
            if self._session is not None and not self._is_broken() and not self._ending_error:
                self._control_transaction(end)
                self._has_failed = had_failed
