"""Parse the manifest of a version, a protobuf message, without the lancedb package.

So files can be counted and compared without the library. Unknown fields of newer formats are ignored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from dbctl.model import Struct

MAGIC = b"LANC"
#: After the message: its offset, two version numbers of the format, and the magic.
FOOTER = struct.Struct("<QHH4s")
#: File names have this number minus the version, so that the newest is listed first; older tables have the version.
MAX_VERSION = (1 << 64) - 1
SUFFIX = ".manifest"
#: Larger numbers in file names are inverted versions.
MAX_ASCENDING = 1 << 62

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SHIFT, MASK, CONTINUATION = 7, 0x7F, 0x80
#: Field numbers: of the manifest, and of a fragment (deletions and files).
VERSION, FRAGMENT, INDEXES, DELETIONS, FILE = 3, 2, 6, 3, 2


class ManifestUnreadableError(Exception):
    """A manifest is truncated or invalid; the text is the reason."""


class DataFile(Struct, frozen=True):
    """A file of columns."""

    path: str  #: relative to ``data`` of its table
    bytes: int | None  #: None: written by an older library without sizes
    format: str  #: for example ``2.0``


class Fragment(Struct, frozen=True):
    """Rows with the same data files."""

    id: int
    rows: int  #: with deleted rows
    deleted: int
    files: Sequence[DataFile]
    deletions: str  #: the file with the deleted rows, relative to its table; empty: no deleted rows


class IndexFiles(Struct, frozen=True):
    """The folder of an index."""

    name: str
    uuid: str  #: the name of its folder in ``_indices`` of its table
    version: int  #: the version of the table when it was created


class Manifest(Struct, frozen=True, kw_only=True):
    """One version of one table."""

    version: int
    created_at: datetime
    writer: str  #: the library and its version; may be empty
    format: str  #: of new files, for example ``2.0``; ``0.1``: before 2.0
    fragments: Sequence[Fragment]
    indexes: Sequence[IndexFiles]
    transaction: str  #: a file in ``_transactions``; may be empty

    @property
    def rows(self) -> int:
        """The number of rows without deleted rows."""
        return sum(fragment.rows - fragment.deleted for fragment in self.fragments)

    @property
    def deleted(self) -> int:
        """The number of deleted rows in the files."""
        return sum(fragment.deleted for fragment in self.fragments)

    @property
    def bytes(self) -> int:
        """The size of the data files, as far as the manifest contains it."""
        return sum(file.bytes or 0 for fragment in self.fragments for file in fragment.files)

    def paths(self) -> Iterator[str]:
        """Yield the files with rows and deletions, relative to the table."""
        for fragment in self.fragments:
            yield from (f"data/{file.path}" for file in fragment.files)
            if fragment.deletions:
                yield fragment.deletions


def version_number(name: str) -> int | None:
    """Return the version of a manifest with this file name, or None if the name is not one of a manifest."""
    stem = name.removesuffix(SUFFIX)
    if stem == name or not (stem.isascii() and stem.isdigit()):
        return None
    number = int(stem)
    return MAX_VERSION - number if number > MAX_ASCENDING else number


def parse(data: bytes) -> Manifest:
    """Parse a manifest.

    Raises:
        ManifestUnreadableError: it is not a manifest, or truncated.
    """
    try:
        return _parse(data)
    except (LookupError, struct.error, ValueError, OverflowError, TypeError) as error:
        raise ManifestUnreadableError(f"invalid or truncated manifest ({type(error).__name__})") from error


def _parse(data: bytes) -> Manifest:
    offset, _major, _minor, magic = FOOTER.unpack(data[-FOOTER.size :])
    if magic != MAGIC:
        raise ValueError
    fields = list(_fields(_message(data, offset)))
    numbers = {number: value for number, value in fields if isinstance(value, int)}
    messages = {number: value for number, value in fields if isinstance(value, bytes)}
    if VERSION not in numbers:
        raise ValueError
    time_fields = dict(_fields(messages.get(7, b"")))
    writer = dict(_fields(messages.get(13, b"")))
    writer_fields = dict(_fields(messages.get(15, b"")))
    return Manifest(
        version=numbers[VERSION],
        created_at=datetime.fromtimestamp(_int_field(time_fields, 1), UTC)
        + timedelta(microseconds=_int_field(time_fields, 2) // 1000),
        writer=" ".join(filter(None, (_text_field(writer, 1), _text_field(writer, 2)))),
        format=_text_field(writer_fields, 2) or "0.1",
        fragments=[
            _fragment(value) for number, value in fields if number == FRAGMENT and isinstance(value, bytes)
        ],
        indexes=_indexes(_message(data, numbers[INDEXES])) if INDEXES in numbers else [],
        transaction=messages.get(12, b"").decode(),
    )


def _message(data: bytes, offset: int) -> bytes:
    (length,) = struct.unpack_from("<I", data, offset)
    start = offset + 4
    if start + length > len(data) - FOOTER.size:
        raise ValueError
    return data[start : start + length]


def _fragment(message: bytes) -> Fragment:
    fields = list(_fields(message))
    numbers = {number: value for number, value in fields if isinstance(value, int)}
    deletion_file = next(
        (
            dict(_fields(value))
            for number, value in fields
            if number == DELETIONS and isinstance(value, bytes)
        ),
        {},
    )
    fragment = numbers.get(1, 0)
    deletions = ""
    if deletion_file:
        ending = "bin" if _int_field(deletion_file, 1) else "arrow"
        deletions = (
            f"_deletions/{fragment}-{_int_field(deletion_file, 2)}-{_int_field(deletion_file, 3)}.{ending}"
        )
    return Fragment(
        id=fragment,
        rows=numbers.get(4, 0),
        deleted=_int_field(deletion_file, 4),
        files=[_file(value) for number, value in fields if number == FILE and isinstance(value, bytes)],
        deletions=deletions,
    )


def _file(message: bytes) -> DataFile:
    fields = dict(_fields(message))
    return DataFile(
        path=_text_field(fields, 1),
        bytes=_int_field(fields, 6) or None,
        format=f"{_int_field(fields, 4)}.{_int_field(fields, 5)}",
    )


def _indexes(message: bytes) -> list[IndexFiles]:
    indexes = []
    for _, value in _fields(message):
        if isinstance(value, bytes):
            fields = dict(_fields(value))
            uuid = next(
                (
                    field_value
                    for _, field_value in _fields(bytes(fields.get(1, b"")))
                    if isinstance(field_value, bytes)
                ),
                b"",
            )
            indexes.append(
                IndexFiles(
                    name=_text_field(fields, 3), uuid=str(UUID(bytes=uuid)), version=_int_field(fields, 4)
                )
            )
    return indexes


def _int_field(fields: dict[int, int | bytes], number: int) -> int:
    value = fields.get(number, 0)
    return value if isinstance(value, int) else 0


def _text_field(fields: dict[int, int | bytes], number: int) -> str:
    value = fields.get(number, b"")
    return value.decode() if isinstance(value, bytes) else ""


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a message."""
    offset = 0
    while offset < len(message):
        tag, offset = _varint(message, offset)
        wire_type = tag & 7
        if wire_type == VARINT:
            value, offset = _varint(message, offset)
            yield tag >> 3, value
            continue
        length, offset = (
            _varint(message, offset) if wire_type == BYTES else ({FIXED64: 8, FIXED32: 4}[wire_type], offset)
        )
        if offset + length > len(message):
            raise ValueError
        yield tag >> 3, message[offset : offset + length]
        offset += length


def _varint(message: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[offset]
        offset += 1
        value |= (byte & MASK) << shift
        if byte < CONTINUATION:
            return value, offset
        shift += SHIFT
