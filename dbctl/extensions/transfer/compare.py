"""Digests of tables, equal on every engine, and the rows that differ between two databases, found in limited memory."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias
from zlib import crc32

from xxhash import xxh3_128_intdigest

from dbctl import progress
from dbctl.extensions.transfer.portable.contract import Line, LineColumn, Positions, RowSource
from dbctl.extensions.transfer.portable.lines import TAB, key_of
from dbctl.extensions.transfer.tables import TransferTable
from dbctl.model import Struct

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
        return f"{self.total:0{2 * DIGEST_BYTES}x}"

    @classmethod
    def parse(cls, rows: int, hexadecimal: str) -> TableDigest:
        """Return the digest of a text of ``hexadecimal``."""
        return cls(rows=rows, total=int(hexadecimal, 16))


def digest_table(source: RowSource, table: str, columns: Sequence[LineColumn]) -> TableDigest:
    result = TableDigest()
    with source.stream_lines(table, columns) as batches:
        for batch in batches:
            result = result.add(batch.lines)
            progress.advance(len(batch.lines))
    return result


#: Rows in one part of a table on average, and the number of parts.
ROWS_PER_PART, MAX_PARTS = 256, 16_384
#: Differing keys in memory.
MAX_DIFFERENCES = 100_000
#: Rows in memory.
MAX_ROWS = 100_000
#: The logarithm of the number of integers in one part.
_FIRST_WIDTH = ROWS_PER_PART.bit_length() - 1


#: The kind of difference of a row: only the first side has it, only the second one, or its values differ. In a table without a key,
#: no row is ``changed``.
RowChange: TypeAlias = Literal["only a", "only b", "changed"]
#: Keys of rows that differ; without a key complete rows, each as often as the other side lacks it.
ChangedKeys: TypeAlias = Mapping[RowChange, Sequence[Line]]


class Differences(Struct, frozen=True, kw_only=True):
    """The rows of a table that differ."""

    keys: ChangedKeys  #: the first ones
    counts: Mapping[RowChange, int]
    is_complete: bool  #: whether all rows that differ are counted


class TableComparison:
    """One table in two databases, which are read once when it is created, each in a snapshot.

    A key of one integer divides the table into ranges, each with a digest, and only ranges that differ are read again. With
    any other key, a table that differs is read again for the digests of parts, which the hash of the key selects, and then
    for the keys of parts that differ.
    """

    def __init__(self, source: RowSource, destination: RowSource, table: TransferTable) -> None:
        self._sides, self._table = (source, destination), table
        self._ranges: Sequence[_KeyRanges] = ()
        if len(table.key) == 1 and all(
            side.has_integer_order(table.name, table.key[0].name) for side in self._sides
        ):
            self._ranges = [_KeyRanges(side, table) for side in self._sides]
            self.source, self.destination = (join_digests(ranges.digests.values()) for ranges in self._ranges)
        else:
            self.source, self.destination = (
                digest_table(side, table.name, table.columns) for side in self._sides
            )

    @property
    def is_equal(self) -> bool:
        """Whether both have the same rows."""
        return self.source == self.destination

    def iterate_differences(self) -> Iterator[ChangedKeys]:
        """Yield the rows that differ, in groups that fit in memory."""
        if self.is_equal:
            return
        if self._ranges:
            yield from self._compare_ranges(*self._ranges)
            return
        count = max(16, min(MAX_PARTS, max(self.source.rows, self.destination.rows) // ROWS_PER_PART))
        left, right = (_KeyHashes(side, self._table, count) for side in self._sides)
        for group in _group_parts(left, right):
            yield self._compare_rows(left.read_rows(group), right.read_rows(group))

    def find_differences(self, max_rows: int, limit: int | None = None) -> Differences:
        """Count the rows that differ until there are more than ``max_rows``; keep the first ``limit`` keys of each kind, None: all."""
        keys: dict[RowChange, list[Line]] = {"only a": [], "only b": [], "changed": []}
        counts = dict.fromkeys(keys, 0)
        for group in self.iterate_differences():
            if sum(counts.values()) > max_rows:
                return Differences(keys=keys, counts=counts, is_complete=False)
            for change, lines in group.items():
                counts[change] += len(lines)
                keys[change] += lines if limit is None else lines[: limit - len(keys[change])]
        return Differences(keys=keys, counts=counts, is_complete=True)

    def _compare_ranges(self, left: _KeyRanges, right: _KeyRanges) -> Iterator[ChangedKeys]:
        width = max(left.width, right.width)
        left.widen(width)
        right.widen(width)
        for group in _group_parts(left, right):
            if _count_rows(left, right, group) > MAX_ROWS:  # a single range
                yield from self._compare_ranges(left.divide(group[0]), right.divide(group[0]))
            else:
                yield self._compare_rows(left.read_rows(group), right.read_rows(group))

    def _compare_rows(self, left: Mapping[Line, int], right: Mapping[Line, int]) -> ChangedKeys:
        if not self._table.key:
            return {
                "only a": list(_subtract_counts(left, right)),
                "only b": list(_subtract_counts(right, left)),
            }
        return {
            "only a": [key for key in left if key not in right],
            "only b": [key for key in right if key not in left],
            "changed": [key for key, digest in left.items() if right.get(key, digest) != digest],
        }


def join_digests(digests: Iterable[TableDigest]) -> TableDigest:
    """Return the digest of all rows of parts."""
    result = TableDigest()
    for digest in digests:
        result = result.join(digest)
    return result


_ALL_ROWS = Positions("", "")


class _KeyRanges:
    """One side of a table whose key is one integer; a part is a range of 2 ^ ``width`` integers."""

    def __init__(
        self, side: RowSource, table: TransferTable, *, limits: Positions | None = _ALL_ROWS
    ) -> None:
        """Read the digests of all ranges, or of those within ``limits``; None: no row."""
        self._side, self._table = side, table
        self.width, self.digests = _FIRST_WIDTH, dict[int, TableDigest]()
        self._limits = dict[int, Positions]()
        if limits is None:
            return
        position = limits.start
        with side.stream_lines(table.name, table.columns, position=limits.start, end=limits.end) as batches:
            for batch in batches:
                position = self._add_lines(batch.lines, position)
                progress.advance(len(batch.lines))

    def _add_lines(self, lines: Sequence[Line], position: str) -> str:
        """Add rows after ``position``; return the position of the last one."""
        start, last_part = 0, _read_integer(lines[-1]) >> self.width
        while start < len(lines):
            part = _read_integer(lines[start]) >> self.width
            end = len(lines)
            if part != last_part:
                end = bisect_left(lines, (part + 1) << self.width, lo=start, key=_read_integer)
            last = str(_read_integer(lines[end - 1]))
            self._add_part(part, TableDigest().add(lines[start:end]), Positions(position, last))
            start, position = end, last
        while len(self.digests) > MAX_PARTS:
            self.widen(self.width + 1)
        return position

    def _add_part(self, part: int, digest: TableDigest, limits: Positions) -> None:
        if part in self.digests:
            digest, limits = self.digests[part].join(digest), Positions(self._limits[part].start, limits.end)
        self.digests[part], self._limits[part] = digest, limits

    def widen(self, width: int) -> None:
        """Join ranges, so that each has 2 ^ ``width`` integers."""
        digests, limits, shift = self.digests, self._limits, width - self.width
        self.digests, self._limits, self.width = {}, {}, width
        for part, digest in digests.items():
            self._add_part(part >> shift, digest, limits[part])

    def divide(self, part: int) -> _KeyRanges:
        """Return narrower ranges of one range."""
        with progress.uncounted():
            return _KeyRanges(self._side, self._table, limits=self._limits.get(part))

    def read_rows(self, group: Collection[int]) -> dict[Line, int]:
        """Return the digests of the rows of some parts by their keys."""
        result = dict[Line, int]()
        for start, end in self._join_limits(frozenset(group)):
            with self._side.stream_lines(
                self._table.name, self._table.columns, position=start, end=end
            ) as batches:
                for batch in batches:
                    result |= {key_of(line, 1): digest_line(line) for line in batch.lines}
        return result

    def _join_limits(self, group: Collection[int]) -> Iterator[Positions]:
        """Yield the limits of some parts; those that follow each other are joined."""
        current: Positions | None = None
        for part, limits in self._limits.items():
            if part in group:
                current = Positions(current.start if current else limits.start, limits.end)
            elif current:
                yield current
                current = None
        if current:
            yield current


class _KeyHashes:
    """One side of a table; the hash of the key of a row selects its part."""

    def __init__(self, side: RowSource, table: TransferTable, count: int) -> None:
        """Read the digests of all parts."""
        self._side, self._table, self._count = side, table, count
        rows, totals = Counter[int](), Counter[int]()
        with side.stream_lines(table.name, table.columns) as batches:
            for batch in batches:
                for line in batch.lines:
                    part = self._select_part(line)
                    rows[part] += 1
                    totals[part] += digest_line(line)
        self.digests = {part: TableDigest(rows=rows[part], total=totals[part]) for part in rows}

    def _select_part(self, line: Line) -> int:
        width = self._table.key_width
        return crc32(key_of(line, width) if width else line) % self._count

    def read_rows(self, group: Collection[int]) -> dict[Line, int]:
        """Return the digests of the rows of some parts by their keys; without a key, the number of equal rows by row."""
        selected, result, width = frozenset(group), dict[Line, int](), self._table.key_width
        with self._side.stream_lines(self._table.name, self._table.columns) as batches:
            for batch in batches:
                for line in batch.lines:
                    if self._select_part(line) in selected:
                        if width:
                            result[key_of(line, width)] = digest_line(line)
                        else:
                            result[line] = result.get(line, 0) + 1
        return result


_Parts: TypeAlias = _KeyRanges | _KeyHashes


def _group_parts(left: _Parts, right: _Parts) -> Iterator[Sequence[int]]:
    """Yield groups of the parts that differ, whose rows fit in memory, unless a group is a single part."""
    group, size = list[int](), 0
    for part in sorted(left.digests.keys() | right.digests.keys()):
        if left.digests.get(part) == right.digests.get(part):
            continue
        rows = _count_rows(left, right, [part])
        if group and size + rows > MAX_ROWS:
            yield group
            group, size = [], 0
        group.append(part)
        size += rows
    if group:
        yield group


def _count_rows(left: _Parts, right: _Parts, group: Sequence[int]) -> int:
    """Return the larger number of rows that one side has in some parts."""
    return max(
        sum(side.digests[part].rows for part in group if part in side.digests) for side in (left, right)
    )


def _subtract_counts(left: Mapping[Line, int], right: Mapping[Line, int]) -> Iterator[Line]:
    """Yield the rows of ``left`` that ``right`` lacks."""
    for line, count in left.items():
        for _ in range(count - right.get(line, 0)):
            yield line


def _read_integer(line: Line) -> int:
    """Return the first value of a line."""
    return int(line.partition(TAB)[0])
