"""The trees of a SQLite file, read as far as they can be: each page by itself, and within the bounds that lead to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from dbctl import signals
from dbctl.engines.sqlite.recover.image import (
    HEADER,
    HEADS,
    INDEX_INTERIOR,
    INDEX_LEAF,
    INTERIOR,
    LEAF,
    Image,
)
from dbctl.engines.sqlite.recover.records import Decoder, RecordError, rising, varint

LOWEST, HIGHEST = -(1 << 63) - 1, (1 << 63) - 1
#: Deeper than a tree of the largest file can be.
DEEPEST = 64


class Gap(NamedTuple):
    """Keys that nobody can read: those above ``low``, up to ``high``."""

    low: int
    high: int
    page: int
    reason: str


class Batch(NamedTuple):
    """What one page told."""

    page: int
    rows: Sequence[tuple[int, list[object]]]  #: rowid and fields; in an index the rowid is 0
    aside: Sequence[tuple[int, list[object], str]] = ()  #: the same where they are in doubt, and why
    lost: Sequence[int] = ()  #: rowids of rows whose values cannot be read
    unnamed: int = 0  #: rows of which not even the rowid can be read
    gap: Gap | None = None  #: what is missing instead
    hollow: int = 0  #: rows of whose values a part is on a page of nothing but zeros


class PageError(Exception):
    """A page that is not what it should be; the text says why."""


ELSEWHERE = "its rows do not belong there"
OUT_OF_ORDER = "it does not stand where its key belongs"
CROSSED = "its long value runs on into other pages than its own"
#: The key of a record, as rows are ordered by it.
Order = Callable[[list[object]], Any]
#: Whether fields can be a row of the table.
Fits = Callable[[int, list[object]], bool]


class Trees:
    """The trees of one image. A page belongs to the tree that claimed it first."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._decoder = Decoder(image.encoding)
        self.claimed = bytearray(image.there + 1)
        self._hollow = 0
        self._crossed = False  # whether the last long value did not end where its pages do
        self._chained = list[int]()  # pages behind the rows of the page that is being read

    def table(self, root: int, fits: Fits) -> Iterator[Batch]:
        """Yield what the pages of a table with rowids tell, in the order of rowids."""
        stack = [(root, LOWEST, HIGHEST, 0)]
        while stack:
            signals.check()
            number, low, high, depth = stack.pop()
            try:
                page, kind = self._claim(number, (LEAF, INTERIOR), depth)
                if kind == LEAF:
                    yield self._leaf(number, page, low, high, fits)
                    continue
                children = self._children(number, page, low, high)
            except PageError as error:
                yield Batch(number, (), gap=Gap(low, high, number, str(error)))
                continue
            stack += [(child, above, to, depth + 1) for child, above, to in reversed(children)]

    def unlinked(self, number: int) -> Batch | None:
        """Return the rows of a page of a table to which nothing leads any more; None where it is none."""
        page = self._image.page(number)
        if not page or page[0] != LEAF:
            return None
        self._chained = []
        try:
            found = self._leaf(number, page, LOWEST, HIGHEST, lambda _key, _fields: True)
        except PageError:
            return None
        return found if found.rows else None

    def index(
        self, root: int, fits: Callable[[list[object]], bool], order: Order | None = None
    ) -> Iterator[Batch]:
        """Yield what the pages of an index, or of a table without rowids, tell; with ``order``, only what is in it."""
        stack: list[tuple[int, int, Any, Any]] = [(root, 0, None, None)]
        while stack:
            signals.check()
            number, depth, low, high = stack.pop()
            try:
                batch, children = self._index_page(number, depth, fits, order, (low, high))
            except PageError as error:
                yield Batch(number, (), gap=Gap(LOWEST, HIGHEST, number, str(error)))
                continue
            stack += [(child, depth + 1, before, behind) for child, before, behind in reversed(children)]
            yield batch

    def _index_page(
        self,
        number: int,
        depth: int,
        fits: Callable[[list[object]], bool],
        order: Order | None,
        bounds: tuple[Any, Any],
    ) -> tuple[Batch, list[tuple[int, Any, Any]]]:
        """Return what a page tells, and its children, each with the keys between which its rows are."""
        page, kind = self._claim(number, (INDEX_LEAF, INDEX_INTERIOR), depth)
        cells, unnamed = self._cells(number, page)
        inner = kind == INDEX_INTERIOR
        read, crossed = list[list[object] | None](), list[list[object]]()
        for at in cells:
            fields = self._record(page, at + (4 if inner else 0))
            if self._runs_on() and fields is not None:
                crossed.append(fields)
                fields = None
            read.append(fields)
        good = self._in_order(read, fits, order, *bounds)
        readable = [(at, fields) for at, fields in enumerate(read) if fields is not None]
        if 2 * len(good) < len(readable):
            self.release(number)
            raise PageError(ELSEWHERE)
        children = list[tuple[int, Any, Any]]()
        if inner:
            numbers = [_number(page, at) for at in cells] + [_number(page, self._begin(number) + 8)]
            keys = [order(read[at] or []) if order and at in good else None for at in range(len(read))]
            for place, child in enumerate(numbers):
                before = next((one for one in reversed(keys[:place]) if one is not None), bounds[0])
                behind = next((one for one in keys[place:] if one is not None), bounds[1])
                children.append((child, before, behind))
        batch = Batch(
            number,
            [(0, fields) for at, fields in readable if at in good],
            aside=[(0, fields, OUT_OF_ORDER) for at, fields in readable if at not in good]
            + [(0, fields, CROSSED) for fields in crossed],
            unnamed=unnamed + len(read) - len(readable) - len(crossed),
            hollow=self._hollows(),
        )
        return batch, children

    def _record(self, page: bytes, at: int) -> list[object] | None:
        try:
            length, begins = varint(page, at)
            return self._decoder.decoded(self._payload(page, begins, length, index=True))
        except (IndexError, RecordError):
            return None

    @staticmethod
    def _in_order(
        read: Sequence[list[object] | None],
        fits: Callable[[list[object]], bool],
        order: Order | None,
        low: Any,
        high: Any,
    ) -> set[int]:
        """Return the places of the rows that are where they belong."""
        fitting = [(at, fields) for at, fields in enumerate(read) if fields is not None and fits(fields)]
        if order is None:
            return {at for at, _ in fitting}
        keys = [(at, order(fields)) for at, fields in fitting]
        inside = [
            (at, key) for at, key in keys if (low is None or low < key) and (high is None or key < high)
        ]
        kept = rising([key for _, key in inside])
        return {inside[place][0] for place in kept}

    def release(self, number: int) -> None:
        """Let another tree have a page, and what stands behind its rows."""
        for one in (number, *self._chained):
            self.claimed[one] = 0
        self._hollow = 0

    def _runs_on(self) -> bool:
        found, self._crossed = self._crossed, False
        return found

    def _hollows(self) -> int:
        found, self._hollow = self._hollow, 0
        return found

    def _claim(self, number: int, kinds: tuple[int, int], depth: int) -> tuple[bytes, int]:
        page = self._image.page(number)
        if not page:
            raise PageError("the file ends before it" if number > 0 else "there is no such page")
        if self.claimed[number]:
            raise PageError("it is part of another tree, or of this one twice")
        kind = page[self._begin(number)]
        if kind not in kinds or depth > DEEPEST:
            zeros = page.count(0) == len(page)
            raise PageError("it holds nothing but zeros" if zeros else "it is no page of a table")
        self.claimed[number], self._chained = 1, []
        return page, kind

    @staticmethod
    def _begin(number: int) -> int:
        return HEADER if number == 1 else 0

    def _cells(self, number: int, page: bytes) -> tuple[list[int], int]:
        """Return where the cells of a page begin, and how many have no such place."""
        begin = self._begin(number)
        first, many = begin + HEADS[page[begin]], int.from_bytes(page[begin + 3 : begin + 5], "big")
        if first + 2 * many > self._image.usable:
            self.release(number)
            raise PageError("its head is damaged")
        found = [int.from_bytes(page[at : at + 2], "big") for at in range(first, first + 2 * many, 2)]
        good = [at for at in found if first + 2 * many <= at <= self._image.usable - 4]
        return good, many - len(good)

    def _leaf(self, number: int, page: bytes, low: int, high: int, fits: Fits) -> Batch:
        cells, unnamed = self._cells(number, page)
        keys, read, crossed = list[int](), list[list[object] | None](), set[int]()
        for at in cells:
            try:
                length, begins = varint(page, at)
                key, begins = varint(page, begins)
            except IndexError:
                unnamed += 1
                continue
            keys.append(key)
            try:
                read.append(self._decoder.decoded(self._payload(page, begins, length, index=False)))
                if self._runs_on():
                    crossed.add(len(read) - 1)
            except (IndexError, RecordError):
                read.append(None)
        within = [low < key <= high for key in keys]
        whole = all(within) and all(one < other for one, other in pairwise(keys))
        if not whole:
            inside = [place for place, good in enumerate(within) if good]
            kept = rising([keys[place] for place in inside])
            placed = {inside[place] for place in kept}
        else:
            placed = set(range(len(keys)))
        readable = [(place, fields) for place, fields in enumerate(read) if fields is not None]
        proper = [place for place, fields in readable if place in placed and fits(keys[place], fields)]
        if readable and 2 * len(proper) < len(readable):
            self.release(number)
            raise PageError(ELSEWHERE)
        fitting = set(proper)
        return Batch(
            number,
            [
                (keys[place], fields)
                for place, fields in readable
                if place in fitting and place not in crossed
            ],
            aside=[
                (keys[place], fields, CROSSED if place in crossed else OUT_OF_ORDER)
                for place, fields in readable
                if place not in fitting or place in crossed
            ],
            lost=[keys[place] for place, fields in enumerate(read) if fields is None and place in placed],
            unnamed=unnamed
            + sum(fields is None and place not in placed for place, fields in enumerate(read)),
            hollow=self._hollows(),
        )

    def _children(self, number: int, page: bytes, low: int, high: int) -> list[tuple[int, int, int]]:
        """Return the children of an inner page with the bounds of their rowids."""
        cells, _ = self._cells(number, page)
        found = list[tuple[int, int]]()
        for at in cells:
            try:
                found.append((_number(page, at), varint(page, at + 4)[0]))
            except IndexError:
                continue
        inside = [place for place, (_, key) in enumerate(found) if low <= key <= high]
        placed = {inside[place] for place in rising([found[place][1] for place in inside])}
        if found and 2 * len(placed) < len(found):
            self.release(number)
            raise PageError(ELSEWHERE)
        children, bottom = list[tuple[int, int, int]](), low
        for place, (child, key) in enumerate(found):
            top = next((found[one][1] for one in range(place, len(found)) if one in placed), high)
            children.append((child, bottom, top))
            bottom = key if place in placed else bottom
        children.append((_number(page, self._begin(number) + 8), bottom, high))
        return children

    def _payload(self, page: bytes, at: int, length: int, *, index: bool) -> bytes:
        """Return the content of a cell, with what stands on other pages.

        Raises:
            RecordError: it is longer than the file, or a page of it is missing.
        """
        usable = self._image.usable
        most = (usable - 12) * 64 // 255 - 23 if index else usable - 35
        if 0 < length <= most:
            if at + length > usable:
                raise RecordError("it ends beyond its page")
            return page[at : at + length]
        if not 0 < length <= self._image.size:
            raise RecordError("it is longer than the file")
        least = (usable - 12) * 32 // 255 - 23
        here = least + (length - least) % (usable - 4)
        here = here if here <= most else least
        if at + here + 4 > usable:
            raise RecordError("it ends beyond its page")
        parts, rest, further = [page[at : at + here]], length - here, _number(page, at + here)
        chain, hollow = list[int](), 0
        while rest > 0:
            beyond = self._image.page(further)
            if not beyond or self.claimed[further] or further in chain[-1:]:
                raise RecordError("a page of it is missing")
            chain.append(further)
            part = beyond[4 : 4 + min(rest, usable - 4)]
            hollow = hollow or beyond.count(0) == len(beyond)
            parts.append(part)
            rest -= len(part)
            further = _number(beyond, 0)
        if len(set(chain)) < len(chain):
            raise RecordError("its pages run in a circle")
        if not further:
            for one in chain:
                self.claimed[one] = 1
            self._chained += chain
        self._hollow += hollow
        self._crossed = further != 0
        return b"".join(parts)


def _number(page: bytes, at: int) -> int:
    return int.from_bytes(page[at : at + 4], "big")
