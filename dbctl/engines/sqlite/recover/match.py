"""Which tree of a damaged file is which table, where its list of tables is gone: by the rows that a sound file has, too.

Where a table begins in the sound file is where to look first, and no proof: a restore or VACUUM moves it, and another
table of the same shape may begin there now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from dbctl import signals
from dbctl.engines.sqlite.recover.btree import Batch, Trees
from dbctl.engines.sqlite.recover.image import (
    HEADS,
    INDEX_INTERIOR,
    INTERIOR,
    KINDS,
    LEAF,
    Image,
)
from dbctl.engines.sqlite.recover.schema import Entry

#: How many pages of rows are compared, and in which share of these rows both files have to agree.
PAGES, SHARE = 5, 0.5

Row = tuple[int, tuple[object, ...]]


def matched(image: Image, like: Path, entries: Sequence[Entry], taken: Collection[int]) -> list[Entry]:
    """Return ``entries`` of the sound file with the roots that they have in the damaged one; 0 where nothing tells.

    Args:
        image: the damaged file.
        like: the sound one.
        entries: of the sound one, those that the damaged one does not tell of.
        taken: roots that the damaged one still tells.

    Raises:
        FileFailedError: the sound file cannot be read.
    """
    roots, found = [one for one in _roots(image) if one not in taken], dict[str, int]()
    with closing(Image(like)) as sound:
        for one in entries:
            wanted = set(_sample(sound, one.root)) if one.kind == "table" and one.root else set()
            if wanted and (root := _root(image, wanted, one.root, roots)):
                found[one.name] = root
                roots.remove(root)
    return [one._replace(root=found.get(one.name, 0)) for one in entries]


def _root(image: Image, wanted: set[Row], first: int, roots: Sequence[int]) -> int:
    """Return the one root whose rows are those, where it was if it still is; 0 where there is none, or more than one."""
    if first in roots and _agree(image, first, wanted):
        return first
    agreeing = [root for root in roots if _agree(image, root, wanted)]
    return agreeing[0] if len(agreeing) == 1 else 0


def _agree(image: Image, root: int, wanted: set[Row]) -> bool:
    signals.check()
    have = set(_sample(image, root))
    return bool(have) and len(have & wanted) >= SHARE * min(len(have), len(wanted))


def _sample(image: Image, root: int) -> Iterator[Row]:
    """Yield the first rows of a tree, whatever kind it is."""
    page, trees = image.page(root), Trees(image)
    if not page:
        return
    batches: Iterator[Batch]
    if page[0] in (LEAF, INTERIOR):
        batches = trees.table(root, lambda _key, _fields: True)
    else:
        batches = trees.index(root, lambda _fields: True)
    for batch in islice(batches, PAGES):
        yield from ((key, tuple(fields)) for key, fields in batch.rows)


def _roots(image: Image) -> list[int]:
    """Return the pages of trees to which no other page leads."""
    free, _ = image.freelist()
    led_to, found = bytearray(image.there + 1), list[int]()
    for number in range(2, image.there + 1):
        signals.check()
        page = image.page(number)
        if not page or page[0] not in KINDS or number in free or image.holds_no_tree(number):
            continue
        found.append(number)
        if page[0] in (INTERIOR, INDEX_INTERIOR):
            for child in _children(page, image.usable):
                if child <= image.there:
                    led_to[child] = 1
    return [number for number in found if not led_to[number]]


def _children(page: bytes, usable: int) -> Iterator[int]:
    first, many = HEADS[page[0]], int.from_bytes(page[3:5], "big")
    yield int.from_bytes(page[8:12], "big")
    for at in range(first, min(first + 2 * many, usable - 1), 2):
        cell = int.from_bytes(page[at : at + 2], "big")
        if cell <= usable - 4:
            yield int.from_bytes(page[cell : cell + 4], "big")
