"""Read from a manifest which files a version of a table has, without the lancedb package.

A manifest is a protobuf message followed by a footer that ends with ``LANC``. Only file names and row counts are read.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Iterator, Sequence

from dbctl.model import Struct

_NAME = re.compile(r"(\d{1,20})\.manifest")
#: Newer tables name a manifest by this number minus the version, so that the newest is listed first.
_MAX_VERSION = (1 << 64) - 1
_MIN_INVERTED = 1 << 63
_FOOTER = struct.Struct("<QHH4s")
_LENGTH = struct.Struct("<I")
#: Field numbers of the messages in the format of Lance.
_FRAGMENT, _VERSION, _INDEXES, _TRANSACTION, _BRANCH = 2, 3, 6, 12, 20
_FILE, _DELETED, _ROWS = 2, 3, 4
#: Fields of a fragment that refer to separate files.
_LISTS = (6, 8, 10)
_PATH, _SIZE, _EXTERNAL = 1, 6, 7
_TYPE, _READ_VERSION, _ID, _NUMBER = 1, 2, 3, 4
_INDEX, _UUID, _INDEX_EXTERNAL, _INDEX_FILE = 1, 1, 9, 10


class ManifestError(ValueError):
    """A manifest cannot be read; the text is the reason."""


class DataFile(Struct, frozen=True):
    """A file of a version."""

    name: str  #: relative to the folder of the table
    size: int = 0  #: bytes; 0 if the manifest does not contain it


class Version(Struct, frozen=True, kw_only=True):
    """One version of a table."""

    number: int
    rows: int
    files: Sequence[DataFile]  #: required files
    folders: Sequence[str]  #: folders of its indexes, with all their files
    transaction: str  #: the file of the transaction that created it, not required for reading; may be empty
    is_external: bool  #: whether some of its files belong to another table


def version_number(name: str) -> int | None:
    """Return the version of a manifest with this file name, or None if the name is not one of a manifest."""
    if not (match := _NAME.fullmatch(name)):
        return None
    number = int(match[1])
    return _MAX_VERSION - number if number >= _MIN_INVERTED else number


def parse_version(content: bytes) -> Version:
    """Parse a manifest.

    Raises:
        ManifestError: it is not a manifest, or has an unknown format.
    """
    try:
        offset, _, _, magic = _FOOTER.unpack(content[-_FOOTER.size :])
        if magic != b"LANC":
            raise ManifestError("not a manifest: wrong footer")
        return _version(content, offset)
    except (struct.error, IndexError, TypeError, UnicodeDecodeError) as error:
        raise ManifestError("truncated manifest, or unknown format") from error


def _version(content: bytes, offset: int) -> Version:
    number = rows = 0
    files, folders, transaction, is_external = list[DataFile](), list[str](), "", False
    for field, value in _fields(_message(content, offset)):
        if field == _VERSION:
            number = _require_int(value)
        elif field == _TRANSACTION:
            transaction = _decode_text(value)
        elif field == _FRAGMENT:
            fragment_rows, inner_files, is_inner_external = _fragment(_require_bytes(value))
            rows, is_external = rows + fragment_rows, is_external or is_inner_external
            files += inner_files
        elif field == _INDEXES:
            for folder, inner_files, is_inner_external in _indexes(_message(content, _require_int(value))):
                folders.append(folder)
                files += inner_files
                is_external = is_external or is_inner_external
        elif field == _BRANCH:
            raise ManifestError("manifest of a branch")
    if not number:
        raise ManifestError("manifest without a version")
    return Version(
        number=number,
        rows=rows,
        files=files,
        folders=folders,
        transaction=f"_transactions/{transaction}" if transaction else "",
        is_external=is_external,
    )


def _fragment(message: bytes) -> tuple[int, list[DataFile], bool]:
    rows, files, is_external, number = 0, list[DataFile](), False, 0
    deletion = b""
    for field, value in _fields(message):
        if field == 1:
            number = _require_int(value)
        elif field == _FILE:
            fields = dict(_fields(_require_bytes(value)))
            files.append(
                DataFile(
                    _require_inside(f"data/{_decode_text(fields[_PATH])}"), _require_int(fields.get(_SIZE, 0))
                )
            )
            is_external = is_external or _EXTERNAL in fields
        elif field == _DELETED:
            deletion = _require_bytes(value)
        elif field == _ROWS:
            rows += _require_int(value)
        elif field in _LISTS:
            files.append(DataFile(_require_inside(_decode_text(dict(_fields(_require_bytes(value)))[_PATH]))))
    if deletion:
        fields = dict(_fields(deletion))
        kind = "bin" if _require_int(fields.get(_TYPE, 0)) else "arrow"
        file_name = (
            f"{number}-{_require_int(fields.get(_READ_VERSION, 0))}-{_require_int(fields.get(_ID, 0))}.{kind}"
        )
        files.append(DataFile(f"_deletions/{file_name}"))
        rows -= _require_int(fields.get(_NUMBER, 0))
        is_external = is_external or _EXTERNAL in fields
    return rows, files, is_external


def _indexes(message: bytes) -> Iterator[tuple[str, list[DataFile], bool]]:
    for field, value in _fields(message):
        if field != _INDEX:
            continue
        folder, files, is_external = "", list[DataFile](), False
        for field_number, field_value in _fields(_require_bytes(value)):
            if field_number == _UUID:
                folder = f"_indices/{uuid.UUID(bytes=_require_bytes(dict(_fields(_require_bytes(field_value)))[1]))}"
            elif field_number == _INDEX_EXTERNAL:
                is_external = True
            elif field_number == _INDEX_FILE:
                fields = dict(_fields(_require_bytes(field_value)))
                files.append(DataFile(_decode_text(fields[1]), _require_int(fields.get(2, 0))))
        yield (
            folder,
            [DataFile(_require_inside(f"{folder}/{fields.name}"), fields.size) for fields in files],
            is_external,
        )


def _require_inside(name: str) -> str:
    """Return a file name inside the table folder; the manifest may come from an untrusted source."""
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise ManifestError(f"{name!r} is outside of its table")
    return name


def _message(content: bytes, offset: int) -> bytes:
    (length,) = _LENGTH.unpack(content[offset : offset + _LENGTH.size])
    message = content[offset + _LENGTH.size : offset + _LENGTH.size + length]
    if len(message) < length:
        raise ManifestError("truncated manifest")
    return message


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field: integers, or bytes for all other types."""
    for field, value, _ in _field_spans(message):
        yield field, value


def _field_spans(message: bytes) -> Iterator[tuple[int, int | bytes, int]]:
    """Yield number, value and end offset of each field of a message."""
    offset, end = 0, len(message)
    while offset < end:
        key, offset = _varint(message, offset)
        wire_type = key & 7
        if wire_type == 0:
            value, offset = _varint(message, offset)
            yield key >> 3, value, offset
            continue
        if wire_type == 2:  # noqa: PLR2004 - wire types of protobuf
            length, offset = _varint(message, offset)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ManifestError("invalid message")
        if offset + length > end:
            raise ManifestError("truncated manifest")
        yield key >> 3, message[offset : offset + length], offset + length
        offset += length


def _varint(message: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:  # noqa: PLR2004 - bits
        byte = message[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, offset
        shift += 7
    raise ManifestError("a number is too long")


def _require_int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ManifestError("a field is not a number")
    return value


def _require_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ManifestError("a field is a number")
    return value


def _decode_text(value: int | bytes) -> str:
    return _require_bytes(value).decode()


def renumber(content: bytes, number: int) -> bytes:
    """Return a manifest with the same files and another version number.

    Raises:
        ManifestError: it is not a manifest, or there is data between its message and its footer.
    """
    parse_version(content)
    offset, major, minor, magic = _FOOTER.unpack(content[-_FOOTER.size :])
    message = _message(content, offset)
    if offset + _LENGTH.size + len(message) + _FOOTER.size != len(content):
        raise ManifestError("unexpected data after the manifest")
    new_message, start = bytearray(), 0
    for field, _, end in _field_spans(message):
        new_message += (
            _encode_varint(_VERSION << 3) + _encode_varint(number)
            if field == _VERSION
            else message[start:end]
        )
        start = end
    result = (
        content[:offset]
        + _LENGTH.pack(len(new_message))
        + bytes(new_message)
        + _FOOTER.pack(offset, major, minor, magic)
    )
    if parse_version(result).number != number:
        raise ManifestError("the version cannot be changed")
    return result


def manifest_name(name: str, number: int) -> str:
    """Return the file name of the manifest of a version, in the naming scheme of ``name``."""
    inverted = int(name.partition(".")[0]) >= _MIN_INVERTED
    return f"{_MAX_VERSION - number:020d}.manifest" if inverted else f"{number}.manifest"


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits of a byte count
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
