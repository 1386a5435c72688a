"""Assign the trees of a damaged file without catalog to tables, by rows that a reference file also contains.

The root page of a table in the reference file is tried first, but its rows are still compared: a restore or VACUUM moves
tables, and another table with the same columns may have that root page.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from dbctl import signals
from dbctl.engines.sqlite.files import HEADER_SIZES, INDEX_INTERIOR, INTERIOR, KINDS, LEAF, read_number
from dbctl.extensions.salvage.sqlite.btree import Batch, Trees
from dbctl.extensions.salvage.sqlite.image import Image
from dbctl.extensions.salvage.sqlite.schema import Entry

#: Number of pages whose rows are compared, and the share of rows that must be equal.
PAGES, SHARE = 5, 0.5

Row = tuple[int, tuple[object, ...]]


def match_roots(
    image: Image, reference: Path, entries: Sequence[Entry], known_roots: Collection[int]
) -> list[Entry]:
    """Return ``entries``, which the damaged file lacks, with their root pages there; 0 for unknown ones.

    ``known_roots`` are root pages in the remaining catalog of the damaged file.

    Raises:
        FileFailedError: the reference file cannot be read.
    """
    roots, roots_by_name = [page for page in _find_roots(image) if page not in known_roots], dict[str, int]()
    with closing(Image(reference)) as reference_image:
        for entry in entries:
            has_rows = entry.kind == "table" and entry.root
            expected = set(_read_sample(reference_image, entry.root)) if has_rows else set()
            if expected and (root := _find_root(image, expected, entry.root, roots)):
                roots_by_name[entry.name] = root
                roots.remove(root)
    return [entry._replace(root=roots_by_name.get(entry.name, 0)) for entry in entries]


def _find_root(image: Image, expected: set[Row], likely: int, roots: Sequence[int]) -> int:
    """Return the root page with the expected rows, ``likely`` if possible; 0 if no or several pages match."""
    if likely in roots and _has_same_rows(image, likely, expected):
        return likely
    matching_roots = [root for root in roots if _has_same_rows(image, root, expected)]
    return matching_roots[0] if len(matching_roots) == 1 else 0


def _has_same_rows(image: Image, root: int, expected: set[Row]) -> bool:
    signals.raise_if_interrupted()
    rows = set(_read_sample(image, root))
    return bool(rows) and len(rows & expected) >= SHARE * min(len(rows), len(expected))


def _read_sample(image: Image, root: int) -> Iterator[Row]:
    """Yield the first rows of a tree of any kind."""
    page, trees = image.read_page(root), Trees(image)
    if not page:
        return
    batches: Iterator[Batch]
    if page[0] in (LEAF, INTERIOR):
        batches = trees.read_table(root, lambda _key, _fields: True)
    else:
        batches = trees.read_index(root, lambda _fields: True)
    for batch in islice(batches, PAGES):
        yield from ((key, tuple(fields)) for key, fields in batch.rows)


def _find_roots(image: Image) -> list[int]:
    """Return the tree pages without a parent."""
    free, _ = image.read_freelist()
    is_child, candidates = bytearray(image.present_pages + 1), list[int]()
    for page_number in range(2, image.present_pages + 1):
        signals.raise_if_interrupted()
        page = image.read_page(page_number)
        if not page or page[0] not in KINDS or page_number in free or image.is_reserved(page_number):
            continue
        candidates.append(page_number)
        if page[0] in (INTERIOR, INDEX_INTERIOR):
            for child in _read_children(page, image.usable):
                if child <= image.present_pages:
                    is_child[child] = 1
    return [page_number for page_number in candidates if not is_child[page_number]]


def _read_children(page: bytes, usable: int) -> Iterator[int]:
    cells_start, cell_count = HEADER_SIZES[page[0]], int.from_bytes(page[3:5], "big")
    yield read_number(page, 8)
    for offset in range(cells_start, min(cells_start + 2 * cell_count, usable - 1), 2):
        cell = int.from_bytes(page[offset : offset + 2], "big")
        if cell <= usable - 4:
            yield read_number(page, cell)
