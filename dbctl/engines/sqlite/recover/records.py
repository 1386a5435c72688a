"""Records of a SQLite file: bytes become values."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

#: What ``decoded`` remembers of heads that it has seen; tables have few different ones.
MOST_HEADS = 4096
#: The longest that a varint is, in bytes.
LONGEST = 9
#: Bytes of each serial type below 10.
SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
#: Serial types that stand in no file, and the first of those of texts and blobs.
UNUSED, FIRST_LONG = (10, 11), 12

_Reading = Callable[[bytes], object]
_Head = tuple[list[tuple[_Reading, int]], int]


class RawText(bytes):
    """Text whose bytes are none of its encoding; it is kept byte for byte."""

    __slots__ = ()


class RecordError(Exception):
    """Bytes that are no record; the text says why."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins ``at``, signed, and where the next thing begins.

    Raises:
        IndexError: the bytes end before.
    """
    byte = data[at]
    if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follow
        return byte, at + 1
    value = byte & 0x7F
    for more in range(1, LONGEST - 1):
        byte = data[at + more]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - as above
            return value, at + more + 1
    value = value << 8 | data[at + LONGEST - 1]
    return value - (1 << 64) if value >> 63 else value, at + LONGEST


class Decoder:
    """Reads the records of one file."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._heads = dict[bytes, _Head]()

    def decoded(self, payload: bytes) -> list[object]:
        """Return the fields of a record: None, int, float, bytes, str, or ``RawText``.

        Raises:
            RecordError: it is none, or its parts do not add up to its length.
        """
        try:
            length, _ = varint(payload, 0)
        except IndexError:
            raise RecordError("it is empty") from None
        if not 0 < length <= len(payload):
            raise RecordError("its head is longer than it is")
        head = payload[:length]
        known = self._heads.get(head)
        if known is None:
            known = self._head(head)
            if len(self._heads) < MOST_HEADS:
                self._heads[head] = known
        fields, total = known
        if length + total != len(payload):
            raise RecordError("its fields are not as long as its head says")
        found, at = list[object](), length
        for read, size in fields:
            found.append(read(payload[at : at + size]))
            at += size
        return found

    def _head(self, head: bytes) -> _Head:
        """Return how each field is read and its bytes, and the bytes of all."""
        fields, total = list[tuple[_Reading, int]](), 0
        try:
            _, at = varint(head, 0)
            while at < len(head):
                kind, at = varint(head, at)
                if kind < 0 or kind in UNUSED:
                    raise RecordError("a field has no type")
                size = SIZES[kind] if kind < FIRST_LONG else (kind - FIRST_LONG) // 2
                fields.append((self._reading(kind), size))
                total += size
        except IndexError:
            raise RecordError("its head is cut") from None
        return fields, total

    def _reading(self, kind: int) -> _Reading:
        if kind < FIRST_LONG:
            return READINGS.get(kind, _integer)
        return self._text if kind & 1 else bytes

    def _text(self, raw: bytes) -> str | RawText:
        try:
            return raw.decode(self._encoding)
        except UnicodeDecodeError:
            return RawText(raw)


def _integer(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)


def _real(raw: bytes) -> float | None:
    (found,) = struct.unpack(">d", raw)
    return None if found != found else found  # noqa: PLR0124 - to SQLite NaN is NULL


#: How serial types are read that are no integers.
READINGS: dict[int, _Reading] = {0: lambda _: None, 7: _real, 8: lambda _: 0, 9: lambda _: 1}


def rising(keys: Sequence[Any]) -> set[int]:
    """Return the places of the longest part of ``keys`` that rises: what is not in it stands where it does not belong."""
    from bisect import bisect_left

    ends, places, before = list[Any](), list[int](), dict[int, int]()
    for place, key in enumerate(keys):
        at = bisect_left(ends, key)
        if at == len(ends):
            ends.append(key)
            places.append(place)
        else:
            ends[at], places[at] = key, place
        before[place] = places[at - 1] if at else -1
    found, place = set[int](), places[-1] if places else -1
    while place >= 0:
        found.add(place)
        place = before[place]
    return found
