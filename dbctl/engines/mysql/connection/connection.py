"""A session on a server, its transactions for queries, and the conversion of its errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import pymysql

from dbctl import signals
from dbctl.engines.mysql.connection.blockers import describe_blockers
from dbctl.engines.mysql.connection.opening import lock_wait_seconds, open_session
from dbctl.engines.mysql.connection.server import Server
from dbctl.engines.mysql.connection.session import Session
from dbctl.engines.mysql.errors import (
    ROLLED_BACK,
    TIMEOUT_ERRORS,
    error_number,
    translate_error,
    unreachable_error,
)
from dbctl.engines.mysql.sql.read_only import find_rejection
from dbctl.engines.mysql.types.values import bind_parameters
from dbctl.engines.servers.connection import ServerConnection
from dbctl.engines.servers.errors import ErrorContext
from dbctl.engines.sql.catalog import BoundQuery, Row, is_storable
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import ValueInvalidError

#: Bytes of a statement of bytes that an error may need.
LONGEST_SHOWN = 1000


class MySQLConnection(ServerConnection[Session]):
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
        return self.session.server

    @property
    def is_broken(self) -> bool:
        return self._session is not None and not self._session.open

    def _fetch_limited(self, queries: Sequence[BoundQuery], milliseconds: int) -> list[list[Row]]:
        if self.server.is_mariadb:
            limit = f"set statement max_statement_time = {milliseconds / 1000} for select"
        else:
            limit = f"select /*+ MAX_EXECUTION_TIME({milliseconds}) */"
        return [self.fetch(sql.replace("select", limit, 1), parameters) for sql, parameters in queries]

    def _is_timeout(self, error: BaseException | None) -> bool:
        return error_number(error) in TIMEOUT_ERRORS

    def bind(self, sql: str, parameters: Mapping[str, object]) -> str:
        """Return a statement with its parameters replaced by literals."""
        try:
            return bind_parameters(sql, parameters, escapes=self.server.backslash_escapes)
        except KeyError as error:
            reason = f"parameter :{error.args[0]} has no value"
            raise QueryFailedError(target=self.target, reason=reason) from None

    @contextmanager
    def execute(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> Iterator[pymysql.cursors.Cursor]:
        session = self.session
        text = self.bind(sql, parameters)
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
            schema=session.database,
            blockers=lambda _message: describe_blockers(self.url, self.target, session),
        )

    def require_query(self, sql: str) -> None:
        if reason := find_rejection(sql):
            raise QueryFailedError(target=self.target, reason=reason)

    def execute_text(self, sql: str | bytes) -> int:
        """Run a writing statement without parameters; return the number of affected rows."""
        shown = sql if isinstance(sql, str) else sql[:LONGEST_SHOWN].decode(errors="replace")
        with self.translate_errors(shown, writing=True), self.session.cursor() as cursor:
            cursor.execute(sql)  # type: ignore[arg-type]  # the driver accepts bytes
            return cursor.rowcount

    def _query_statements(self) -> tuple[str, str]:
        if self.session.in_transaction:
            return "savepoint question", "rollback to savepoint question"
        return "start transaction with consistent snapshot, read only", "rollback"

    @contextmanager
    def read_transaction(self, *settings: str) -> Iterator[None]:
        """Begin a transaction that cannot write, and roll it back at the end.

        Inside a writing transaction, a server cannot forbid writes temporarily; they are rolled back to a savepoint.
        """
        had_failed = self.has_failed
        try:
            with super().read_transaction(*settings):
                yield
        finally:
            if self.is_usable and not self.ending_error:
                self.has_failed = had_failed
