"""Rows of a server as they come, by COPY."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from decimal import Decimal, InvalidOperation
from itertools import islice

from psycopg import errors, generators, pq
from psycopg.abc import PQGen
from psycopg.waiting import Wait

from dbctl.engines.contract import BATCH, Answer, Row
from dbctl.engines.postgresql.explain import PostgreSQLPlans
from dbctl.engines.postgresql.session import Session
from dbctl.engines.postgresql.types import Exact, Kind, Number, kind_of, of_csv, of_json

#: Bytes that are written together.
BLOCK = 1 << 18


class _EnoughError(Exception):
    """Nobody wants the rest."""


class PostgreSQLStreams(PostgreSQLPlans):
    """Capability.STREAM but for its questions, and Capability.CSV."""

    @abstractmethod
    def _current(self) -> Session: ...

    @abstractmethod
    def _told(self, sql: str, *, writing: bool = False) -> AbstractContextManager[None]:
        """Let what the driver raises be a failure of ours."""

    @contextmanager
    def stream(self, table: str, columns: Sequence[str]) -> Iterator[Answer]:
        readers = [_reader(kind_of(self._described(table, column))) for column in columns]
        sql = f"copy ({self._whole(table, columns)}) to stdout"
        session = self._current()
        with (
            self._told(sql),
            session.cursor() as cursor,
            suppress(_EnoughError),
            cursor.copy(sql.encode()) as copy,
        ):
            yield Answer(columns, _batches(copy.rows(), readers))
            if session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                raise _EnoughError  # only for an exception does the driver stop what nobody reads any more

    def write_csv(self, table: str, columns: Sequence[str], write: Callable[[bytes], object]) -> int:
        sql = f"copy ({self._whole(table, columns)}) to stdout (format csv, header)"
        session = self._current()
        with self._told(sql), session.lock:
            try:
                return session.wait(_copying(session.pgconn, sql.encode(), write))  # type: ignore[arg-type]
            except (
                BaseException
            ):  # also on a signal, and where nobody reads: the server must not go on for nobody
                if session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                    session.pgconn.finish()
                raise

    def _whole(self, table: str, columns: Sequence[str]) -> str:
        names = ", ".join(self._column(table, column, "") for column in columns)
        return f"select {names} from {self._table(table)}"  # noqa: S608 - names are checked and quoted

    @contextmanager
    def exactly(self) -> Iterator[None]:
        known = self._current().adapters
        known.register_loader("numeric", Exact)
        try:
            yield
        finally:
            known.register_loader("numeric", Number)

    def of_csv(self, table: str, column: str) -> Callable[[str, bool], object]:
        return of_csv(self._described(table, column))

    def of_json(self, table: str, column: str) -> Callable[[object], object]:
        return of_json(self._described(table, column))


def _batches(
    rows: Iterator[tuple[object, ...]], readers: Sequence[Callable[[str], object] | None]
) -> Iterator[Sequence[Row]]:
    plain = not any(readers)
    while batch := list(islice(rows, BATCH)):
        yield (
            batch
            if plain
            else [
                tuple(
                    value if read is None or value is None else read(str(value))
                    for read, value in zip(readers, row, strict=True)
                )
                for row in batch
            ]
        )


def _reader(kind: Kind) -> Callable[[str], object] | None:
    """Return what makes a value of the text that the server writes; None where it stays one."""
    readers: dict[Kind, Callable[[str], object]] = {
        "integer": int,
        "number": _number,
        "boolean": "t".__eq__,
        "bytes": lambda text: bytes.fromhex(text[2:]),
    }
    return readers.get(kind)


def _number(text: str) -> object:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else text


def _copying(wire: pq.abc.PGconn, sql: bytes, write: Callable[[bytes], object]) -> PQGen[int]:
    """Hand on what COPY gives; return how many rows it was.

    The driver's own way takes twice as long: it makes a generator for every row.
    """
    wire.send_query(sql)
    (begun,) = yield from generators.execute(wire)
    if begun.status != pq.ExecStatus.COPY_OUT:
        raise errors.error_from_result(begun)
    parts: list[memoryview] = []
    size = 0
    while True:
        length, data = wire.get_copy_data(1)
        if length > 0:
            parts.append(data)
            size += length
            if size >= BLOCK:
                write(b"".join(parts))
                parts, size = [], 0
        elif length == 0:
            while not (yield Wait.R):
                continue
            wire.consume_input()
        else:
            break
    write(b"".join(parts))
    (ended,) = yield from generators.fetch_many(wire)
    if ended.status != pq.ExecStatus.COMMAND_OK:
        raise errors.error_from_result(ended)
    return ended.command_tuples or 0
