"""Find the rows that may differ between two copies of a SQLite file: those on pages whose bytes differ.

Two copies of one file share most of their pages, and comparing bytes takes a hundredth of the time of reading rows. The format of
the pages is that of https://sqlite.org/fileformat2.html: a table is a tree whose inner pages have the last rowid of each child.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from dbctl.engines.contract.database import Readable
from dbctl.engines.sqlite.database import SQLiteDatabase, SQLitePart
from dbctl.extensions.transfer.portable.changed_rows import PageSource, Positions

_HEADER_BYTES, _BLOCK_PAGES = 100, 256
_LOCK_BYTE = 1 << 30  #: the page with it is never used
_INNER_INDEX, _INNER_TABLE, _LEAF_INDEX, _LEAF_TABLE = 2, 5, 10, 13
_TREE_KINDS = frozenset({_INNER_INDEX, _INNER_TABLE, _LEAF_INDEX, _LEAF_TABLE})
_INNER = frozenset({_INNER_INDEX, _INNER_TABLE})
_SCHEMA = "select type, name, rootpage, sql from sqlite_master order by rowid"
_LONGEST_NUMBER = 9  #: bytes


class _Leaf(NamedTuple):
    """The rowids on one page: after ``low`` up to ``high``; None: no limit."""

    page: int
    low: int | None
    high: int | None


class _File:
    """The pages of one file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        head = os.pread(descriptor, _HEADER_BYTES, 0)
        size = int.from_bytes(head[16:18], "big")
        self.page_size = 1 << 16 if size == 1 else size
        self.usable = self.page_size - head[20]
        self.is_plain = head[18] == head[19] == 1 and head[52:56] == bytes(4)  # no WAL, no auto-vacuum
        self.page_count = os.fstat(descriptor).st_size // self.page_size
        self._first_trunk = int.from_bytes(head[32:36], "big")

    def read(self, first: int, count: int = 1) -> bytes:
        return os.pread(self._descriptor, count * self.page_size, (first - 1) * self.page_size)

    def read_free(self) -> set[int]:
        """Return the pages that contain nothing."""
        free, trunk = set[int](), self._first_trunk
        while trunk and trunk not in free:
            page = self.read(trunk)
            free.add(trunk)
            count = _read_number(page, 4)
            free.update(_read_number(page, 8 + 4 * index) for index in range(count))
            trunk = _read_number(page, 0)
        return free

    def list_leaves(self, root: int) -> list[_Leaf]:
        """Return the leaves of a table in the order of their rowids; only inner pages are read, and one leaf."""
        depth, page_number = 0, root
        while self._kind(page_number, page := self.read(page_number)) == _INNER_TABLE:
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
        return self._kind(root, self.read(root)) in (_INNER_TABLE, _LEAF_TABLE)

    def _kind(self, page_number: int, page: bytes) -> int:
        return page[_HEADER_BYTES if page_number == 1 else 0]

    def _list_children(self, number: int, page: bytes, low: int | None, high: int | None) -> Iterator[_Leaf]:
        start = _HEADER_BYTES if number == 1 else 0
        for offset in self._list_cells(page, start):
            rowid, _ = _read_varint(page, offset + 4)
            yield _Leaf(_read_number(page, offset), low, rowid)
            low = rowid
        yield _Leaf(_read_number(page, start + 8), low, high)

    def _list_cells(self, page: bytes, start: int) -> list[int]:
        """Return the offsets of the cells of a page of a tree."""
        count = int.from_bytes(page[start + 3 : start + 5], "big")
        first = start + (12 if page[start] in _INNER else 8)
        return [int.from_bytes(page[at : at + 2], "big") for at in range(first, first + 2 * count, 2)]

    def list_overflow(self, number: int) -> Iterator[int]:
        """Yield the pages to which long values of a page continue."""
        page = self.read(number)
        start = _HEADER_BYTES if number == 1 else 0
        kind = page[start] if len(page) > start else 0
        if kind not in _TREE_KINDS or kind == _INNER_TABLE:
            return
        for offset in self._list_cells(page, start):
            length, at = _read_varint(page, offset + (4 if kind == _INNER_INDEX else 0))
            if kind == _LEAF_TABLE:
                _, at = _read_varint(page, at)
            local = self._count_local(length, is_table=kind == _LEAF_TABLE)
            following = _read_number(page, at + local) if local < length else 0
            while following:
                yield following
                following = _read_number(self.read(following), 0)

    def _count_local(self, length: int, *, is_table: bool) -> int:
        """Return the bytes of a value of this length that are on the page of the tree."""
        most = self.usable - 35 if is_table else (self.usable - 12) * 64 // 255 - 23
        least = (self.usable - 12) * 32 // 255 - 23
        if length <= most:
            return length
        local = least + (length - least) % (self.usable - 4)
        return local if local <= most else least


def _read_number(page: bytes, offset: int) -> int:
    return int.from_bytes(page[offset : offset + 4], "big")


def _read_varint(page: bytes, offset: int) -> tuple[int, int]:
    """Return a number of variable length with a sign, and the offset after it."""
    value = 0
    for index in range(_LONGEST_NUMBER):
        byte = page[offset + index]
        if index == _LONGEST_NUMBER - 1:
            value = value << 8 | byte
            return value - (1 << 64) if value >> 63 else value, offset + index + 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the last byte has no high bit
            return value, offset + index + 1
    raise AssertionError


class SQLitePages(SQLitePart, PageSource):
    """The part ``PageSource``."""

    def find_positions(self, other: Readable) -> Mapping[str, Sequence[Positions]] | None:
        databases = self._db, cast("SQLiteDatabase", other)
        first, second = (db.connection.run(_SCHEMA) for db in databases)
        if first != second:
            return None
        descriptors = [os.open(Path(db.connection.path), os.O_RDONLY) for db in databases]
        try:
            left, right = map(_File, descriptors)
            return _find_positions(left, right, first)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


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
    lock_page = _LOCK_BYTE // left.page_size + 1
    for number in changed - covered - free - {lock_page}:
        # the beginning of an overflow page is the number of a page, which is below 2 ** 25 in files of less than 137 GB
        kinds = {page[_HEADER_BYTES if number == 1 else 0] for file in files if (page := file.read(number))}
        if not kinds & _TREE_KINDS:  # of a long value whose beginning, on another page, is equal
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
