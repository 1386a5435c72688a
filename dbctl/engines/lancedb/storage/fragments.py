"""Which files one version of a LanceDB table is made of, as its manifest tells; without the lancedb package.

A manifest is a protobuf message that ends in ``LANC``. Only what names files and counts rows is read of it.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Iterator, Sequence

from dbctl.model import Value

_NAME = re.compile(r"(\d{1,20})\.manifest")
#: Newer tables name their manifests by what is left to the largest number, so that the newest comes first.
_LARGEST = (1 << 64) - 1
_INVERTED = 1 << 63
_FOOTER = struct.Struct("<QHH4s")
_LENGTH = struct.Struct("<I")
#: Fields of the messages, by their numbers in the format of Lance.
_FRAGMENT, _VERSION, _INDEXES, _TRANSACTION, _BRANCH = 2, 3, 6, 12, 20
_FILE, _DELETED, _ROWS = 2, 3, 4
#: Lists of a fragment that became too long to stand in the manifest.
_LISTS = (6, 8, 10)
_PATH, _SIZE, _ELSEWHERE = 1, 6, 7
_TYPE, _READ_VERSION, _ID, _NUMBER = 1, 2, 3, 4
_INDEX, _UUID, _INDEX_ELSEWHERE, _INDEX_FILE = 1, 1, 9, 10


class ManifestError(ValueError):
    """It is no manifest that can be read here; the text says why."""


class Piece(Value, frozen=True):
    """One file."""

    name: str  #: relative to the folder of the table
    size: int = 0  #: bytes; 0 where the manifest does not tell


class Version(Value, frozen=True, kw_only=True):
    """One version of a table."""

    number: int
    rows: int
    pieces: Sequence[Piece]  #: files that it cannot do without
    folders: Sequence[str]  #: folders of which everything belongs to it: its indexes
    transaction: str  #: what made it; nobody needs it to read. Empty where it is not named
    elsewhere: bool  #: whether some of its files lie in another table


def number_of(name: str) -> int | None:
    """Return the version that a manifest of that name is of; None where it is none."""
    if not (found := _NAME.fullmatch(name)):
        return None
    told = int(found[1])
    return _LARGEST - told if told >= _INVERTED else told


def read(content: bytes) -> Version:
    """Return what a manifest tells.

    Raises:
        ManifestError: it is none, or of a kind that is not known here.
    """
    try:
        at, _, _, magic = _FOOTER.unpack(content[-_FOOTER.size :])
        if magic != b"LANC":
            raise ManifestError("it does not end as a manifest does")
        return _version(content, at)
    except (struct.error, IndexError, TypeError, UnicodeDecodeError) as error:
        raise ManifestError("it is cut off, or of another kind") from error


def _version(content: bytes, at: int) -> Version:
    number = rows = 0
    pieces, folders, transaction, elsewhere = list[Piece](), list[str](), "", False
    for field, value in _fields(_message(content, at)):
        if field == _VERSION:
            number = _int(value)
        elif field == _TRANSACTION:
            transaction = _text(value)
        elif field == _FRAGMENT:
            counted, found, away = _fragment(_bytes(value))
            rows, elsewhere = rows + counted, elsewhere or away
            pieces += found
        elif field == _INDEXES:
            for folder, found, away in _indexes(_message(content, _int(value))):
                folders.append(folder)
                pieces += found
                elsewhere = elsewhere or away
        elif field == _BRANCH:
            raise ManifestError("it is of a branch")
    if not number:
        raise ManifestError("it tells no version")
    return Version(
        number=number,
        rows=rows,
        pieces=pieces,
        folders=folders,
        transaction=f"_transactions/{transaction}" if transaction else "",
        elsewhere=elsewhere,
    )


def _fragment(message: bytes) -> tuple[int, list[Piece], bool]:
    rows, pieces, elsewhere, number = 0, list[Piece](), False, 0
    deletion = b""
    for field, value in _fields(message):
        if field == 1:
            number = _int(value)
        elif field == _FILE:
            told = dict(_fields(_bytes(value)))
            pieces.append(Piece(_inside(f"data/{_text(told[_PATH])}"), _int(told.get(_SIZE, 0))))
            elsewhere = elsewhere or _ELSEWHERE in told
        elif field == _DELETED:
            deletion = _bytes(value)
        elif field == _ROWS:
            rows += _int(value)
        elif field in _LISTS:
            pieces.append(Piece(_inside(_text(dict(_fields(_bytes(value)))[_PATH]))))
    if deletion:
        told = dict(_fields(deletion))
        kind = "bin" if _int(told.get(_TYPE, 0)) else "arrow"
        named = f"{number}-{_int(told.get(_READ_VERSION, 0))}-{_int(told.get(_ID, 0))}.{kind}"
        pieces.append(Piece(f"_deletions/{named}"))
        rows -= _int(told.get(_NUMBER, 0))
        elsewhere = elsewhere or _ELSEWHERE in told
    return rows, pieces, elsewhere


def _indexes(message: bytes) -> Iterator[tuple[str, list[Piece], bool]]:
    for field, value in _fields(message):
        if field != _INDEX:
            continue
        folder, pieces, elsewhere = "", list[Piece](), False
        for inner, told in _fields(_bytes(value)):
            if inner == _UUID:
                folder = f"_indices/{uuid.UUID(bytes=_bytes(dict(_fields(_bytes(told)))[1]))}"
            elif inner == _INDEX_ELSEWHERE:
                elsewhere = True
            elif inner == _INDEX_FILE:
                one = dict(_fields(_bytes(told)))
                pieces.append(Piece(_text(one[1]), _int(one.get(2, 0))))
        yield folder, [Piece(_inside(f"{folder}/{one.name}"), one.size) for one in pieces], elsewhere


def _inside(name: str) -> str:
    """Return a name that leads nowhere else; a manifest of somebody else may say anything."""
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise ManifestError(f"{name!r} leads out of its table")
    return name


def _message(content: bytes, at: int) -> bytes:
    (length,) = _LENGTH.unpack(content[at : at + _LENGTH.size])
    found = content[at + _LENGTH.size : at + _LENGTH.size + length]
    if len(found) < length:
        raise ManifestError("it is cut off")
    return found


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message by number: numbers, and bytes of whatever else."""
    for field, value, _ in _spans(message):
        yield field, value


def _spans(message: bytes) -> Iterator[tuple[int, int | bytes, int]]:
    """Yield the fields of a message, and where each ends."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value, at
            continue
        if kind == 2:  # noqa: PLR2004 - wire types of protobuf
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ManifestError("it is no message")
        if at + length > end:
            raise ManifestError("it is cut off")
        yield key >> 3, message[at : at + length], at + length
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:  # noqa: PLR2004 - bits
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
    raise ManifestError("a number in it is longer than any")


def _int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ManifestError("it is no number")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ManifestError("it is a number")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


def renumbered(content: bytes, number: int) -> bytes:
    """Return a manifest of the same files as another version.

    Raises:
        ManifestError: it is none, or something stands behind the message, which would have to move.
    """
    read(content)
    at, major, minor, magic = _FOOTER.unpack(content[-_FOOTER.size :])
    message = _message(content, at)
    if at + _LENGTH.size + len(message) + _FOOTER.size != len(content):
        raise ManifestError("something stands behind it")
    made, begin = bytearray(), 0
    for field, _, end in _spans(message):
        made += _number(_VERSION << 3) + _number(number) if field == _VERSION else message[begin:end]
        begin = end
    found = content[:at] + _LENGTH.pack(len(made)) + bytes(made) + _FOOTER.pack(at, major, minor, magic)
    if read(found).number != number:
        raise ManifestError("its number cannot be changed")
    return found


def name_like(name: str, number: int) -> str:
    """Return how the manifest of a version is called in a table that calls them like that one."""
    inverted = int(name.partition(".")[0]) >= _INVERTED
    return f"{_LARGEST - number:020d}.manifest" if inverted else f"{number}.manifest"


def _number(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits of a byte count
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
