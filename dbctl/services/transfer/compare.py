"""Find the rows that differ between two databases, by their keys, in limited memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from zlib import crc32

from dbctl.engines.contract import Line, RowSource, key_of
from dbctl.model import Struct
from dbctl.services.transfer.digest import digest_line
from dbctl.services.transfer.tables import TransferTable

#: Rows in one part of a table on average, and the number of parts.
ROWS_PER_PART, MAX_PARTS = 256, 1 << 14
#: Differing keys in memory.
MAX_DIFFERENCES = 100_000
#: Rows in memory.
MAX_ROWS = 100_000


class Differences(Struct, frozen=True, kw_only=True):
    """The keys of rows that differ."""

    missing: Sequence[Line] = ()  #: only in the source
    changed: Sequence[Line] = ()  #: in both, with other values
    extra: Sequence[Line] = ()  #: only in the destination
    is_complete: bool = True  #: false: there are more, or the table has no key

    @property
    def count(self) -> int:
        """The number of keys."""
        return len(self.missing) + len(self.changed) + len(self.extra)


def find_differences(
    source: RowSource, destination: RowSource, table: TransferTable, *, rows: int, limit: int
) -> Differences:
    """Compare a table that differs, and return at most about ``limit`` keys.

    Each side is read once for the digests of parts of the table, and again for the keys of parts that differ.

    Args:
        source: the source, in a snapshot.
        destination: the destination.
        table: the table.
        rows: the number of its rows.
        limit: the number of keys after which the comparison stops.
    """
    if not table.key_width:
        return Differences(is_complete=False)
    parts = max(16, min(MAX_PARTS, rows // ROWS_PER_PART))
    left_parts, right_parts = (_Parts(side, table, parts) for side in (source, destination))
    differing = [part for part in range(parts) if left_parts.totals[part] != right_parts.totals[part]]
    missing, changed, extra = list[Line](), list[Line](), list[Line]()
    rows_by_part = list(map(max, left_parts.rows, right_parts.rows))
    for group in _group_parts(differing, rows_by_part):
        left, right = (_read_rows(side, table, parts, group) for side in (source, destination))
        missing += [key for key in left if key not in right]
        changed += [key for key, digest in left.items() if key in right and right[key] != digest]
        extra += [key for key in right if key not in left]
        if len(missing) + len(changed) + len(extra) > limit:
            return Differences(
                missing=missing, changed=changed, extra=extra, is_complete=group[-1] == differing[-1]
            )
    return Differences(missing=missing, changed=changed, extra=extra)


class _Parts:
    """The number of rows, and the sum of their digests, in each part of a table; the key of a row selects its part."""

    def __init__(self, side: RowSource, table: TransferTable, parts: int) -> None:
        self.rows, self.totals = [0] * parts, [0] * parts
        with side.stream_lines(table.name, table.columns) as batches:
            for batch in batches:
                for line in batch.lines:
                    part = crc32(key_of(line, table.key_width)) % parts
                    self.rows[part] += 1
                    self.totals[part] += digest_line(line)


def _group_parts(parts: Sequence[int], rows: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield groups of parts whose rows fit in memory."""
    group, size = list[int](), 0
    for part in parts:
        if group and size + rows[part] > MAX_ROWS:
            yield group
            group, size = [], 0
        group.append(part)
        size += rows[part]
    if group:
        yield group


def _read_rows(side: RowSource, table: TransferTable, parts: int, group: Sequence[int]) -> dict[Line, int]:
    """Return the digests of the rows of some parts by their keys."""
    selected, result = frozenset(group), dict[Line, int]()
    with side.stream_lines(table.name, table.columns) as batches:
        for batch in batches:
            for line in batch.lines:
                key = key_of(line, table.key_width)
                if crc32(key) % parts in selected:
                    result[key] = digest_line(line)
    return result
