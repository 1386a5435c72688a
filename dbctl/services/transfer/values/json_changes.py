"""JSON that the destination stores, but without some keys or digits, because its type keeps no text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal

from dbctl.engines.contract.portable import ColumnPair, JsonForm, LineColumn, RowSource, ValueChange
from dbctl.engines.contract.streaming import split_line
from dbctl.services.transfer.tables import TransferTable

_KEYS = "repeated keys are removed, except for the last"
_ZERO = "the sign of zero is removed"
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
    return (
        own.kind != "json"
        or own.json_form == "text"
        or (own.json_form, other.json_form) == ("exact", "float")
    )


def _list_changes(text: bytes, form: JsonForm) -> set[str]:
    changes = set[str]()

    def read_object(pairs: Sequence[tuple[str, object]]) -> None:
        if len(dict(pairs)) < len(pairs):
            changes.add(_KEYS)

    def read_number(digits: str) -> None:
        number = Decimal(digits)
        if number.is_zero() and number.is_signed():
            changes.add(_ZERO)
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
