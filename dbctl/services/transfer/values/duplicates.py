"""Rows that differ in the source, and are equal in a unique index of the destination, whose collation ignores more."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise

from dbctl.engines.contract import (
    LineColumn,
    PortableColumn,
    PortableSchema,
    PortableTable,
    Readable,
    RowSource,
    split_line,
)
from dbctl.model import Row, Struct
from dbctl.services.transfer.parts import require_rows
from dbctl.services.transfer.tables import TransferTable
from dbctl.services.transfer.values.unstorable import MAX_KEYS, UnstorableValues, format_key

#: Digests are sorted in this number of parts, so that only one part at a time is a list.
_PARTS = 64
_DIGEST_BYTES = 8


class _Comparison(Struct, frozen=True):
    """What a column of a unique index ignores in the destination."""

    column: LineColumn
    ignores_case: bool
    ignores_accents: bool
    ignores_spaces: bool

    def fold(self, value: bytes) -> bytes:
        """Return a value that is the same for equal values."""
        text = value.decode(errors="surrogateescape")
        if self.ignores_spaces:
            text = text.rstrip(" ")
        if self.ignores_accents:
            text = "".join(
                sign for sign in unicodedata.normalize("NFD", text) if not unicodedata.combining(sign)
            )
        if self.ignores_case:
            text = unicodedata.normalize("NFC", text).casefold()
        return text.encode(errors="surrogateescape")


def find_duplicates(
    source: Readable,
    tables: Sequence[TransferTable],
    source_schema: PortableSchema,
    destination: PortableSchema,
) -> Iterator[UnstorableValues]:
    """Yield rows that a unique index of the destination treats as equal to other rows.

    Only indexes over text whose collation ignores more than that of the source are compared. Memory is 8 bytes for each row.
    """
    others = {table.name: table for table in destination.tables}
    before = {table.name: table for table in source_schema.tables}
    for table in tables:
        if table.name in others and table.name in before:
            for comparisons in _list_comparisons(table, before[table.name], others[table.name]):
                yield from _compare_rows(require_rows(source), table, comparisons)


def _list_comparisons(
    table: TransferTable, source: PortableTable, destination: PortableTable
) -> Iterator[Sequence[_Comparison]]:
    """Yield the columns of each unique index that may have more duplicates in the destination."""
    columns = {column.name: column for column in table.columns}
    source_columns = {column.name: column for column in source.columns}
    destination_columns = {column.name: column for column in destination.columns}
    keys = {key: None for each in (source, destination) for key in _list_unique_keys(each)}
    for key in keys:
        if not set(key) <= columns.keys() & source_columns.keys() & destination_columns.keys():
            continue
        if any(_ignores_more(source_columns[name], destination_columns[name]) for name in key):
            yield [
                _create_comparison(columns[name], source_columns[name], destination_columns[name])
                for name in key
            ]


def _list_unique_keys(table: PortableTable) -> Iterator[tuple[str, ...]]:
    if table.key:
        yield tuple(table.key)
    for index in table.indexes:
        if (
            index.is_unique
            and not index.where
            and all(term.column and not term.prefix for term in index.terms)
        ):
            yield tuple(term.column for term in index.terms)


def _ignores_more(source: PortableColumn, destination: PortableColumn) -> bool:
    return (
        (destination.ignores_case and not source.ignores_case)
        or (destination.ignores_accents and not source.ignores_accents)
        or (destination.ignores_spaces and not source.ignores_spaces)
    )


def _create_comparison(
    column: LineColumn, source: PortableColumn, destination: PortableColumn
) -> _Comparison:
    return _Comparison(
        column,
        source.ignores_case or destination.ignores_case,
        destination.ignores_accents,
        destination.ignores_spaces,
    )


def _compare_rows(
    rows: RowSource, table: TransferTable, comparisons: Sequence[_Comparison]
) -> Iterator[UnstorableValues]:
    digests = [array("Q") for _ in range(_PARTS)]
    for _, folded in _fold_rows(rows, table, [], comparisons):
        digest = _digest(folded)
        digests[digest % _PARTS].append(digest)
    repeated = {first for part in digests for first, second in pairwise(sorted(part)) if first == second}
    if not repeated:
        return
    first_keys, keys, count = dict[tuple[bytes, ...], Row](), list[Row](), 0
    for row, folded in _fold_rows(rows, table, table.key, comparisons):
        if _digest(folded) in repeated:
            key = format_key(table, row)
            other = first_keys.setdefault(folded, key)
            if other is not key:
                count += 1
                keys += [key] if len(keys) < MAX_KEYS and table.key else []
    if count:
        names = ", ".join(comparison.column.name for comparison in comparisons)
        reason = "equal to another row in a unique index of the destination"
        yield UnstorableValues(table=table.name, column=names, reason=reason, rows=count, keys=keys)


def _fold_rows(
    rows: RowSource, table: TransferTable, key: Sequence[LineColumn], comparisons: Sequence[_Comparison]
) -> Iterator[tuple[Sequence[bytes | None], tuple[bytes, ...]]]:
    """Yield the key of each row, and its values in the index; rows with NULL are never equal."""
    columns = [*key, *(comparison.column for comparison in comparisons)]
    with rows.stream_lines(table.name, columns) as batches:
        for batch in batches:
            for row in map(split_line, batch.lines):
                values = row[len(key) :]
                if None not in values:
                    yield (
                        row[: len(key)],
                        tuple(
                            comparison.fold(value or b"")
                            for comparison, value in zip(comparisons, values, strict=True)
                        ),
                    )


def _digest(values: tuple[bytes, ...]) -> int:
    joined = b"\0".join(value.replace(b"\0", b"\0\0") for value in values)
    return int.from_bytes(blake2b(joined, digest_size=_DIGEST_BYTES).digest(), "big")
