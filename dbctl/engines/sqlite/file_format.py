"""The format of the pages of a SQLite file, by https://sqlite.org/fileformat2.html, for those that read them without SQLite."""

from __future__ import annotations

HEADER_BYTES = 100  # bytes, before the tree on page 1
LEAF, INTERIOR, INDEX_LEAF, INDEX_INTERIOR = 13, 5, 10, 2
KINDS = frozenset({LEAF, INTERIOR, INDEX_LEAF, INDEX_INTERIOR})
#: Size of the header of a tree page in bytes.
HEADER_SIZES = {LEAF: 8, INDEX_LEAF: 8, INTERIOR: 12, INDEX_INTERIOR: 12}
#: The byte that SQLite locks; its page has no content.
LOCK_BYTE = 1 << 30
#: Maximum size of a varint.
MAX_VARINT_BYTES = 9


def read_page_size(head: bytes) -> int:
    """Return the page size in the header of a file, in bytes."""
    size = int.from_bytes(head[16:18], "big")
    return 65536 if size == 1 else size


def find_header(page_number: int) -> int:
    """Return the offset of the header of a tree page."""
    return HEADER_BYTES if page_number == 1 else 0


def read_number(page: bytes, offset: int) -> int:
    """Return a number of four bytes, for example that of a page."""
    return int.from_bytes(page[offset : offset + 4], "big")


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return the signed number at ``offset``, and the offset after it.

    Raises:
        IndexError: the number is incomplete.
    """
    byte = data[offset]
    if byte < 0x80:  # noqa: PLR2004 - the continuation bit
        return byte, offset + 1
    value = byte & 0x7F
    for index in range(1, MAX_VARINT_BYTES - 1):
        byte = data[offset + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, offset + index + 1
    value = value << 8 | data[offset + MAX_VARINT_BYTES - 1]
    return value - (1 << 64) if value >> 63 else value, offset + MAX_VARINT_BYTES


def count_local_bytes(length: int, usable: int, *, index: bool) -> int:
    """Return how many bytes of a value are on the page of the tree; the others are on overflow pages.

    Args:
        length: of the value, in bytes.
        usable: the usable bytes of a page.
        index: whether the page belongs to an index, or to a table without rowids.
    """
    most = (usable - 12) * 64 // 255 - 23 if index else usable - 35
    if length <= most:
        return length
    least = (usable - 12) * 32 // 255 - 23
    local = least + (length - least) % (usable - 4)
    return local if local <= most else least
