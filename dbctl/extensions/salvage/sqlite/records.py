"""Decode the records of a SQLite file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from dbctl.engines.sqlite.files import read_varint
from dbctl.engines.sqlite.values import RawText

#: Maximum number of cached record headers; tables have few different ones.
MAX_HEADERS = 4096
#: Bytes of each serial type below 10.
SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
#: Serial types that no file contains, and the first serial type of texts and BLOBs.
UNUSED_TYPES, FIRST_TEXT_TYPE = (10, 11), 12

_FieldReader = Callable[[bytes], object]
_Header = tuple[list[tuple[_FieldReader, int]], int]


class RecordError(Exception):
    """Bytes that are not a valid record; the text is the reason."""


class Decoder:
    """Decoder of the records of one file."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._headers = dict[bytes, _Header]()

    def decode(self, payload: bytes) -> list[object]:
        """Return the fields of a record: None, int, float, bytes, str, or ``RawText``.

        Raises:
            RecordError: the record is invalid, or its fields do not have its length.
        """
        try:
            length, _ = read_varint(payload, 0)
        except IndexError:
            raise RecordError("it is empty") from None
        if not 0 < length <= len(payload):
            raise RecordError("its header is longer than the record")
        head = payload[:length]
        header = self._headers.get(head)
        if header is None:
            header = self._read_header(head)
            if len(self._headers) < MAX_HEADERS:
                self._headers[head] = header
        fields, total = header
        if length + total != len(payload):
            raise RecordError("its fields do not have the length in its header")
        values, offset = list[object](), length
        for read, size in fields:
            values.append(read(payload[offset : offset + size]))
            offset += size
        return values

    def _read_header(self, head: bytes) -> _Header:
        """Return the decoder and size of each field, and the total size, in bytes."""
        fields, total = list[tuple[_FieldReader, int]](), 0
        try:
            _, offset = read_varint(head, 0)
            while offset < len(head):
                serial_type, offset = read_varint(head, offset)
                if serial_type < 0 or serial_type in UNUSED_TYPES:
                    raise RecordError("a field has an invalid type")
                size = (
                    SIZES[serial_type]
                    if serial_type < FIRST_TEXT_TYPE
                    else (serial_type - FIRST_TEXT_TYPE) // 2
                )
                fields.append((self._find_reader(serial_type), size))
                total += size
        except IndexError:
            raise RecordError("its header is incomplete") from None
        return fields, total

    def _find_reader(self, serial_type: int) -> _FieldReader:
        if serial_type < FIRST_TEXT_TYPE:
            return READERS.get(serial_type, _read_integer)
        return self._decode_text if serial_type & 1 else bytes

    def _decode_text(self, raw: bytes) -> str | RawText:
        try:
            return raw.decode(self._encoding)
        except UnicodeDecodeError:
            return RawText(raw)


def _read_integer(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)


def _read_real(raw: bytes) -> float | None:
    (value,) = struct.unpack(">d", raw)
    return None if value != value else value  # noqa: PLR0124 - SQLite reads NaN as NULL


#: Decoders of the serial types that are not integers.
READERS: dict[int, _FieldReader] = {0: lambda _: None, 7: _read_real, 8: lambda _: 0, 9: lambda _: 1}


def longest_increasing(keys: Mapping[int, Any]) -> set[int]:
    """Return the positions of the longest increasing subsequence of ``keys``; the other keys are out of order.

    ``keys`` are by position, in the order of their positions.
    """
    from bisect import bisect_left

    if all(key < next_key for key, next_key in pairwise(keys.values())):
        return set(keys)
    ends, end_positions, previous = list[Any](), list[int](), dict[int, int]()
    for position, key in keys.items():
        rank = bisect_left(ends, key)
        ends[rank : rank + 1], end_positions[rank : rank + 1] = [key], [position]
        previous[position] = end_positions[rank - 1] if rank else -1
    result, position = set[int](), end_positions[-1]
    while position >= 0:
        result.add(position)
        position = previous[position]
    return result
