"""Digests of the rows of a table, equal for equal rows in any order, on every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from xxhash import xxh3_128_intdigest

from dbctl.engines.contract import Line, LineColumn, RowSource
from dbctl.model import Struct

#: Receives numbers of rows that were read.
Advance: TypeAlias = Callable[[int], object]
#: Bytes of the digest of a row.
DIGEST_BYTES = 16
#: Returns the digest of one row. XXH3 needs a quarter of the time of a cryptographic hash; a transfer has no adversary.
digest_line: Callable[[Line], int] = xxh3_128_intdigest
_MODULUS = 1 << 8 * DIGEST_BYTES


class TableDigest(Struct, frozen=True, kw_only=True):
    """The number of rows, and the sum of the digests of their lines."""

    rows: int = 0
    total: int = 0

    def add(self, lines: Sequence[Line]) -> TableDigest:
        """Return the digest with further rows."""
        total = self.total + sum(map(digest_line, lines))
        return TableDigest(rows=self.rows + len(lines), total=total % _MODULUS)

    def join(self, other: TableDigest) -> TableDigest:
        """Return the digest of the rows of both."""
        return TableDigest(rows=self.rows + other.rows, total=(self.total + other.total) % _MODULUS)

    @property
    def hexadecimal(self) -> str:
        """The digest as text."""
        return f"{self.total:0{2 * DIGEST_BYTES}x}"

    @classmethod
    def parse(cls, rows: int, hexadecimal: str) -> TableDigest:
        """Return the digest of a text of ``hexadecimal``."""
        return cls(rows=rows, total=int(hexadecimal, 16))


def ignore_rows(_rows: int) -> None:
    """Report no progress."""


def digest_table(
    source: RowSource, table: str, columns: Sequence[LineColumn], *, advance: Advance = ignore_rows
) -> TableDigest:
    """Return the digest of all rows of a table."""
    result = TableDigest()
    with source.stream_lines(table, columns) as batches:
        for batch in batches:
            result = result.add(batch.lines)
            advance(len(batch.lines))
    return result
