"""Stream the rows of a server, and run queries of users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import cast

from pymysql.cursors import SSCursor

from dbctl import signals
from dbctl.engines.contract.streaming import BATCH_ROWS, RowStream, RowStreams, UserQuery
from dbctl.engines.mysql.catalog import require_rights
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.database import MySQLPart
from dbctl.engines.mysql.read_only import (
    STORED_FUNCTIONS,
    VIEWS,
    find_external_call,
    find_secret,
    find_stored_function,
)
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.values import exact_expression, keep_exact_values
from dbctl.engines.sql.catalog import Row
from dbctl.errors.connection import QueryFailedError, SecretColumnError, StoredFunctionError

#: The recursion limit: by default, MariaDB stops at the thousandth step, and returns an incomplete result.
MAX_ITERATIONS = 4_294_967_295


class MySQLStreams(MySQLPart, RowStreams):
    """The part ``RowStreams``."""

    sql_dialect = "mysql"

    def view_queries(self) -> Mapping[str, str]:
        from dbctl.engines.mysql.catalog import VIEWS

        return {view["name"]: view["text"] for view in self._connection.fetch_by_name(VIEWS)}

    @contextmanager
    def stream(self, table: str, columns: Sequence[str]) -> Iterator[RowStream]:
        require_rights(self._connection, ["SELECT"], table)
        names = ", ".join(
            exact_expression(
                self._catalog.require_column(table, column), self._catalog.quote_column(table, column, "")
            )
            for column in columns
        )
        sql = f"select {names} from {self._catalog.quote_table(table)}"
        with (
            keep_exact_values(self._connection.session),
            stream_rows(self._connection, sql, columns) as stream,
        ):
            yield stream

    @contextmanager
    def query_read_only(self, query: UserQuery) -> Iterator[RowStream]:
        self._connection.require_query(query.sql)
        if name := find_external_call(query.sql):
            reason = f"{name} does more than read, and a rollback does not undo it"
            raise QueryFailedError(target=self._connection.target, reason=reason)
        if secret := find_secret(query.sql, query.hidden):
            raise SecretColumnError(target=self._connection.target, column=secret)
        if not query.calls_stored_functions:
            self._refuse_stored_functions(query.sql)
        with (
            self._connection.read_transaction(),
            self._limit_time(query.timeout),
            stream_rows(self._connection, self._connection.bind(query.sql, query.parameters)) as stream,
        ):
            yield stream

    def _refuse_stored_functions(self, sql: str) -> None:
        functions = {str(name) for (name,) in self._connection.fetch(STORED_FUNCTIONS)}
        rows = self._connection.fetch(VIEWS) if functions else ()
        views = {str(name): str(definition or "") for name, definition in rows}
        if name := find_stored_function(sql, functions, views):
            raise StoredFunctionError(target=self._connection.target, function=name)

    @contextmanager
    def _limit_time(self, within: timedelta | None) -> Iterator[None]:
        session = self._connection.session
        limits: dict[str, object] = {}
        if session.server.is_mariadb:
            limits["max_recursive_iterations"] = MAX_ITERATIONS
        if within is not None:
            duration = max(within, timedelta(milliseconds=1))
            if session.server.is_mariadb:
                limits["max_statement_time"] = duration / timedelta(seconds=1)
            else:
                limits["max_execution_time"] = duration // timedelta(milliseconds=1)
        with self._connection.translate_errors("set"):
            for name, value in limits.items():
                session.run(f"set session {name} = {value}")
        try:
            with self._connection.translate_timeout(within):
                yield
        finally:
            if session.open:
                with self._connection.translate_errors("set"):
                    for name in limits:
                        session.run(f"set session {name} = default")


@contextmanager
def stream_rows(
    connection: MySQLConnection, sql: str, columns: Sequence[str] | None = None
) -> Iterator[RowStream]:
    """Run a statement and provide its rows, which the server sends as they are read."""
    session = connection.session
    with connection.translate_errors(sql):
        cursor = session.cursor(SSCursor)
        try:
            cursor.execute(sql)
            names = [str(description[0]) for description in cursor.description or ()]
            yield RowStream(columns or names, _batches(cursor))
        finally:
            _end_stream(connection, session, cursor)


def _end_stream(connection: MySQLConnection, session: Session, cursor: SSCursor) -> None:
    """End a stream. The driver would read to the last row, so a session with unread rows is closed."""
    result = session._result  # type: ignore[attr-defined]  # noqa: SLF001 - the driver has no public attribute for it
    if result is not None and result.unbuffered_active:
        if session.open:
            connection.abandon(session)
            session._force_close()  # type: ignore[attr-defined]  # noqa: SLF001 - no public method
        result.unbuffered_active, result.connection = False, None
        cursor.connection = None  # type: ignore[assignment]
    else:
        cursor.close()


def _batches(cursor: SSCursor) -> Iterator[list[Row]]:
    while rows := cast("list[Row]", list(cursor.fetchmany(BATCH_ROWS))):
        signals.raise_if_interrupted()
        yield rows
