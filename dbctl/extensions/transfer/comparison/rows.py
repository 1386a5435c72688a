"""``data diff``: compare the rows of two databases, also of different engines, and show the values that differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import isfinite
from typing import Literal, TypeAlias

from dbctl.engines.contract.database import Condition
from dbctl.errors.databases import TableMissingError
from dbctl.errors.usage import UsageError
from dbctl.extensions.transfer.compare import TableComparison, require
from dbctl.extensions.transfer.comparison.schemas import ComparedSides, Side
from dbctl.extensions.transfer.portable import lines as line_batches
from dbctl.extensions.transfer.portable.contract import (
    ColumnPair,
    Line,
    LineColumn,
    LogicalKind,
    PortableSchemas,
    PortableTable,
    RowSource,
    exchange_kind,
)
from dbctl.extensions.transfer.portable.lines import key_of, split_line
from dbctl.extensions.transfer.tables import TransferTable, create_table, pair_columns
from dbctl.model import Closing, Row, Struct, format_count
from dbctl.services.app.secrets import MASK, find_secret_columns
from dbctl.services.app.validation import truncate

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


#: Differing rows of a table after which the rest is not counted, because each group of rows may read the table again.
MAX_COUNTED = 1_000_000
#: Characters of a row in a table.
MAX_ROW_CHARACTERS = 60
#: Rows in memory with all their values.
_BATCH_ROWS = 20
#: Kinds whose lines are exact if the engine enforces types.
_EXACT_KINDS = frozenset[LogicalKind]({"integer", "bytes"})


class DiffRequest(Struct, frozen=True, kw_only=True):
    """The tables of a comparison, and the limits of its report."""

    tables: Sequence[str] = ()  #: empty: all
    limit: int  #: rows of each table and change that are reported
    secrets: bool = False  #: report hashes, tokens and keys


class TableDifference(Struct, frozen=True, kw_only=True):
    """The comparison of one table that both sides have."""

    table: str
    equal: bool
    rows_a: int
    rows_b: int
    only_a: int  #: rows that only the first side has
    only_b: int
    changed: int  #: rows with the same key and other values
    counted: bool  #: whether all differing rows are counted
    key: Sequence[str]  #: columns that identify a row; empty: whole rows are compared
    columns_only_a: Sequence[str]
    columns_only_b: Sequence[str]
    rows: Sequence[RowDifference]  #: the first ones

    def list_changes(self) -> Iterator[Row]:
        """Yield the rows of a table of changed values."""
        for row in self.rows:
            key = ", ".join(f"{name}={value}" for name, value in row.key.items())
            columns = list(row.a or row.b or ()) if row.change == "changed" else [""]
            for column in columns:
                a, b = (_describe_values(values, column) for values in (row.a, row.b))
                yield {
                    "table": self.table,
                    "key": key,
                    "change": row.change,
                    "column": column,
                    "a": a,
                    "b": b,
                }


class DataDiff(ComparedSides, frozen=True, kw_only=True):
    """Result of ``data diff``."""

    tables_only_a: Sequence[str]
    tables_only_b: Sequence[str]
    tables: Sequence[TableDifference]

    @property
    def closing(self) -> Closing:
        differing = sum(not table.equal for table in self.tables)
        missing = len(self.tables_only_a) + len(self.tables_only_b)
        details = [f"{differing} differ"] * bool(differing)
        details += [f"{format_count(missing, 'table')} only on one side"] * bool(missing)
        tables = format_count(len(self.tables), "table")
        return Closing(f"Compared {tables}", details or ["all equal"], is_timed=True)

    def summary(self) -> Row:
        summary: dict[str, object] = {"a": self.a, "b": self.b, "equal": self.equal}
        summary |= {
            "tables": len(self.tables),
            "rows": max(
                sum(table.rows_a for table in self.tables), sum(table.rows_b for table in self.tables)
            ),
        }
        differing = [table for table in self.tables if not table.equal]
        changes = [change for table in differing for change in table.list_changes()]
        columns = (
            "table",
            "rows_a",
            "rows_b",
            "only_a",
            "only_b",
            "changed",
            "columns_only_a",
            "columns_only_b",
        )
        sections: dict[str, object] = {
            "tables_only_a": self.tables_only_a,
            "tables_only_b": self.tables_only_b,
            "differing tables": [
                {
                    name: getattr(table, name)
                    for name in columns
                    if any(getattr(other, name) for other in differing)
                }
                for table in differing
            ],
            "differing rows": changes,
        }
        return summary | {name: section for name, section in sections.items() if section}


def compare_data(first: Side, second: Side, request: DiffRequest) -> DataDiff:
    """Compare the rows of the tables that both sides have, each side in one snapshot.

    Raises:
        TableMissingError: neither side has a requested table.
        UsageError: it is a view.
        NotSupportedError: an engine has no SQL.
    """
    return _DataComparison(first, second, request).run()


class _DataComparison:
    """The comparison of two open databases."""

    def __init__(self, first: Side, second: Side, request: DiffRequest) -> None:
        self._sides, self._request = (first, second), request
        self._sources = require(first.db, RowSource), require(second.db, RowSource)
        schemas = [require(side.db, PortableSchemas).read_portable() for side in self._sides]
        self._tables = [{table.name: table for table in schema.tables} for schema in schemas]
        self._pairs: dict[str, dict[str, ColumnPair]] = {}
        for pair in pair_columns(*schemas):
            self._pairs.setdefault(pair.table, {})[pair.column] = pair
        self._is_same_engine = schemas[0].dialect == schemas[1].dialect
        self._enforces_types = require(first.db, PortableSchemas).limits.enforces_types

    def run(self) -> DataDiff:
        left, right = self._tables
        names = self._select_tables()
        with self._sources[0].snapshot(), self._sources[1].snapshot():
            tables = [self._compare_table(name) for name in names if name in self._pairs]
        # without a common column, two tables have only their name in common
        only_a, only_b = (
            [name for name in names if name in tables_of_side and name not in self._pairs]
            for tables_of_side in (left, right)
        )
        return DataDiff(
            a=self._sides[0].name,
            b=self._sides[1].name,
            equal=not (only_a or only_b) and all(table.equal for table in tables),
            tables_only_a=only_a,
            tables_only_b=only_b,
            tables=tables,
        )

    def _select_tables(self) -> Sequence[str]:
        known = sorted(self._tables[0].keys() | self._tables[1].keys())
        for name in self._request.tables:
            if name in known:
                continue
            if any(name in side.db.tables() for side in self._sides):
                raise UsageError(detail=f"{name} is a view or a virtual table; only tables are compared")
            target = " and ".join(side.name for side in self._sides)
            raise TableMissingError(name=name, target=target, candidates=known)
        return sorted(set(self._request.tables)) or known

    def _compare_table(self, name: str) -> TableDifference:
        left, right = (tables[name] for tables in self._tables)
        only_a, only_b = (_list_missing_columns(*sides) for sides in ((left, right), (right, left)))
        table = self._pair_table(left, right)
        comparison = TableComparison(*self._sources, table)
        lines: dict[RowChange, list[Line]] = {"only a": [], "only b": [], "changed": []}
        counts, counted = dict.fromkeys(lines, 0), True
        for differences in comparison.iterate_differences():
            if sum(counts.values()) > MAX_COUNTED:
                counted = False
                break
            groups: dict[RowChange, Sequence[Line]] = {
                "only a": differences.missing,
                "only b": differences.extra,
                "changed": differences.changed,
            }
            for change, group in groups.items():
                counts[change] += len(group)
                lines[change] += group[: self._request.limit - len(lines[change])]
        rows = list(self._read_rows(table, lines)) if any(lines.values()) else []
        return TableDifference(
            table=name,
            equal=comparison.is_equal and not (only_a or only_b),
            rows_a=comparison.source.rows,
            rows_b=comparison.destination.rows,
            only_a=counts["only a"],
            only_b=counts["only b"],
            changed=counts["changed"],
            counted=counted,
            key=[column.name for column in table.key],
            columns_only_a=only_a,
            columns_only_b=only_b,
            rows=rows,
        )

    def _pair_table(self, left: PortableTable, right: PortableTable) -> TransferTable:
        """Return the columns that both sides have, those of the key first."""
        pairs = self._pairs[left.name]
        has_key = bool(left.key) and set(left.key) == set(right.key) and pairs.keys() >= set(left.key)
        key = left.key if has_key and not self._has_null_key(left) else ()
        return create_table(
            left.name, key, pairs, lambda pair: LineColumn(name=pair.column, kind=self._select_kind(pair))
        )

    def _has_null_key(self, table: PortableTable) -> bool:
        """Whether a row has no key; SQLite accepts that in some tables."""
        nullable = [name for name in table.key if table.column(name).is_nullable]
        return any(
            side.db.count(table.name, [Condition(name, "=", None)])
            for name in nullable
            for side in self._sides
        )

    def _select_kind(self, pair: ColumnPair) -> LogicalKind:
        """Return the kind of both columns: exact values, unless engines or types have several forms of equal values."""
        kind, types = exchange_kind(pair), (pair.source_type, pair.destination_type)
        if self._is_same_engine and not (self._enforces_types and pair.source != pair.destination):
            return kind if self._enforces_types and kind in _EXACT_KINDS else "native"
        if not self._is_same_engine and all(each.kind == "json" for each in types):
            return "json-float" if any(each.json_form == "float" for each in types) else "json"
        return kind

    # Rows of the result -------------------------------------------------------------------------------------------

    def _read_rows(
        self, table: TransferTable, lines: Mapping[RowChange, Sequence[Line]]
    ) -> Iterator[RowDifference]:
        """Yield rows with their values, by key."""
        readers = {
            column.name: self._sources[0].value_reader(table.name, column.name)
            for column in table.columns
            if column.kind == "native"
        }
        values = RowValues(table, readers, self._find_hidden_columns(table.name))
        for change in ("changed", "only a", "only b"):
            keys = sorted(lines[change], key=values.sort_key)
            for batch in line_batches.split_batches(keys, _BATCH_ROWS):
                left = {} if change == "only b" else self._fetch_rows(self._sources[0], table, batch)
                right = {} if change == "only a" else self._fetch_rows(self._sources[1], table, batch)
                for key in batch:
                    yield values.create_difference(change, key, left.get(key), right.get(key))

    def _find_hidden_columns(self, table: str) -> Collection[str]:
        """Return the columns that are secret in one of the databases."""
        if self._request.secrets:
            return ()
        return {
            column
            for side in self._sides
            for column in find_secret_columns(side.app, side.database, side.db, [table]).get(table, ())
        }

    def _fetch_rows(
        self, source: RowSource, table: TransferTable, keys: Sequence[Line]
    ) -> Mapping[Line, Line]:
        """Return rows by their keys."""
        if not table.key:
            return {line: line for line in keys}
        rows = source.fetch_lines(table.name, table.columns, table.key, keys)
        return {key_of(line, table.key_width): line for line in rows}


def _list_missing_columns(table: PortableTable, other: PortableTable) -> Sequence[str]:
    """Return the columns that ``other`` lacks."""
    names = {column.name for column in other.columns}
    return [column.name for column in table.columns if column.name not in names]


def _describe_values(values: Row | None, column: str) -> str:
    """Return the value of a column, or those of all columns without one, for a table."""
    if values is None:
        return ""
    if column:
        return _describe_value(values.get(column))
    return truncate(
        ", ".join(f"{name}={_describe_value(value)}" for name, value in values.items()), MAX_ROW_CHARACTERS
    )


def _describe_value(value: object) -> str:
    return "NULL" if value is None else str(value)
