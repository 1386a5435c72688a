"""What a version of a table is made of, read from its own file: Lance writes one protobuf message for each.

Read without the library, so that files can be counted and compared where it is not installed. Only what is told here is
read of it; whatever a newer Lance adds is passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from dbctl.model import Value

MAGIC = b"LANC"
#: Behind the message: where it begins, two numbers of the format, and the magic.
TAIL = struct.Struct("<QHH4s")
#: Versions are counted down in names, so that the newest comes first in a list; older tables count up.
LAST = (1 << 64) - 1
ENDING = ".manifest"
#: More versions than anybody made; what is larger is counted down.
COUNTED_UP = 1 << 62

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SHIFT, MASK, MORE = 7, 0x7F, 0x80
#: Numbers of fields: of the message itself, then where its fragments, its indexes, and what is gone of a fragment stand.
VERSION, FRAGMENT, INDEXES, GONE, FILE = 3, 2, 6, 3, 2


class ManifestUnreadableError(Exception):
    """It is cut off, or no manifest; the text says so."""


class DataFile(Value, frozen=True):
    """A file of columns."""

    path: str  #: below ``data`` of its table
    bytes: int | None  #: None: an older Lance did not write it down
    format: str  #: ``2.0`` and the like


class Fragment(Value, frozen=True):
    """Rows that stand in the same files."""

    id: int
    rows: int  #: with those that are deleted
    deleted: int
    files: Sequence[DataFile]
    deletions: str  #: the file that tells which are, below its table; empty: none are


class IndexFiles(Value, frozen=True):
    """A folder of an index."""

    name: str
    uuid: str  #: its folder below ``_indices`` of its table
    version: int  #: of the table, when it was made


class Manifest(Value, frozen=True, kw_only=True):
    """One version of one table."""

    version: int
    at: datetime
    writer: str  #: the library and its version; empty: not told
    format: str  #: of the files that are written from now on: ``2.0`` and the like; ``0.1`` of old
    fragments: Sequence[Fragment]
    indexes: Sequence[IndexFiles]
    transaction: str  #: a file below ``_transactions``; empty: none

    @property
    def rows(self) -> int:
        """Rows that there are."""
        return sum(one.rows - one.deleted for one in self.fragments)

    @property
    def deleted(self) -> int:
        """Rows that are deleted and still take room."""
        return sum(one.deleted for one in self.fragments)

    @property
    def bytes(self) -> int:
        """How large the files of its rows are, as far as that is written down."""
        return sum(file.bytes or 0 for one in self.fragments for file in one.files)

    def paths(self) -> Iterator[str]:
        """Yield the files of its rows, below the table."""
        for one in self.fragments:
            yield from (f"data/{file.path}" for file in one.files)
            if one.deletions:
                yield one.deletions


def version_of(name: str) -> int | None:
    """Return the version that the file of that name is of; None where it is none."""
    stem = name.removesuffix(ENDING)
    if stem == name or not (stem.isascii() and stem.isdigit()):
        return None
    number = int(stem)
    return LAST - number if number > COUNTED_UP else number


def parse(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestUnreadableError: it is none, or not whole.
    """
    try:
        return _parsed(data)
    except (LookupError, struct.error, ValueError, OverflowError, TypeError) as error:
        raise ManifestUnreadableError(f"it is no manifest, or not whole ({type(error).__name__})") from error


def _parsed(data: bytes) -> Manifest:
    at, _major, _minor, magic = TAIL.unpack(data[-TAIL.size :])
    if magic != MAGIC:
        raise ValueError
    told = list(_fields(_message(data, at)))
    numbers = {number: value for number, value in told if isinstance(value, int)}
    texts = {number: value for number, value in told if isinstance(value, bytes)}
    if VERSION not in numbers:
        raise ValueError
    stamp = dict(_fields(texts.get(7, b"")))
    writer = dict(_fields(texts.get(13, b"")))
    kept = dict(_fields(texts.get(15, b"")))
    return Manifest(
        version=numbers[VERSION],
        at=datetime.fromtimestamp(_number(stamp, 1), UTC) + timedelta(microseconds=_number(stamp, 2) // 1000),
        writer=" ".join(filter(None, (_text(writer, 1), _text(writer, 2)))),
        format=_text(kept, 2) or "0.1",
        fragments=[
            _fragment(value) for number, value in told if number == FRAGMENT and isinstance(value, bytes)
        ],
        indexes=_indexes(_message(data, numbers[INDEXES])) if INDEXES in numbers else [],
        transaction=texts.get(12, b"").decode(),
    )


def _message(data: bytes, at: int) -> bytes:
    (length,) = struct.unpack_from("<I", data, at)
    begin = at + 4
    if begin + length > len(data) - TAIL.size:
        raise ValueError
    return data[begin : begin + length]


def _fragment(message: bytes) -> Fragment:
    told = list(_fields(message))
    numbers = {number: value for number, value in told if isinstance(value, int)}
    gone = next(
        (dict(_fields(value)) for number, value in told if number == GONE and isinstance(value, bytes)), {}
    )
    fragment = numbers.get(1, 0)
    deletions = ""
    if gone:
        ending = "bin" if _number(gone, 1) else "arrow"
        deletions = f"_deletions/{fragment}-{_number(gone, 2)}-{_number(gone, 3)}.{ending}"
    return Fragment(
        id=fragment,
        rows=numbers.get(4, 0),
        deleted=_number(gone, 4),
        files=[_file(value) for number, value in told if number == FILE and isinstance(value, bytes)],
        deletions=deletions,
    )


def _file(message: bytes) -> DataFile:
    told = dict(_fields(message))
    return DataFile(
        path=_text(told, 1),
        bytes=_number(told, 6) or None,
        format=f"{_number(told, 4)}.{_number(told, 5)}",
    )


def _indexes(message: bytes) -> list[IndexFiles]:
    found = []
    for _, value in _fields(message):
        if isinstance(value, bytes):
            told = dict(_fields(value))
            uuid = next((one for _, one in _fields(bytes(told.get(1, b""))) if isinstance(one, bytes)), b"")
            found.append(
                IndexFiles(name=_text(told, 3), uuid=str(UUID(bytes=uuid)), version=_number(told, 4))
            )
    return found


def _number(told: dict[int, int | bytes], number: int) -> int:
    value = told.get(number, 0)
    return value if isinstance(value, int) else 0


def _text(told: dict[int, int | bytes], number: int) -> str:
    value = told.get(number, b"")
    return value.decode() if isinstance(value, bytes) else ""


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and the value of each field of a message."""
    at = 0
    while at < len(message):
        head, at = _varint(message, at)
        kind = head & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield head >> 3, value
            continue
        length, at = _varint(message, at) if kind == BYTES else ({FIXED64: 8, FIXED32: 4}[kind], at)
        if at + length > len(message):
            raise ValueError
        yield head >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & MASK) << shift
        if byte < MORE:
            return value, at
        shift += SHIFT
