"""Find the rows that may differ between two copies of a SQLite file: those on pages whose bytes differ.

Two copies of one file share most of their pages, and comparing bytes takes a hundredth of the time of reading rows. The format of
the pages is that of https://sqlite.org/fileformat2.html: a table is a tree whose inner pages have the last rowid of each child.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

from dbctl.engines.contract.database import Readable
from dbctl.engines.sqlite.database import SQLiteDatabase, SQLitePart
from dbctl.engines.sqlite.files import (
    HEADER_BYTES,
    HEADER_SIZES,
    INDEX_INTERIOR,
    INTERIOR,
    KINDS,
    LEAF,
    LOCK_BYTE,
    count_local_bytes,
    find_header,
    read_number,
    read_page_size,
    read_varint,
)
from dbctl.extensions.transfer.engines.sqlite.rows import SQLiteRowSource
from dbctl.extensions.transfer.portable.contract import ChangedRows, LineBatch, LineColumn, Positions

_BLOCK_PAGES = 256
_SCHEMA = "select type, name, rootpage, sql from sqlite_master order by rowid"


class _Leaf(NamedTuple):
    """The rowids on one page: after ``low`` up to ``high``; None: no limit."""

    page: int
    low: int | None
    high: int | None


class _File:
    """The pages of one file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        head = os.pread(descriptor, HEADER_BYTES, 0)
        self.page_size = read_page_size(head)
        self.usable = self.page_size - head[20]
        self.is_plain = head[18] == head[19] == 1 and head[52:56] == bytes(4)  # no WAL, no auto-vacuum
        self.page_count = os.fstat(descriptor).st_size // self.page_size
        self._first_trunk = read_number(head, 32)

    def read(self, first: int, count: int = 1) -> bytes:
        return os.pread(self._descriptor, count * self.page_size, (first - 1) * self.page_size)

    def read_free(self) -> set[int]:
        """Return the pages that contain nothing."""
        free, trunk = set[int](), self._first_trunk
        while trunk and trunk not in free:
            page = self.read(trunk)
            free.add(trunk)
            count = read_number(page, 4)
            free.update(read_number(page, 8 + 4 * index) for index in range(count))
            trunk = read_number(page, 0)
        return free

    def list_leaves(self, root: int) -> list[_Leaf]:
        """Return the leaves of a table in the order of their rowids; only inner pages are read, and one leaf."""
        depth, page_number = 0, root
        while self._kind(page_number, page := self.read(page_number)) == INTERIOR:
            depth += 1
            page_number = next(self._list_children(page_number, page, None, None)).page
        level = [_Leaf(root, None, None)]
        for _ in range(depth):
            level = [
                child
                for inner in level
                for child in self._list_children(inner.page, self.read(inner.page), inner.low, inner.high)
            ]
        return level

    def is_table(self, root: int) -> bool:
        """Return whether a page is that of a tree of rows with rowids."""
        return self._kind(root, self.read(root)) in (INTERIOR, LEAF)

    def _kind(self, page_number: int, page: bytes) -> int:
        return page[find_header(page_number)]

    def _list_children(self, number: int, page: bytes, low: int | None, high: int | None) -> Iterator[_Leaf]:
        start = find_header(number)
        for offset in self._list_cells(page, start):
            rowid, _ = read_varint(page, offset + 4)
            yield _Leaf(read_number(page, offset), low, rowid)
            low = rowid
        yield _Leaf(read_number(page, start + 8), low, high)

    def _list_cells(self, page: bytes, start: int) -> list[int]:
        """Return the offsets of the cells of a page of a tree."""
        count = int.from_bytes(page[start + 3 : start + 5], "big")
        first = start + HEADER_SIZES[page[start]]
        return [int.from_bytes(page[at : at + 2], "big") for at in range(first, first + 2 * count, 2)]

    def list_overflow(self, number: int) -> Iterator[int]:
        """Yield the pages to which long values of a page continue."""
        page = self.read(number)
        start = find_header(number)
        kind = page[start] if len(page) > start else 0
        if kind not in KINDS or kind == INTERIOR:
            return
        for offset in self._list_cells(page, start):
            length, at = read_varint(page, offset + (4 if kind == INDEX_INTERIOR else 0))
            if kind == LEAF:
                _, at = read_varint(page, at)
            local = count_local_bytes(length, self.usable, index=kind != LEAF)
            following = read_number(page, at + local) if local < length else 0
            while following:
                yield following
                following = read_number(self.read(following), 0)


class SQLitePages(SQLitePart, ChangedRows):
    def select_changed(
        self, other: Readable, tables: Collection[str], *, private: bool
    ) -> tuple[SQLiteRowSource, SQLiteRowSource] | None:
        del tables  # of all tables
        databases = self._db, cast("SQLiteDatabase", other)
        first, second = (db.connection.run(_SCHEMA) for db in databases)
        # closing a file ends the locks of this process on it
        if not private or first != second:
            return None
        descriptors = [os.open(Path(db.connection.path), os.O_RDONLY) for db in databases]
        try:
            left, right = map(_File, descriptors)
            positions = _find_positions(left, right, first)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if positions is None:
            return None
        return _RowsOnPages(databases[0], positions), _RowsOnPages(databases[1], positions)


class _RowsOnPages(SQLiteRowSource):
    """The rows with some of the rowids of each table; all rows of the others."""

    def __init__(self, db: SQLiteDatabase, positions: Mapping[str, Sequence[Positions]]) -> None:
        super().__init__(db)
        self._positions = positions

    @contextmanager
    def stream_lines(
        self, table: str, columns: Sequence[LineColumn], *, position: str = "", end: str = ""
    ) -> Iterator[Iterator[LineBatch]]:
        yield self._read_positions(table, columns, Positions(position, end))

    def _read_positions(
        self, table: str, columns: Sequence[LineColumn], outer: Positions
    ) -> Iterator[LineBatch]:
        for inner in self._positions.get(table, [Positions("", "")]):
            start = max(filter(None, (outer.start, inner.start)), key=int, default="")
            end = min(filter(None, (outer.end, inner.end)), key=int, default="")
            if not (start and end) or int(start) < int(end):
                with super().stream_lines(table, columns, position=start, end=end) as batches:
                    yield from batches


def _find_positions(
    left: _File, right: _File, schema: Sequence[Sequence[object]]
) -> dict[str, list[Positions]] | None:
    if left.page_size != right.page_size or not (left.is_plain and right.is_plain):
        return None
    changed = set(_list_changed(left, right))
    files = left, right
    unused = [file.read_free() for file in files]
    free = unused[0] & unused[1]
    covered = {
        page
        for file, own in zip(files, unused, strict=True)
        for number in changed - own
        for page in file.list_overflow(number)
    }
    lock_page = LOCK_BYTE // left.page_size + 1
    for number in changed - covered - free - {lock_page}:
        # the beginning of an overflow page is the number of a page, which is below 2 ** 25 in files of less than 137 GB
        kinds = {page[find_header(number)] for file in files if (page := file.read(number))}
        if not kinds & KINDS:  # of a long value whose beginning, on another page, is equal
            return None
    positions = dict[str, list[Positions]]()
    for kind, name, root, _ in schema:
        if kind == "table" and root and all(file.is_table(int(str(root))) for file in files):
            positions[str(name)] = _list_positions(left, right, int(str(root)), changed)
    return positions


def _list_changed(left: _File, right: _File) -> Iterator[int]:
    """Yield the numbers of the pages whose bytes differ, or that only one file has."""
    size, count = left.page_size, min(left.page_count, right.page_count)
    for first in range(1, count + 1, _BLOCK_PAGES):
        blocks = [file.read(first, min(_BLOCK_PAGES, count + 1 - first)) for file in (left, right)]
        if blocks[0] != blocks[1]:
            for start in range(0, len(blocks[0]), size):
                if blocks[0][start : start + size] != blocks[1][start : start + size]:
                    yield first + start // size
    yield from range(count + 1, max(left.page_count, right.page_count) + 1)


def _list_positions(left: _File, right: _File, root: int, changed: set[int]) -> list[Positions]:
    """Return the positions of the rows on changed pages of either file, or on pages that only one table has."""
    leaves = [file.list_leaves(root) for file in (left, right)]
    pages = [{leaf.page for leaf in each} for each in leaves]
    common = (pages[0] & pages[1]) - changed
    dirty = [leaf for each in leaves for leaf in each if leaf.page not in common]
    ranges = list[tuple[float, float]]()
    for low, high in sorted(
        (float("-inf") if leaf.low is None else leaf.low, float("inf") if leaf.high is None else leaf.high)
        for leaf in dirty
    ):
        if ranges and low <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(high, ranges[-1][1])
        else:
            ranges.append((low, high))
    return [Positions(_format(low), _format(high)) for low, high in ranges]


def _format(limit: float) -> str:
    return "" if limit in (float("-inf"), float("inf")) else str(limit)
