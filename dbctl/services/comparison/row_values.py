"""The values of rows that differ, as part of a result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import isfinite
from typing import Literal, TypeAlias

from dbctl.engines.contract.portable import LogicalKind
from dbctl.engines.contract.streaming import Line, split_line
from dbctl.model import Row, Struct
from dbctl.services.app.secrets import MASK
from dbctl.services.transfer.tables import TransferTable

#: The kind of difference of a row; in a table without a key, no row is ``changed``.
RowChange: TypeAlias = Literal["only a", "only b", "changed"]
#: Characters of a value in a result.
MAX_CHARACTERS = 1_000
#: Digits of a number that is sorted as a number.
MAX_DIGITS = 40


class RowDifference(Struct, frozen=True, kw_only=True):
    """A row that differs."""

    change: RowChange
    key: Row  #: empty in a table without a key
    a: Row | None  #: the values of the first side: all, or those that differ; None: it lacks the row
    b: Row | None


class RowValues:
    """The values of rows of one table as part of a result."""

    def __init__(
        self,
        table: TransferTable,
        readers: Mapping[str, Callable[[bytes], object]],
        hidden: Collection[str],
    ) -> None:
        self._columns, self._key, self._readers, self._hidden = table.columns, table.key, readers, hidden

    def sort_key(self, key: Line) -> list[tuple[int, bytes]]:
        """Return the order of a key: numbers by their value, texts by their bytes."""
        return [_sort_value(value or b"") for value in split_line(key)]

    def create_difference(
        self, change: RowChange, key: Line, a: Line | None, b: Line | None
    ) -> RowDifference:
        """Return a row that differs; of a changed row only the columns that differ."""
        rows = [None if line is None else split_line(line) for line in (a, b)]
        indexes: Sequence[int] = range(len(self._columns))
        if rows[0] and rows[1]:
            indexes = [index for index in indexes if rows[0][index] != rows[1][index]]
        left, right = (
            None if row is None else {self._columns[i].name: self._format(i, row[i]) for i in indexes}
            for row in rows
        )
        values = split_line(key)
        identity = {column.name: self._format(i, values[i]) for i, column in enumerate(self._key)}
        return RowDifference(change=change, key=identity, a=left, b=right)

    def _format(self, index: int, value: bytes | None) -> object:
        column = self._columns[index]
        if value is None:
            return None
        if column.name in self._hidden:
            return MASK
        read = self._readers.get(column.name, partial(_read_value, column.kind))
        result = read(value)
        if isinstance(result, bytes):
            result = f"\\x{result.hex()}"
        return _shorten(result) if isinstance(result, str) else result


def _read_value(kind: LogicalKind, value: bytes) -> object:
    """Return a value of a line that is equal on every engine."""
    if kind == "boolean" and value in (b"0", b"1"):
        return value == b"1"
    with suppress(ValueError):  # SQLite stores any value in any column
        if kind == "integer":
            return int(value)
        if kind == "real" and isfinite(number := float(value)):
            return number
    return value.decode(errors="backslashreplace")


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… ({len(text):,} characters)"


def _sort_value(value: bytes) -> tuple[int, bytes]:
    digits = value.lstrip(b"-")
    return (int(value), b"") if digits.isdigit() and len(value) < MAX_DIGITS else (0, value)
