"""Values that the destination cannot store, and JSON that it stores without some keys or digits."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from dbctl.engines.contract.database import Readable
from dbctl.extensions.transfer.portable.contract import (
    ColumnPair,
    JsonForm,
    LineColumn,
    RowSource,
    StorageLimits,
    ValueChange,
    require,
)
from dbctl.extensions.transfer.portable.lines import split_line
from dbctl.extensions.transfer.portable.read import ZERO_SIGN, ValueScreen
from dbctl.extensions.transfer.tables import TransferTable
from dbctl.extensions.transfer.values.checks import ColumnCheck, create_check
from dbctl.model import Row, Struct, format_count

_KEYS = "repeated keys are removed, except for the last"
_DIGITS = "digits of numbers are removed"


def find_json_changes(rows: RowSource, table: TransferTable) -> Iterator[ValueChange]:
    """Yield the values of JSON of a table that change; only columns of a type that keeps less are read."""
    pairs = [pair for pair in table.pairs if _keeps_less(pair)]
    if not pairs:
        return
    counts = Counter[tuple[str, str]]()
    columns = [LineColumn(name=pair.column, kind="text") for pair in pairs]
    with rows.stream_lines(table.name, columns) as batches:
        for batch in batches:
            for values in map(split_line, batch.lines):
                for pair, value in zip(pairs, values, strict=True):
                    if value is not None:
                        changes = _list_changes(value, pair.destination_type.json_form)
                        counts.update((pair.column, change) for change in changes)
    for (column, change), count in counts.items():
        yield ValueChange(table=table.name, column=column, rows=count, change=change)


def _keeps_less(pair: ColumnPair) -> bool:
    own, other = pair.source_type, pair.destination_type
    if other.kind != "json" or other.json_form == "text":
        return False
    return (own.kind, own.json_form) != ("json", other.json_form)


def _list_changes(text: bytes, form: JsonForm) -> set[str]:
    changes = set[str]()

    def read_object(pairs: Sequence[tuple[str, object]]) -> None:
        if len(dict(pairs)) < len(pairs):
            changes.add(_KEYS)

    def read_number(digits: str) -> None:
        number = Decimal(digits)
        if number.is_zero() and number.is_signed():
            changes.add(ZERO_SIGN)
        elif form == "float" and number != Decimal(repr(float(number))) and not _is_whole(number):
            changes.add(_DIGITS)

    try:
        json.loads(text, object_pairs_hook=read_object, parse_float=read_number, parse_int=read_number)
    except (ValueError, RecursionError):  # a problem, and not a change
        return set()
    return changes


def _is_whole(number: Decimal) -> bool:
    """Whether a float-based type stores a number as an integer of 64 bits."""
    return number.as_tuple().exponent == 0 and -(1 << 63) <= number < 1 << 64


MAX_KEYS = 5  #: keys of rows that a message has


class CopyProblem(Struct, frozen=True, kw_only=True):
    """Rows that the destination cannot store for one reason, or an object of the schema that it refuses."""

    table: str  #: or the name of the object
    column: str  #: or the kind of the object
    keys: Sequence[Row]  #: the primary keys of the first ``MAX_KEYS`` of these rows
    rows: int  #: 0 for an object
    reason: str

    def __str__(self) -> str:
        if not self.rows:
            return f"{self.column} {self.table}: {self.reason}"
        example = f" ({', '.join(map(write_key, self.keys))})" if self.keys else ""
        return f"{self.table}.{self.column}: {self.reason} in {format_count(self.rows, 'row')}{example}"


def find_unstorable_values(
    source: Readable, tables: Sequence[TransferTable], limits: StorageLimits
) -> Iterator[CopyProblem]:
    """Yield the values that the destination cannot store, as ``limits`` describes, table by table; ``source`` is in a snapshot.

    Only columns that conditions in SQL do not clear are read value by value.
    """
    screen, rows = require(source, ValueScreen), require(source, RowSource)
    for table in tables:
        checks = {
            pair.column: check for pair in table.pairs if (check := create_check(pair, limits)) is not None
        }
        pairs = [pair for pair in table.pairs if pair.column in checks]
        suspects = screen.find_suspects(table.name, pairs, limits)
        if suspects:
            suspected_checks = {column: checks[column] for column in suspects}
            yield from _check_table(rows, table, suspected_checks)


def find_changes(
    source: Readable, tables: Sequence[TransferTable], limits: StorageLimits
) -> Iterator[ValueChange]:
    """Yield the values that the destination stores, but changes in more than the type of their column."""
    screen, rows = require(source, ValueScreen), require(source, RowSource)
    for table in tables:
        yield from screen.count_changes(table.name, table.pairs, limits)
        yield from find_json_changes(rows, table)


def _check_table(
    source: RowSource, table: TransferTable, checks: Mapping[str, ColumnCheck]
) -> Iterator[CopyProblem]:
    columns = [column for column in table.columns if column in table.key or column.name in checks]
    checked = [(index, column.name) for index, column in enumerate(columns) if column.name in checks]
    counts = Counter[tuple[str, str]]()
    keys = defaultdict[tuple[str, str], list[Row]](list)
    with source.stream_lines(table.name, columns) as batches:
        for row in (split_line(line) for batch in batches for line in batch.lines):
            for index, name in checked:
                if reason := checks[name](row[index]):
                    counts[name, reason] += 1
                    if counts[name, reason] <= MAX_KEYS and table.key:
                        keys[name, reason].append(format_key(table, row))
    for (name, reason), count in counts.items():
        yield CopyProblem(table=table.name, column=name, reason=reason, rows=count, keys=keys[name, reason])


def format_key(table: TransferTable, row: Sequence[bytes | None]) -> Row:
    return {
        column.name: None if value is None else value.decode(errors="backslashreplace")
        for column, value in zip(table.key, row, strict=False)
    }


def write_key(key: Row) -> str:
    """Return a primary key as text."""
    return " ".join(f"{name}={value}" for name, value in key.items())
