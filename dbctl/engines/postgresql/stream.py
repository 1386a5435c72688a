"""Stream the rows of a server by COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import islice

from psycopg import errors, generators, pq
from psycopg.abc import PQGen
from psycopg.waiting import Wait

from dbctl.engines.contract.streaming import BATCH_ROWS, RowStream, UserQuery
from dbctl.engines.contract.vectors import Row
from dbctl.engines.postgresql.database import PostgreSQLDatabase, PostgreSQLPart
from dbctl.engines.postgresql.sql.query_check import ReadOnlyQueries
from dbctl.engines.postgresql.types.codec import exact_reader
from dbctl.engines.sql.catalog import Catalog

#: Bytes of one write.
BLOCK = 1 << 18


_OUTSIDE_FAILURES = (pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS)


class _StopStreamError(Exception):
    """The consumer needs no more rows."""


class PostgreSQLStreams(PostgreSQLPart):
    """The part ``RowStreams``."""

    sql_dialect = "postgres"

    def __init__(self, db: PostgreSQLDatabase) -> None:
        super().__init__(db)
        self._queries = ReadOnlyQueries(db.connection)

    def view_queries(self) -> Mapping[str, str]:
        from dbctl.engines.postgresql.schema import VIEWS

        return {view["name"]: view["text"] for view in self._connection.fetch_by_name(VIEWS)}

    def query_read_only(self, query: UserQuery) -> AbstractContextManager[RowStream]:
        return self._queries.run(query)

    @contextmanager
    def stream(self, table: str, columns: Sequence[str]) -> Iterator[RowStream]:
        readers = [exact_reader(self._catalog.require_column(table, column)) for column in columns]
        sql = f"copy ({_select_columns(self._catalog, table, columns)}) to stdout"
        session = self._connection.session
        with (
            read_all_rows(self._db, table),
            self._connection.translate_errors(sql),
            session.cursor() as cursor,
            suppress(_StopStreamError),
            cursor.copy(sql.encode()) as copy,
        ):
            yield RowStream(columns, _batches(copy.rows(), readers))
            if session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                raise _StopStreamError  # the driver stops COPY only on an exception


class PostgreSQLCsvWriter(PostgreSQLPart):
    """The part ``CsvWriter``."""

    def write_csv(self, table: str, columns: Sequence[str], write: Callable[[bytes], object]) -> int:
        sql = f"copy ({_select_columns(self._catalog, table, columns)}) to stdout (format csv, header)"
        session = self._connection.session
        with read_all_rows(self._db, table), self._connection.translate_errors(sql), session.lock:
            try:
                return session.wait(_copy_out(session.pgconn, sql.encode(), write))  # type: ignore[arg-type]
            except BaseException:  # also on a signal: the server must not continue
                if session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                    session.pgconn.finish()
                raise


@contextmanager
def read_all_rows(db: PostgreSQLDatabase, table: str) -> Iterator[None]:
    """Let the server refuse to read a table in the block if a policy hides rows from this role, instead of leaving them out."""
    if db.catalog.require_table(table).is_view:  # the policies of its owner apply
        yield
        return
    db.connection.run("set row_security = off")
    try:
        yield
    finally:
        connection = db.connection
        # a failed transaction resets it when it is rolled back
        if connection.is_usable and connection.session.pgconn.transaction_status in _OUTSIDE_FAILURES:
            connection.run("reset row_security")


def _select_columns(catalog: Catalog, table: str, columns: Sequence[str]) -> str:
    names = ", ".join(catalog.quote_column(table, column, "") for column in columns)
    return f"select {names} from {catalog.quote_table(table)}"


def _batches(
    rows: Iterator[tuple[object, ...]], readers: Sequence[Callable[[str], object] | None]
) -> Iterator[Sequence[Row]]:
    is_plain = not any(readers)
    while batch := list(islice(rows, BATCH_ROWS)):
        yield (
            batch
            if is_plain
            else [
                tuple(
                    value if parse is None or value is None else parse(str(value))
                    for parse, value in zip(readers, row, strict=True)
                )
                for row in batch
            ]
        )


def _copy_out(wire: pq.abc.PGconn, sql: bytes, write: Callable[[bytes], object]) -> PQGen[int]:
    """Pass on the data of COPY; return the row count.

    The driver's own method takes twice as long: it creates a generator for every row.
    """
    wire.send_query(sql)
    (first,) = yield from generators.execute(wire)
    if first.status != pq.ExecStatus.COPY_OUT:
        raise errors.error_from_result(first)
    chunks: list[memoryview] = []
    size = 0
    while True:
        length, data = wire.get_copy_data(1)
        if length > 0:
            chunks.append(data)
            size += length
            if size >= BLOCK:
                write(b"".join(chunks))
                chunks, size = [], 0
        elif length == 0:
            while not (yield Wait.R):
                continue
            wire.consume_input()
        else:
            break
    write(b"".join(chunks))
    (last,) = yield from generators.fetch_many(wire)
    if last.status != pq.ExecStatus.COMMAND_OK:
        raise errors.error_from_result(last)
    return last.command_tuples or 0
