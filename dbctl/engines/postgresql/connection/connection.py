"""A session on a server, its transactions for queries, and the conversion of its errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import psycopg
from psycopg import pq

from dbctl import signals
from dbctl.engines.contract.database import Column
from dbctl.engines.postgresql.connection.blockers import describe_blockers
from dbctl.engines.postgresql.connection.session import Session, open_session
from dbctl.engines.postgresql.errors import translate_error, unreachable_error
from dbctl.engines.postgresql.sql import read_only
from dbctl.engines.postgresql.types.columns import encode_for_column
from dbctl.engines.postgresql.types.values import UNUSED_PARAMETER, bind_parameters, encode_statement
from dbctl.engines.servers.connection import ServerConnection
from dbctl.engines.servers.errors import ErrorContext
from dbctl.engines.sql.catalog import BoundQuery, Row, ident
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.operations import RowLocksMissingError

#: The end of a query that locks the rows that it reads.
ROW_LOCK = " for no key update of t0"


class PostgreSQLConnection(ServerConnection[Session]):
    can_lock_rows = True  #: whether the server supports the locks of rows in queries
    running_statement = ""  #: the running statement of a script, to find the sessions that block it

    def _connect(self) -> Session:
        try:
            return open_session(self.url, self.target, timeout=self.timeout, read_only=self.read_only)
        except psycopg.Error as error:
            raise unreachable_error(
                error, self.target, self.url
            ) from None  # a traceback would show the arguments

    def _disconnect(self, session: Session) -> None:
        session.close()

    @property
    def is_broken(self) -> bool:
        return self._session is not None and self._session.pgconn.status != pq.ConnStatus.OK

    @property
    def transaction_status(self) -> pq.TransactionStatus:
        return pq.TransactionStatus(self.session.pgconn.transaction_status)

    def _fetch_limited(self, queries: Sequence[BoundQuery], milliseconds: int) -> list[list[Row]]:
        with self.read_transaction(f"set local statement_timeout = {milliseconds}"):
            return [self.fetch(sql, parameters) for sql, parameters in queries]

    def _is_timeout(self, error: BaseException | None) -> bool:
        return isinstance(error, psycopg.errors.QueryCanceled)

    def require_query(self, sql: str) -> None:
        first = read_only.read_first_word(sql)
        if first not in read_only.QUERY_WORDS:
            raise QueryFailedError(
                target=self.target, reason=f"{first.upper() or 'an empty statement'} is not a query"
            )

    @contextmanager
    def execute(
        self, sql: str, parameters: Mapping[str, object], *, writing: bool
    ) -> Iterator[psycopg.Cursor[Row]]:
        session = self.session
        text, values = self.bind_parameters(sql, parameters)
        with self.translate_errors(text, writing=writing), session.cursor() as cursor:
            cursor.execute(encode_statement(text), values or [UNUSED_PARAMETER])
            yield cursor

    def fetch_texts(self, sql: str, parameters: Mapping[str, object]) -> list[tuple[str | None, ...]]:
        """Run one statement and return its rows as the server writes them, in text without any conversion."""
        return self._retry_once(partial(self._fetch_texts, sql, parameters))

    def _fetch_texts(self, sql: str, parameters: Mapping[str, object]) -> list[tuple[str | None, ...]]:
        with self.execute(sql, parameters, writing=False) as cursor:
            result = cursor.pgresult
            if result is None:
                return []
            read, columns = result.get_value, range(result.nfields)
            return [
                tuple(
                    None if (value := read(row, column)) is None else value.decode("utf-8", "surrogateescape")
                    for column in columns
                )
                for row in range(result.ntuples)
            ]

    def bind_parameters(self, sql: str, parameters: Mapping[str, object]) -> tuple[str, list[object]]:
        """Return a statement with the parameters of the server, and their values.

        Raises:
            QueryFailedError: a parameter has no value, or the statement contains a NUL.
        """
        try:
            text, values = bind_parameters(sql, parameters)
        except KeyError as error:
            raise QueryFailedError(
                target=self.target, reason=f"parameter :{error.args[0]} has no value"
            ) from None
        if "\0" in sql:
            raise QueryFailedError(target=self.target, reason="it contains a NUL")
        return text, values

    def copy_rows(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        """Insert many rows by COPY into ``table``, a name in SQL; return their number.

        An error of the iterator is raised unchanged.
        """
        sql = f"copy {table} ({', '.join(ident(column.name) for column in columns)}) from stdin"
        with self.translate_errors(sql, writing=True), self.session.cursor() as cursor:
            with cursor.copy(sql.encode()) as copy:
                for row in rows:
                    copy.write_row(
                        [encode_for_column(column, value) for column, value in zip(columns, row, strict=True)]
                    )
            return cursor.rowcount

    @contextmanager
    def translate_errors(self, sql: str, *, writing: bool = False) -> Iterator[None]:
        session = self.session
        try:
            yield
        except psycopg.Error as error:
            signals.raise_if_interrupted()  # a driver error is expected after a signal
            if isinstance(error, psycopg.errors.FeatureNotSupported) and ROW_LOCK in sql:
                self.can_lock_rows = False
                raise RowLocksMissingError(target=self.target) from error
            context = ErrorContext(
                target=self.target,
                timeout=self.timeout,
                account="" if self.is_broken else ident(session.info.user),
                schema=session.schema,
                in_standby=session.in_standby,
                blockers=lambda message: self.describe_blockers(message, session.pgconn.backend_pid),
            )
            raise translate_error(error, context, sql, writing=writing, broken=self.is_broken) from error

    def describe_blockers(self, message: str, pid: int) -> str:
        """Return the holders of the lock for which the session ``pid`` waited, from the server's message about it."""
        return describe_blockers(self.url, self.target, message, pid, self._statement_names())

    def _statement_names(self) -> Sequence[str]:
        """Return the names in the running statement, if it may change tables."""
        from dbctl.engines.postgresql.sql.lexer import LEXER

        significant = LEXER.read_significant(self.running_statement)
        words = [token.text.lower() for token in significant if token.kind == "word"]
        return words + [token.text[1:-1].replace('""', '"') for token in significant if token.kind == "name"]

    def _query_statements(self) -> tuple[str, str]:
        if self.transaction_status == pq.TransactionStatus.INTRANS:
            return "savepoint question; set transaction read only", "rollback to question; release question"
        return "begin isolation level repeatable read read only", "rollback"
