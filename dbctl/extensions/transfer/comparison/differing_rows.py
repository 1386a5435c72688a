"""The rows that differ between two databases, with their values: for a report, or exact ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from math import isfinite
from typing import NamedTuple

from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import Condition, Readable
from dbctl.engines.sql.codec import to_json
from dbctl.extensions.transfer.compare import Differences, RowChange, TableComparison
from dbctl.extensions.transfer.portable.contract import (
    ChangedRows,
    ColumnPair,
    Line,
    LineColumn,
    LogicalKind,
    PortableSchemas,
    PortableTable,
    RowSource,
    exchange_kind,
    require,
)
from dbctl.extensions.transfer.portable.lines import key_of, split_line
from dbctl.extensions.transfer.tables import TransferTable, create_table, pair_columns
from dbctl.model import Row, Struct, split_batches
from dbctl.services.app.ledger_detection import TRANSFER_TABLE
from dbctl.services.events.changes.records import RowImage, TableChange

#: Characters of a value in a result.
MAX_CHARACTERS = 1_000
#: Digits of a number that is sorted as a number.
MAX_DIGITS = 40


#: Differing rows of a table after which the rest is not counted, because each group of rows may read the table again.
MAX_COUNTED = 1_000_000
#: Rows in memory with all their values.
_BATCH_ROWS = 20
#: Kinds whose lines are exact if the engine enforces types.
_EXACT_KINDS = frozenset[LogicalKind]({"integer", "bytes"})


class RowDifference(Struct, frozen=True, kw_only=True):
    """A row that differs."""

    change: RowChange
    key: Row  #: empty in a table without a key
    a: Row | None  #: the values of the first side: all, or those that differ; None: it lacks the row
    b: Row | None


class RowValues:
    """The values of rows of one table as part of a result."""

    def __init__(self, source: RowSource, table: TransferTable, hidden: Collection[str] = ()) -> None:
        """Set the source of the values that only its engine reads, and the columns whose values a report hides."""
        self._columns, self._key, self._hidden = table.columns, table.key, hidden
        self._readers = {
            column.name: source.value_reader(table.name, column.name)
            for column in table.columns
            if column.kind == "native"
        }

    def sort_key(self, key: Line) -> list[tuple[int, bytes]]:
        """Return the order of a key: numbers by their value, texts by their bytes."""
        return [_sort_value(value or b"") for value in split_line(key)]

    def describe_key(self, key: Line) -> Row:
        """Return the values of a key by column as texts; without a key, those of the row."""
        columns, decode = self._key or self._columns, partial(bytes.decode, errors="backslashreplace")
        return {
            column.name: "" if value is None else _write(self._readers.get(column.name, decode)(value))
            for column, value in zip(columns, split_line(key), strict=True)
        }

    def create_difference(
        self, change: RowChange, key: Line, a: Line | None, b: Line | None
    ) -> RowDifference:
        """Return a row that differs, for a report; of a changed row only the columns that differ."""
        left, right = self._read_sides(a, b, self._format)
        return RowDifference(change=change, key=self._read_key(key, self._format), a=left, b=right)

    def create_image(self, key: Line, a: Line | None, b: Line | None) -> RowImage:
        """Return a row that differs with exact values: the first side is the state before the change, the second one that after it."""
        before, after = self._read_sides(a, b, self._encode)
        return RowImage(key=self._read_key(key, self._encode), before=before, after=after)

    def _read_key(self, key: Line, read: Callable[[int, bytes | None], object]) -> Row:
        values = split_line(key)
        return {column.name: read(index, values[index]) for index, column in enumerate(self._key)}

    def _read_sides(
        self, a: Line | None, b: Line | None, read: Callable[[int, bytes | None], object]
    ) -> tuple[Row | None, Row | None]:
        rows = [None if line is None else split_line(line) for line in (a, b)]
        indexes: Sequence[int] = range(len(self._columns))
        if rows[0] and rows[1]:
            indexes = [index for index in indexes if rows[0][index] != rows[1][index]]
        left, right = (
            None if row is None else {self._columns[i].name: read(i, row[i]) for i in indexes} for row in rows
        )
        return left, right

    def _encode(self, index: int, value: bytes | None) -> object:
        return to_json(self._read(index, value))

    def _read(self, index: int, value: bytes | None) -> object:
        column = self._columns[index]
        if value is None:
            return None
        return self._readers.get(column.name, partial(_read_value, column.kind))(value)

    def _format(self, index: int, value: bytes | None) -> object:
        if value is not None and self._columns[index].name in self._hidden:
            return MASK
        result = self._read(index, value)
        return _shorten(_write(result)) if isinstance(result, str | bytes) else result


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


def _write(value: object) -> str:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… ({len(text):,} characters)"


def _sort_value(value: bytes) -> tuple[int, bytes]:
    digits = value.lstrip(b"-")
    return (int(value), b"") if digits.isdigit() and len(value) < MAX_DIGITS else (0, value)


class DifferingRows(NamedTuple):
    table: TransferTable
    comparison: TableComparison
    differences: Differences


class RowComparison:
    """Two open databases, each read in one snapshot."""

    def __init__(self, first: Readable, second: Readable) -> None:
        self.databases = first, second
        self.sources: tuple[RowSource, RowSource] = require(first, RowSource), require(second, RowSource)
        schemas = [require(db, PortableSchemas).read_portable() for db in self.databases]
        self.tables = [
            {table.name: table for table in schema.tables if table.name != TRANSFER_TABLE}
            for schema in schemas
        ]
        self.pairs: dict[str, dict[str, ColumnPair]] = {}
        for pair in pair_columns(*schemas):
            self.pairs.setdefault(pair.table, {})[pair.column] = pair
        self._is_same_engine = schemas[0].dialect == schemas[1].dialect
        self._enforces_types = require(first, PortableSchemas).limits.enforces_types

    @contextmanager
    def snapshots(self) -> Iterator[None]:
        """Read both databases in snapshots in the block."""
        with self.sources[0].snapshot(), self.sources[1].snapshot():
            yield

    def find_differences(self, name: str, limit: int) -> DifferingRows:
        """Find the rows that differ in a table of both sides; ``limit`` of each kind are returned."""
        table = self._pair_table(*(tables[name] for tables in self.tables))
        comparison = TableComparison(*self.sources, table)
        return DifferingRows(table, comparison, comparison.find_differences(MAX_COUNTED, limit))

    def read_rows(self, rows: DifferingRows) -> Iterator[tuple[RowChange, Line, Line | None, Line | None]]:
        """Yield the kind, the key, and the lines of both sides of the first rows of each kind."""
        for change in ("changed", "only a", "only b"):
            for batch in split_batches(rows.differences.keys[change], _BATCH_ROWS):
                left = {} if change == "only b" else self._fetch_rows(self.sources[0], rows.table, batch)
                right = {} if change == "only a" else self._fetch_rows(self.sources[1], rows.table, batch)
                for key in batch:
                    yield change, key, left.get(key), right.get(key)

    def _pair_table(self, left: PortableTable, right: PortableTable) -> TransferTable:
        """Return the columns that both sides have, those of the key first."""
        pairs = self.pairs[left.name]
        keys = [left.key, *(index.plain_columns for index in left.indexes if index.is_unique)]
        shared = (names for names in keys if pairs.keys() >= set(names) and right.has_unique_columns(names))
        key = next((names for names in shared if not self._has_null(left, names)), ())
        return create_table(
            left.name, key, pairs, lambda pair: LineColumn(name=pair.column, kind=self._select_kind(pair))
        )

    def _has_null(self, table: PortableTable, key: Sequence[str]) -> bool:
        """Whether a row of one side has NULL in a key; SQLite accepts that also in some primary keys."""
        nullable = [name for name in key if table.column(name).is_nullable]
        return any(
            db.count(table.name, [Condition(name, "=", None)]) for name in nullable for db in self.databases
        )

    def _select_kind(self, pair: ColumnPair) -> LogicalKind:
        """Return the kind of both columns: exact values, unless engines or types have several forms of equal values."""
        kind, types = exchange_kind(pair), (pair.source_type, pair.destination_type)
        if self._is_same_engine and not (self._enforces_types and pair.source != pair.destination):
            return kind if self._enforces_types and kind in _EXACT_KINDS else "native"
        if not self._is_same_engine and all(each.kind == "json" for each in types):
            return "json-float" if any(each.json_form == "float" for each in types) else "json"
        return kind

    def _fetch_rows(
        self, source: RowSource, table: TransferTable, keys: Sequence[Line]
    ) -> Mapping[Line, Line]:
        if not table.key:
            return {line: line for line in keys}
        rows = source.fetch_lines(table.name, table.columns, table.key, keys)
        return {key_of(line, table.key_width): line for line in rows}


def read_changes(
    first: Readable, second: Readable, database: str, *, limit: int, private: bool = False
) -> Iterator[TableChange]:
    """Yield the tables that differ between two states of a database, with the images of their rows; values are exact.

    Each state is read in one snapshot, in limited memory. A table with more than ``limit`` rows that differ has a reason instead of
    images. Tables and columns that only one state has are not compared. ``private`` states are copies that no other process uses, so
    that rows on equal pages of files need not be read.

    Raises:
        NotSupportedError: the engine has no SQL.
    """
    comparison = RowComparison(first, second)
    part = first.extension_part(ChangedRows)
    with comparison.snapshots():
        if part and (changed := part.select_changed(second, comparison.pairs, private=private)):
            comparison.sources = changed
        for name in sorted(comparison.pairs):
            rows = comparison.find_differences(name, limit)
            count, is_complete = sum(rows.differences.counts.values()), rows.differences.is_complete
            if count > limit:
                reason = f"{count:,}{'' if is_complete else ' or more'} rows differ"
                yield TableChange(database=database, table=name, rows=count, reason=reason, exact=True)
            elif count:
                values = RowValues(comparison.sources[0], rows.table)
                images = [values.create_image(key, a, b) for _, key, a, b in comparison.read_rows(rows)]
                yield TableChange(database=database, table=name, rows=count, images=images, exact=True)
