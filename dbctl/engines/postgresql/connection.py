"""The common part of readers and writers: one session, and the conversion of its errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import psycopg
from psycopg import pq

from dbctl import signals
from dbctl.engines.contract import Capability
from dbctl.engines.postgresql.describe import PostgreSQLSchemaReader
from dbctl.engines.postgresql.errors import ErrorContext, translate_error, unreachable_error
from dbctl.engines.postgresql.fulltext import PostgreSQLFullText
from dbctl.engines.postgresql.locks import describe_blockers
from dbctl.engines.postgresql.monitoring import (
    PostgreSQLAdvice,
    PostgreSQLChecks,
    PostgreSQLIndexes,
    PostgreSQLMaintenance,
    PostgreSQLSessions,
    PostgreSQLSizes,
    PostgreSQLSlowQueries,
)
from dbctl.engines.postgresql.session import Session, open_session
from dbctl.engines.postgresql.sql import PostgreSQLQueries
from dbctl.engines.postgresql.stream import PostgreSQLStreaming
from dbctl.engines.postgresql.types import UNUSED_PARAMETER, bind_parameters, encode_statement
from dbctl.engines.servers import connection
from dbctl.engines.sql import Row
from dbctl.errors import DbctlError, QueryFailedError

#: Capabilities of readers and writers.
CAPABILITIES = connection.BASE_CAPABILITIES | {Capability.CSV}


class PostgreSQLConnection(
    PostgreSQLQueries,
    PostgreSQLAdvice,
    PostgreSQLChecks,
    PostgreSQLSchemaReader,
    PostgreSQLIndexes,
    PostgreSQLSizes,
    PostgreSQLFullText,
    PostgreSQLStreaming,
    PostgreSQLSessions,
    PostgreSQLSlowQueries,
    PostgreSQLMaintenance,
):
    """One session on a server."""

    def _open(self) -> None:
        self._tables = None
        try:
            self._session = open_session(
                self._url, self.target, timeout=self._timeout, read_only=self.read_only
            )
        except psycopg.Error as error:
            raise unreachable_error(error, self.target) from None  # a traceback would show the arguments

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _is_broken(self) -> bool:
        return self._session is not None and self._session.pgconn.status != pq.ConnStatus.OK

    def _fetch_within(
        self, sql: str, parameters: Mapping[str, object], timeout: timedelta
    ) -> list[Row] | None:
        milliseconds = timeout // timedelta(milliseconds=1)
        if milliseconds <= 0:  # 0 would mean no limit
            return None
        try:
            with self._read_transaction():
                self._rows(
                    "select set_config('statement_timeout', :limit, true)", {"limit": f"{milliseconds}ms"}
                )
                return self._rows(sql, parameters)
        except QueryFailedError as error:
            if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                return None
            raise

    @contextmanager
    def _execute(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> Iterator[psycopg.Cursor[Row]]:
        session = self._require_session()
        text, values = self._bind_parameters(sql, parameters)
        with self._translate_errors(text, writing=writing), session.cursor() as cursor:
            cursor.execute(encode_statement(text), values or [UNUSED_PARAMETER])
            yield cursor

    def _bind_parameters(self, sql: str, parameters: Mapping[str, object]) -> tuple[str, list[object]]:
        try:
            text, values = bind_parameters(sql, parameters)
        except KeyError as error:
            raise QueryFailedError(
                target=self.target, reason=f"parameter :{error.args[0]} has no value"
            ) from None
        if "\0" in sql:
            raise QueryFailedError(target=self.target, reason="it contains a NUL")
        return text, values

    @contextmanager
    def _translate_errors(self, sql: str, *, writing: bool = False) -> Iterator[None]:
        """Convert driver errors to dbctl errors."""
        session = self._require_session()
        try:
            yield
        except psycopg.Error as error:
            signals.raise_if_interrupted()  # a driver error is expected after a signal
            raise self._translate_error(error, session, sql, writing=writing) from error

    def _translate_error(
        self, error: psycopg.Error, session: Session, sql: str, *, writing: bool
    ) -> DbctlError:
        return translate_error(
            error, self._error_context(session), sql, writing=writing, broken=self._is_broken()
        )

    def _error_context(self, session: Session) -> ErrorContext:
        return ErrorContext(
            target=self.target,
            timeout=self._timeout,
            user="" if self._is_broken() else session.info.user,
            schema=session.schema,
            blockers=lambda message: self._describe_blockers(message, session.pgconn.backend_pid),
        )

    def _describe_blockers(self, message: str, pid: int) -> str:
        return describe_blockers(self._url, self.target, message, pid, self._statement_names())

    def _statement_names(self) -> Sequence[str]:
        """Return the names in the running statement, if it may change tables."""
        return ()
