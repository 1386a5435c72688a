"""Contract: export and import of large tables, read-only SQL queries of users, and rows as lines for transfers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol, TypeAlias

from dbctl.engines.contract.portable import LogicalKind
from dbctl.engines.contract.vectors import Row
from dbctl.engines.contract.writer import TimeForm
from dbctl.model import Struct

#: Rows in one batch.
BATCH_ROWS = 1000


class RowStream(Struct, frozen=True):
    """The rows of a running statement; the connection cannot be used for anything else until they are read."""

    columns: Sequence[str]
    batches: Iterator[Sequence[Row]]


class UserQuery(Struct, frozen=True):
    """One statement of a user, with ``:name`` parameters."""

    sql: str
    #: the type of a text is determined by its context in the statement
    parameters: Mapping[str, object] = {}
    timeout: timedelta | None = None  #: the maximum duration
    hidden: Mapping[str, Collection[str]] = {}  #: columns by table that the statement may not read


class RowStreams(Protocol):
    """The part that streams rows. Memory is limited to a few batches."""

    sql_dialect: str  #: its name in sqlglot; empty: the engine has no SQL

    def view_queries(self) -> Mapping[str, str]:
        """Return the statement of each view, with or without ``create view``; empty if this user may not read it."""

    def stream(self, table: str, columns: Sequence[str]) -> AbstractContextManager[RowStream]:
        """Provide every row of one snapshot with exact values, which ``json_parser`` of the same column parses back.

        A value is None, a boolean, a number (``Decimal`` if a float would lose digits), bytes, or the text form of the
        database.
        """

    def exact_numbers(self) -> AbstractContextManager[None]:
        """Return exact numbers from ``select`` in this context: ``Decimal`` if a float would lose digits."""

    def csv_parser(self, table: str, column: str) -> Callable[[str, bool], object]:
        r"""Return the function that parses a CSV cell, except NULL, into a value that ``insert_many`` accepts for ``column``.

        Its arguments are the text and whether the cell was unquoted: CSV from ``stream`` has numbers and bytes (``\x``
        and hexadecimal) unquoted, and text that resembles either in quotes.

        It raises ``ValueInvalidError`` if the column cannot store the value.
        """

    def json_parser(self, table: str, column: str) -> Callable[[object], object]:
        """Return the same for JSON values: numbers without a fraction are ``int``, others ``Decimal``; bytes are ``bytes``."""

    def query_read_only(self, query: UserQuery) -> AbstractContextManager[RowStream]:
        """Run a statement read-only.

        Raises:
            QueryFailedError: it is rejected, or fails.
            SecretColumnError: it reads a hidden column.
            QueryTimeoutError: it exceeds ``timeout``; also raised by the batches.
        """


class CsvWriter(Protocol):
    """The part that writes CSV: the engine writes CSV itself, faster than code based on ``stream``."""

    def write_csv(self, table: str, columns: Sequence[str], write: Callable[[bytes], object]) -> int:
        """Write a header and every row of one snapshot, UTF-8, as ``csv_parser`` parses them; return the row count."""


# Transfers --------------------------------------------------------------------------------------------------------

#: A row as a line of the text format of PostgreSQL's COPY, without its end. A value that does not have the form of its
#: kind is the text of the database:
#:
#: * ``boolean``, ``integer``: digits; a boolean is 0 or 1
#: * ``decimal``: digits, without zeros at the end of the fraction
#: * ``real``: the shortest digits that are read as the same number, as Python writes them
#: * ``timestamp``: ``YYYY-MM-DD HH:MM:SS[.FFFFFF]`` in UTC, without zeros at the end of the fraction
#: * ``date``, ``time``: ``YYYY-MM-DD``, ``HH:MM:SS[.FFFFFF]``
#: * ``bytes``: ``\x`` and hexadecimal digits
#: * ``uuid``: in lower case with hyphens
#: * ``json``: without blanks, the keys of objects sorted
Line: TypeAlias = bytes
#: Separates the values of a line.
TAB = b"\t"
NULL = rb"\N"

_ESCAPES = {b"\\": b"\\\\", b"\t": b"\\t", b"\n": b"\\n", b"\r": b"\\r"}
_MEANINGS = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}


class LineColumn(Struct, frozen=True, kw_only=True):
    """A column of lines."""

    name: str
    kind: LogicalKind
    time_form: TimeForm = "sqlite-time"  #: how a timestamp is stored where columns have no type for it


class LineBatch(Struct, frozen=True):
    """Consecutive rows of a table."""

    lines: Sequence[Line]
    position: str  #: where ``stream_lines`` continues after these rows; empty: only from the beginning


class RowSource(Protocol):
    """The part that reads rows as lines. Memory is limited to a few batches."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Read one state of the database in the block."""

    def block_writers(self, tables: Sequence[str]) -> AbstractContextManager[None]:
        """Block writes of other sessions to tables in the block; they can still be read.

        Raises:
            BusyError: another session was writing until the timeout.
            PrivilegeMissingError: this user may not lock tables.
        """

    def stream_lines(
        self, table: str, columns: Sequence[LineColumn], *, position: str = ""
    ) -> AbstractContextManager[Iterator[LineBatch]]:
        """Provide the rows of a table, in an order of their own, from the beginning or after ``position``."""

    def fetch_lines(
        self, table: str, columns: Sequence[LineColumn], key: Sequence[LineColumn], keys: Sequence[Line]
    ) -> Sequence[Line]:
        """Return the rows with these values of ``key``, each key as a line."""


class RowSink(Protocol):
    """The part that writes lines, each call inside a transaction."""

    def bulk_load(self) -> AbstractContextManager[None]:
        """Write without checks of foreign keys in the block, outside of transactions."""

    def write_lines(
        self, table: str, columns: Sequence[LineColumn], batches: Iterable[Sequence[Line]]
    ) -> int:
        """Insert rows; return their number.

        Raises:
            ConstraintError, ValueInvalidError: the database refuses a row.
        """

    def delete_lines(self, table: str, key: Sequence[LineColumn], keys: Sequence[Line]) -> int:
        """Delete the rows with these values of ``key``; return their number."""

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, str]]:
        """Return what changes or refuses copied rows, triggers and foreign keys, and with ``indexes`` what slows down a copy.

        Each is the statement that drops it, and the statement that creates it again. Foreign keys that ``bulk_load`` does
        not check and unique indexes are not among them.
        """

    def is_duplicate_object(self, error: Exception) -> bool:
        """Whether a statement failed because the object that it creates exists already."""


def split_line(line: Line) -> list[bytes | None]:
    """Return the values of a line."""
    fields = line.split(TAB)
    if b"\\" not in line:
        return list(fields)
    return [None if field == NULL else _unescape(field) for field in fields]


def join_line(values: Iterable[bytes | None]) -> Line:
    """Return the line of values."""
    return TAB.join(NULL if value is None else escape(value) for value in values)


def escape(value: bytes) -> bytes:
    """Return a value as part of a line."""
    for character, text in _ESCAPES.items():
        if character in value:
            value = value.replace(character, text)
    return value


def key_of(line: Line, width: int) -> Line:
    """Return the first ``width`` values of a line, which are its key."""
    return TAB.join(line.split(TAB, width)[:width])


def _unescape(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    first, *others = field.split(b"\\")
    parts, literal = [first], False
    for part in others:
        if literal:  # the part follows an escaped backslash
            parts.append(part)
            literal = False
        elif part:
            parts.append(_MEANINGS.get(part[:1], part[:1]) + part[1:])
        else:
            parts.append(b"\\")
            literal = True
    return b"".join(parts)
