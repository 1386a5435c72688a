"""Read the rows of a server as lines, which COPY writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from psycopg import errors, generators, pq
from psycopg.abc import PQGen
from psycopg.waiting import Wait

from dbctl import signals
from dbctl.engines.contract import Line, LineBatch, LineColumn, LogicalKind, key_of
from dbctl.engines.postgresql.connection import PostgreSQLConnection, Session
from dbctl.engines.postgresql.database import PostgreSQLPart
from dbctl.engines.postgresql.types import kind_of
from dbctl.engines.sql import canonical, lines, quote_literal

#: Rows of one batch.
BATCH_ROWS = 2000
#: SQL for the text of a value by kind; others have the text of the server.
EXPRESSIONS: Mapping[LogicalKind, str] = {
    "decimal": "case when {0}::text like '%.%' then rtrim(rtrim({0}::text, '0'), '.') else {0}::text end",
    "uuid": "lower({0}::text)",
    "text": "{0}::text",  # without the blanks of CHAR
    "enum": "{0}::text",
}
NORMALIZERS: Mapping[LogicalKind, canonical.Normalizer] = {
    "real": canonical.normalize_real,
    "json": canonical.normalize_json,
}


class PostgreSQLRowSource(PostgreSQLPart):
    """The part ``RowSource``."""

    def snapshot(self) -> AbstractContextManager[None]:
        return self._connection.read_transaction()

    @contextmanager
    def block_writers(self, tables: Sequence[str]) -> Iterator[None]:
        names = ", ".join(map(self._catalog.quote_table, tables))
        own = self._connection
        # a lock needs a transaction that may write; a reader's connection has none
        connection = PostgreSQLConnection(own.url, own.target, timeout=own.timeout, read_only=False)
        try:
            connection.run("begin")
            if names:
                connection.run(f"lock table {names} in share mode")
            yield
        finally:
            connection.close()

    def has_integer_order(self, table: str, column: str) -> bool:
        has_key = self._catalog.primary_key(table) == [column]
        return has_key and kind_of(self._catalog.require_column(table, column)) == "integer"

    @contextmanager
    def stream_lines(
        self, table: str, columns: Sequence[LineColumn], *, position: str = "", end: str = ""
    ) -> Iterator[Iterator[LineBatch]]:
        key = self._catalog.primary_key(table)
        # the position is the key of the last row, with which its line begins
        has_position = bool(key) and key == [column.name for column in columns[: len(key)]]
        names = [self._catalog.quote_column(table, name, "") for name in key if has_position]
        clauses = lines.position_clauses(
            names, columns, position, end, lambda _column, value: quote_value(value)
        )
        sql = f"copy ({self._select(table, columns)}{clauses}) to stdout"
        normalizers = self._normalizers(columns)
        with self._copy(sql) as batches:
            yield (
                LineBatch(
                    canonical.normalize_lines(batch, normalizers),
                    key_of(batch[-1], len(key)).decode() if has_position else "",
                )
                for batch in batches
            )

    def fetch_lines(
        self, table: str, columns: Sequence[LineColumn], key: Sequence[LineColumn], keys: Sequence[Line]
    ) -> Sequence[Line]:
        result: list[Line] = []
        names = [self._catalog.quote_column(table, column.name, "") for column in key]
        for part in lines.split_batches(keys):
            condition = lines.match_keys(names, key, part, lambda _column, value: quote_value(value))
            with self._copy(f"copy ({self._select(table, columns)} where {condition}) to stdout") as batches:
                for batch in batches:
                    result += canonical.normalize_lines(batch, self._normalizers(columns))
        return result

    def _select(self, table: str, columns: Sequence[LineColumn]) -> str:
        expressions = ", ".join(self._expression(table, column) for column in columns)
        return f"select {expressions} from {self._catalog.quote_table(table)}"

    def _expression(self, table: str, column: LineColumn) -> str:
        name = self._catalog.quote_column(table, column.name, "")
        own_kind = kind_of(self._catalog.require_column(table, column.name))
        if own_kind == "timestamptz":
            return f"{name} at time zone 'UTC'"
        if own_kind == "boolean":
            return f"{name}::int"
        return EXPRESSIONS.get(column.kind, "{0}").format(name)

    def _normalizers(self, columns: Sequence[LineColumn]) -> Mapping[int, canonical.Normalizer]:
        return {
            index: NORMALIZERS[column.kind]
            for index, column in enumerate(columns)
            if column.kind in NORMALIZERS
        }

    @contextmanager
    def _copy(self, sql: str) -> Iterator[Iterator[list[Line]]]:
        """Provide the rows of COPY in batches.

        The driver's own method takes twice as long: it creates a generator for every row.
        """
        session = self._connection.session
        wire = session.pgconn
        with self._connection.translate_errors(sql), session.lock:
            try:
                session.wait(_start_copy(wire, sql.encode()))  # type: ignore[arg-type]
                yield self._read_batches(session)
            finally:  # the server must not continue for a consumer that needs no more rows
                if wire.transaction_status == pq.TransactionStatus.ACTIVE:
                    wire.finish()

    def _read_batches(self, session: Session) -> Iterator[list[Line]]:
        is_complete = False
        while not is_complete:
            batch, is_complete = session.wait(_read_batch(session.pgconn))  # type: ignore[arg-type]
            signals.raise_if_interrupted()
            if batch:
                yield batch


def _start_copy(wire: pq.abc.PGconn, sql: bytes) -> PQGen[None]:
    wire.send_query(sql)
    (result,) = yield from generators.execute(wire)
    if result.status != pq.ExecStatus.COPY_OUT:
        raise errors.error_from_result(result)


def _read_batch(wire: pq.abc.PGconn) -> PQGen[tuple[list[Line], bool]]:
    """Read at most ``BATCH_ROWS`` rows; return them, and whether they are the last ones."""
    lines = list[Line]()
    while len(lines) < BATCH_ROWS:
        length, data = wire.get_copy_data(1)
        if length > 0:
            lines.append(bytes(data[:-1]))
        elif length == 0:
            while not (yield Wait.R):
                continue
            wire.consume_input()
        else:
            (result,) = yield from generators.fetch_many(wire)
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise errors.error_from_result(result)
            return lines, True
    return lines, False


def quote_value(value: bytes | None) -> str:
    """Return SQL for a value, whose type follows from the context."""
    return quote_literal((value or b"").decode("utf-8", "surrogateescape"))
