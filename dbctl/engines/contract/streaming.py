"""Rows by the million, and what a person asks in SQL: what an engine answers beside the contract of services."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol, runtime_checkable

from dbctl.engines.contract.vectors import Row
from dbctl.model import Value

#: Rows that are handed on together.
BATCH = 1000


class Answer(Value, frozen=True):
    """What a statement answers, as it comes; the connection does nothing else meanwhile."""

    columns: Sequence[str]
    batches: Iterator[Sequence[Row]]


@runtime_checkable
class Streams(Protocol):
    """Capability.STREAM. Memory is that of some batches, however many rows there are."""

    sql_dialect: str  #: as sqlglot names it; empty: the engine has no SQL

    def view_queries(self) -> Mapping[str, str]:
        """Return the statement of each view, with or without ``create view``; empty text where this user may not read it."""
        ...

    def stream(self, table: str, columns: Sequence[str]) -> AbstractContextManager[Answer]:
        """Give every row of one moment, each value exactly: what ``of_json`` of the same column reads back.

        A value is None, a boolean, a number (``Decimal`` where a float would lose digits), bytes, or the text in which
        the database itself writes it.
        """
        ...

    def exactly(self) -> AbstractContextManager[None]:
        """Let numbers that ``select`` gives have every digit: they are ``Decimal`` meanwhile where a float would lose some."""
        ...

    def of_csv(self, table: str, column: str) -> Callable[[str, bool], object]:
        r"""Return what reads a cell of a CSV file, without NULL, as ``insert_many`` takes it for ``column``.

        It gets the text, and whether that stood there without quotes: ``stream`` written as CSV has numbers and bytes
        (``\x`` and hexadecimal) bare, and text that looks like either in quotes.

        What it returns raises ``ValueInvalidError`` where the column can never hold that.
        """
        ...

    def of_json(self, table: str, column: str) -> Callable[[object], object]:
        """Return the same for values of JSON: numbers without a fraction are ``int``, others ``Decimal``; bytes come as such."""
        ...

    def ask(
        self,
        sql: str,
        parameters: Mapping[str, object] = {},
        *,
        within: timedelta | None = None,
        hidden: Mapping[str, Collection[str]] = {},
    ) -> AbstractContextManager[Answer]:
        """Run one statement that a person wrote, where the engine lets it write nothing.

        Args:
            sql: it, with ``:name`` parameters.
            parameters: their values; of a text, what it stands beside tells what it means.
            within: how long it may take.
            hidden: columns by table, which it may not read.

        Raises:
            QueryFailedError: it is refused, or fails.
            SecretAskedError: it reads what is hidden.
            TimeUpError: it took longer than ``within``; also from the batches.
        """
        ...


@runtime_checkable
class WritesCsv(Protocol):
    """Capability.CSV: the engine writes CSV itself, faster than anybody could from ``stream``."""

    def write_csv(self, table: str, columns: Sequence[str], write: Callable[[bytes], object]) -> int:
        """Write a heading and every row of one moment, UTF-8, as ``of_csv`` reads them back; return how many rows."""
        ...
