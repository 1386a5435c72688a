"""Read the readable part of the B-trees of a SQLite file, and check each page against the bounds of its parent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from dbctl import signals
from dbctl.engines.sqlite.files import (
    HEADER_SIZES,
    INDEX_INTERIOR,
    INDEX_LEAF,
    INTERIOR,
    LEAF,
    count_local_bytes,
    find_header,
    read_number,
    read_varint,
)
from dbctl.extensions.salvage.sqlite.image import Image
from dbctl.extensions.salvage.sqlite.records import Decoder, RecordError, longest_increasing

LOWEST, HIGHEST = -(1 << 63) - 1, (1 << 63) - 1
#: More than the depth of a tree in the largest possible file.
MAX_DEPTH = 64


class Gap(NamedTuple):
    """Unreadable keys: those above ``low``, up to ``high``."""

    low: int
    high: int
    page: int
    reason: str


class Batch(NamedTuple):
    """The rows of one page."""

    page: int
    rows: Sequence[tuple[int, list[object]]]  #: rowid and fields; the rowid is 0 in an index
    rejected: Sequence[tuple[int, list[object], str]] = ()  #: rowid, fields and reason of doubtful rows
    lost: Sequence[int] = ()  #: rowids of rows with unreadable values
    unnamed: int = 0  #: number of rows with unreadable rowids
    gap: Gap | None = None  #: the unreadable keys, if the page, or a pointer of it, is unreadable
    zeroed: int = 0  #: number of rows with part of a value on a page of zeros


class PageError(Exception):
    """An unexpected page; the text is the reason."""


WRONG_TABLE = "its rows belong to another part of the tree or another table"
OUT_OF_ORDER = "its key is out of order"
LOST_CHILDREN = "pointers to further pages are damaged"
CROSSED = "its long value continues on pages of other values"
#: Returns the sort key of a record.
KeyFunction = Callable[[list[object]], Any]
#: Whether a rowid and fields can be a row of the table.
RowTest = Callable[[int, list[object]], bool]


class Trees:
    """Reader of the trees of one image; a page belongs to the first tree that claims it."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._decoder = Decoder(image.encoding)
        self.claimed = bytearray(image.present_pages + 1)
        self._zeroed = 0
        self._crossed = False  # whether the last long value continued after its last page
        self._overflow_pages = list[int]()  # overflow pages of the current page

    def read_table(self, root: int, fits: RowTest) -> Iterator[Batch]:
        """Yield the rows of a table with rowids, page by page in the order of rowids."""
        stack = [(root, LOWEST, HIGHEST, 0)]
        while stack:
            signals.raise_if_interrupted()
            page_number, low, high, depth = stack.pop()
            try:
                page, kind = self._claim(page_number, (LEAF, INTERIOR), depth)
                if kind == LEAF:
                    yield self._read_leaf(page_number, page, low, high, fits)
                    continue
                children, missing = self._read_children(page_number, page, low, high)
            except PageError as error:
                yield Batch(page_number, (), gap=Gap(low, high, page_number, str(error)))
                continue
            if missing:
                yield Batch(page_number, (), gap=Gap(low, high, page_number, LOST_CHILDREN))
            stack += [(child, bottom, top, depth + 1) for child, bottom, top in reversed(children)]

    def is_index(self, root: int) -> bool:
        """Return whether the tree at a page is that of an index, or of a table without rowids."""
        page = self._image.read_page(root)
        return bool(page) and page[find_header(root)] in (INDEX_LEAF, INDEX_INTERIOR)

    def read_unlinked(self, page_number: int) -> Batch | None:
        """Return the rows of a table page without a parent; None if the page is not a table page with rows."""
        page = self._image.read_page(page_number)
        if not page or page[0] != LEAF:
            return None
        self._overflow_pages = []
        try:
            batch = self._read_leaf(page_number, page, LOWEST, HIGHEST, lambda _key, _fields: True)
        except PageError:
            return None
        return batch if batch.rows else None

    def read_index(
        self, root: int, fits: Callable[[list[object]], bool], order: KeyFunction | None = None
    ) -> Iterator[Batch]:
        """Yield the rows of an index or a table without rowids; with ``order``, rows out of order are rejected."""
        stack: list[tuple[int, int, Any, Any]] = [(root, 0, None, None)]
        while stack:
            signals.raise_if_interrupted()
            page_number, depth, low, high = stack.pop()
            try:
                batch, children = self._read_index_page(page_number, depth, fits, order, (low, high))
            except PageError as error:
                yield Batch(page_number, (), gap=Gap(LOWEST, HIGHEST, page_number, str(error)))
                continue
            stack += [(child, depth + 1, lower, upper) for child, lower, upper in reversed(children)]
            yield batch

    def _read_index_page(
        self,
        page_number: int,
        depth: int,
        fits: Callable[[list[object]], bool],
        order: KeyFunction | None,
        bounds: tuple[Any, Any],
    ) -> tuple[Batch, list[tuple[int, Any, Any]]]:
        """Return the rows of a page, and its children with the bounds of their keys."""
        page, kind = self._claim(page_number, (INDEX_LEAF, INDEX_INTERIOR), depth)
        cells, unnamed = self._read_cells(page_number, page)
        is_interior = kind == INDEX_INTERIOR
        records, crossed = list[list[object] | None](), list[list[object]]()
        for offset in cells:
            fields = self._read_record(page, offset + (4 if is_interior else 0))
            if self._take_crossed() and fields is not None:
                crossed.append(fields)
                fields = None
            records.append(fields)
        ordered = self._find_ordered(records, fits, order, *bounds)
        readable = [(position, fields) for position, fields in enumerate(records) if fields is not None]
        if 2 * len(ordered) < len(readable):
            self.release(page_number)
            raise PageError(WRONG_TABLE)
        children = list[tuple[int, Any, Any]]()
        if is_interior:
            child_numbers = [read_number(page, offset) for offset in cells] + [
                read_number(page, find_header(page_number) + 8)
            ]
            keys = [
                order(fields or []) if order and position in ordered else None
                for position, fields in enumerate(records)
            ]
            for position, child in enumerate(child_numbers):
                lower = next((key for key in reversed(keys[:position]) if key is not None), bounds[0])
                upper = next((key for key in keys[position:] if key is not None), bounds[1])
                children.append((child, lower, upper))
        batch = Batch(
            page_number,
            [(0, fields) for position, fields in readable if position in ordered],
            rejected=[(0, fields, OUT_OF_ORDER) for position, fields in readable if position not in ordered]
            + [(0, fields, CROSSED) for fields in crossed],
            unnamed=unnamed + len(records) - len(readable) - len(crossed),
            zeroed=self._take_zeroed(),
            gap=Gap(LOWEST, HIGHEST, page_number, LOST_CHILDREN) if is_interior and unnamed else None,
        )
        return batch, children

    def _read_record(self, page: bytes, offset: int) -> list[object] | None:
        try:
            length, start = read_varint(page, offset)
            return self._decoder.decode(self._read_payload(page, start, length, index=True))
        except (IndexError, RecordError):
            return None

    @staticmethod
    def _find_ordered(
        records: Sequence[list[object] | None],
        fits: Callable[[list[object]], bool],
        order: KeyFunction | None,
        low: Any,
        high: Any,
    ) -> set[int]:
        """Return the positions of the rows that are in order."""
        fitting = {
            index: fields for index, fields in enumerate(records) if fields is not None and fits(fields)
        }
        if order is None:
            return set(fitting)
        keys = {index: order(fields) for index, fields in fitting.items()}
        return longest_increasing(
            {
                index: key
                for index, key in keys.items()
                if (low is None or low < key) and (high is None or key < high)
            }
        )

    def release(self, page_number: int) -> None:
        """Release a page and its overflow pages for other trees."""
        for claimed_page in (page_number, *self._overflow_pages):
            self.claimed[claimed_page] = 0
        self._zeroed = 0

    def _take_crossed(self) -> bool:
        crossed, self._crossed = self._crossed, False
        return crossed

    def _take_zeroed(self) -> int:
        zeroed, self._zeroed = self._zeroed, 0
        return zeroed

    def _claim(self, page_number: int, kinds: tuple[int, int], depth: int) -> tuple[bytes, int]:
        page = self._image.read_page(page_number)
        if not page:
            raise PageError(
                "it is beyond the end of the file" if page_number > 0 else "its page number is invalid"
            )
        if self.claimed[page_number]:
            raise PageError("another tree, or another parent of this tree, contains it")
        kind = page[find_header(page_number)]
        if kind not in kinds or depth > MAX_DEPTH:
            zeros = page.count(0) == len(page)
            raise PageError("it contains only zeros" if zeros else "it is not a table page")
        self.claimed[page_number], self._overflow_pages = 1, []
        return page, kind

    def _read_cells(self, page_number: int, page: bytes) -> tuple[list[int], int]:
        """Return the offsets of the cells of a page, and the number of invalid offsets."""
        header = find_header(page_number)
        start, cell_count = header + HEADER_SIZES[page[header]], int.from_bytes(page[header + 3 : header + 5])
        # 0 stands for 65,536.
        content = (int.from_bytes(page[header + 5 : header + 7]) - 1) % 65_536 + 1
        end, usable = start + 2 * cell_count, self._image.usable
        offsets = [
            int.from_bytes(page[offset : offset + 2]) for offset in range(start, min(end, usable - 1), 2)
        ]
        valid = [offset for offset in offsets if end <= offset <= usable - 4]
        if end <= usable and len(valid) == cell_count and content == min(valid, default=usable):
            return valid, 0
        # The count, the beginning of the cells, or an offset is damaged: cells end where the array of offsets would overlap them.
        plausible = self._find_offsets(page, start)
        overlaps = bool(plausible) and end > min(plausible)
        if overlaps or (len(plausible) > len(valid) and content == min(plausible)):
            return plausible, 0
        if end > usable:
            self.release(page_number)
            raise PageError("its header is damaged")
        return valid, cell_count - len(valid)

    def _find_offsets(self, page: bytes, start: int) -> list[int]:
        """Return the offsets of cells at ``start`` without the count of the header: as many as are plausible."""
        offsets, lowest = list[int](), self._image.usable
        for position in range(start, self._image.usable - 1, 2):
            offset = int.from_bytes(page[position : position + 2])
            if not position + 2 <= min(offset, lowest) or offset > self._image.usable - 4:
                break
            offsets.append(offset)
            lowest = min(lowest, offset)
        return offsets

    def _read_leaf(self, page_number: int, page: bytes, low: int, high: int, fits: RowTest) -> Batch:
        cells, unnamed = self._read_cells(page_number, page)
        keys, records, crossed = list[int](), list[list[object] | None](), set[int]()
        for offset in cells:
            try:
                length, start = read_varint(page, offset)
                key, start = read_varint(page, start)
            except IndexError:
                unnamed += 1
                continue
            keys.append(key)
            try:
                records.append(self._decoder.decode(self._read_payload(page, start, length, index=False)))
                if self._take_crossed():
                    crossed.add(len(records) - 1)
            except (IndexError, RecordError):
                records.append(None)
        placed = longest_increasing({position: key for position, key in enumerate(keys) if low < key <= high})
        readable = [(position, fields) for position, fields in enumerate(records) if fields is not None]
        fitting = {
            position for position, fields in readable if position in placed and fits(keys[position], fields)
        }
        if 2 * len(fitting) < len(readable):
            self.release(page_number)
            raise PageError(WRONG_TABLE)
        return Batch(
            page_number,
            [
                (keys[position], fields)
                for position, fields in readable
                if position in fitting and position not in crossed
            ],
            rejected=[
                (keys[position], fields, CROSSED if position in crossed else OUT_OF_ORDER)
                for position, fields in readable
                if position not in fitting or position in crossed
            ],
            lost=[
                keys[position]
                for position, fields in enumerate(records)
                if fields is None and position in placed
            ],
            unnamed=unnamed
            + sum(fields is None and position not in placed for position, fields in enumerate(records)),
            zeroed=self._take_zeroed(),
        )

    def _read_children(
        self, page_number: int, page: bytes, low: int, high: int
    ) -> tuple[list[tuple[int, int, int]], int]:
        """Return the children of an interior page with the bounds of their rowids, and the number of lost ones."""
        cells, missing = self._read_cells(page_number, page)
        entries = list[tuple[int, int]]()
        for offset in cells:
            try:
                entries.append((read_number(page, offset), read_varint(page, offset + 4)[0]))
            except IndexError:
                missing += 1
        placed = longest_increasing(
            {position: key for position, (_, key) in enumerate(entries) if low <= key <= high}
        )
        if 2 * len(placed) < len(entries):
            self.release(page_number)
            raise PageError(WRONG_TABLE)
        children, bottom = list[tuple[int, int, int]](), low
        for position, (child, key) in enumerate(entries):
            top = next(
                (entries[index][1] for index in range(position, len(entries)) if index in placed), high
            )
            children.append((child, bottom, top))
            bottom = key if position in placed else bottom
        children.append((read_number(page, find_header(page_number) + 8), bottom, high))
        return children, missing

    def _read_payload(self, page: bytes, offset: int, length: int, *, index: bool) -> bytes:
        """Return the content of a cell, including its overflow pages.

        Raises:
            RecordError: the content is longer than the file, or an overflow page is missing.
        """
        usable = self._image.usable
        local_bytes = count_local_bytes(length, usable, index=index)
        if 0 < length == local_bytes:
            if offset + length > usable:
                raise RecordError("it ends beyond its page")
            return page[offset : offset + length]
        if not 0 < length <= self._image.size:
            raise RecordError("it is longer than the file")
        if offset + local_bytes + 4 > usable:
            raise RecordError("it ends beyond its page")
        fragments, remaining = [page[offset : offset + local_bytes]], length - local_bytes
        overflow_page = read_number(page, offset + local_bytes)
        chain, has_zeros = list[int](), 0
        while remaining > 0:
            overflow = self._image.read_page(overflow_page)
            if not overflow or self.claimed[overflow_page] or overflow_page in chain[-1:]:
                raise RecordError("a page of it is missing")
            chain.append(overflow_page)
            fragment = overflow[4 : 4 + min(remaining, usable - 4)]
            has_zeros = has_zeros or overflow.count(0) == len(overflow)
            fragments.append(fragment)
            remaining -= len(fragment)
            overflow_page = read_number(overflow, 0)
        if len(set(chain)) < len(chain):
            raise RecordError("its overflow pages form a cycle")
        if not overflow_page:
            for chained_page in chain:
                self.claimed[chained_page] = 1
            self._overflow_pages += chain
        self._zeroed += has_zeros
        self._crossed = overflow_page != 0
        return b"".join(fragments)
