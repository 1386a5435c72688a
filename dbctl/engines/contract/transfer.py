"""Contract: rows as lines of text that are equal on every engine, to transfer tables between engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from dbctl.engines.contract.portable import LogicalKind
from dbctl.engines.contract.writer import TimeForm
from dbctl.model import Struct

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
