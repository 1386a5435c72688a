"""Queries of profiles and users: run in a read-only transaction, with streamed rows."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from itertools import chain, islice
from typing import cast

import psycopg
from psycopg import capabilities

from dbctl.engines.contract.streaming import BATCH_ROWS, RowStream, UserQuery
from dbctl.engines.postgresql.connection.connection import PostgreSQLConnection
from dbctl.engines.postgresql.connection.session import Session
from dbctl.engines.postgresql.sql import read_only
from dbctl.engines.postgresql.types.values import UNUSED_PARAMETER, encode_statement
from dbctl.engines.sql.catalog import Row
from dbctl.errors.connection import (
    QueryFailedError,
    QueryTimeoutError,
    SecretColumnError,
    StoredFunctionError,
)

#: Rows in one chunk; before version 17, libpq returns single rows.
CHUNK_ROWS = BATCH_ROWS if capabilities.has_stream_chunked() else 1


class ReadOnlyQueries:
    """Runs statements of users, whose effects a rollback must undo."""

    def __init__(self, connection: PostgreSQLConnection) -> None:
        self._connection = connection

    @contextmanager
    def run(self, query: UserQuery) -> Iterator[RowStream]:
        """Run one statement of a user read-only, as ``RowStreams.query_read_only`` describes."""
        self._connection.require_query(query.sql)
        session, timeout = self._connection.session, query.timeout
        with self._connection.read_transaction():
            self._refuse_side_effects(query.sql)
            if not query.calls_stored_functions:
                self._refuse_stored_functions(query.sql)
            if query.hidden:
                self._refuse_secrets(query)
            if timeout is not None:
                limit = f"{max(1, timeout // timedelta(milliseconds=1))}ms"
                self._connection.fetch(
                    "select set_config('statement_timeout', :limit, true)", {"limit": limit}
                )
            with (
                self._translate_timeout(timeout),
                self._connection.translate_errors(query.sql),
                session.cursor() as cursor,
            ):
                text, values = self._connection.bind_parameters(query.sql, query.parameters)
                rows = cursor.stream(encode_statement(text), values or [UNUSED_PARAMETER], size=CHUNK_ROWS)
                with closing(cast("Generator[Row]", rows)):
                    first_row = next(rows, None)
                    if first_row is None:
                        yield RowStream(_describe_columns(session, text), iter(()))
                    else:
                        columns = [column.name for column in cursor.description or ()]
                        yield RowStream(columns, _batches(chain((first_row,), rows)))

    @contextmanager
    def _translate_timeout(self, within: timedelta | None) -> Iterator[None]:
        try:
            yield
        except QueryFailedError as error:
            if within is None or not isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                raise
            limit = f"{within.total_seconds():g} s"
            raise QueryTimeoutError(
                target=self._connection.target, limit=limit, hint="Increase --within."
            ) from error

    def _refuse_secrets(self, query: UserQuery) -> None:
        statement = read_only.explained_statement(query.sql)
        first = read_only.read_first_word(statement)
        if first not in read_only.EXPLAINED_WORDS:
            if statement != query.sql and first not in read_only.DML_WORDS:
                raise QueryFailedError(
                    target=self._connection.target, reason=f"EXPLAIN {first.upper()} is not a query"
                )
            return
        hidden = self._with_child_tables(query.hidden)
        secret = read_only.find_renamed_columns(statement, hidden)
        if not secret:
            ((plan,),) = self._connection.fetch(
                f"explain (verbose, costs off, format json) {statement}", query.parameters
            )
            secret = read_only.find_secret(str(plan), hidden)
        if secret:
            raise SecretColumnError(target=self._connection.target, column=secret)

    def _with_child_tables(self, hidden: Mapping[str, Collection[str]]) -> dict[str, Collection[str]]:
        """Return hidden columns, including those of partitions and other tables that inherit them."""
        rows = self._connection.fetch(read_only.CHILD_TABLES, {"names": list(hidden)})
        return {**hidden, **{str(child): hidden[str(table)] for child, table in rows if child not in hidden}}

    def _refuse_stored_functions(self, sql: str) -> None:
        words, signs = read_only.list_words_and_signs(sql)
        called, _ = read_only.find_called_functions(sql)
        values = {"words": words, "signs": signs, "called": called}
        for (name,) in self._connection.fetch(read_only.STORED_FUNCTION, values):
            raise StoredFunctionError(target=self._connection.target, function=name)

    def _refuse_side_effects(self, sql: str) -> None:
        names, has_hidden_names = read_only.find_called_functions(sql)
        if has_hidden_names:
            raise QueryFailedError(
                target=self._connection.target, reason="it contains a U& name, which hides what it calls"
            )
        rows = self._connection.fetch(read_only.VOLATILE, {"names": names}) if names else []
        functions = [name for name in names if read_only.RUNS_SQL.fullmatch(name)]
        functions += [str(name) for (name,) in rows if name not in read_only.HARMLESS]
        if functions:
            reason = f"{functions[0]} does more than read, and a rollback does not undo it"
            raise QueryFailedError(target=self._connection.target, reason=reason)


def _describe_columns(session: Session, sql: str) -> list[str]:
    """Return the columns of a statement that returned no rows, for which the driver has no description."""
    session.pgconn.prepare(b"", encode_statement(sql))
    description = session.pgconn.describe_prepared(b"")
    return [
        (description.fname(position) or b"").decode(errors="surrogateescape")
        for position in range(description.nfields)
    ]


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch
