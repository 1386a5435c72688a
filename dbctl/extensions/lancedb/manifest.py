"""Manifests of versions, parsed without the library, and the versions of a table.

A manifest is a protobuf message, followed by a footer. Unknown fields of newer formats are ignored.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec

from dbctl.extensions.lancedb.location import Files
from dbctl.model import JSON_ERRORS, Struct

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_LENGTHS = {_FIXED64: 8, _FIXED32: 4}
_MAX_BITS = 64
V = TypeVar("V", int, bytes)


class MessageError(ValueError):
    """A message is truncated or invalid; the text is the reason."""


class Message:
    """The fields of a message. A missing field is 0 or empty, as in protobuf."""

    def __init__(self, content: bytes) -> None:
        """Parse the message.

        Raises:
            MessageError: it is truncated or invalid; also raised by the methods, for a field of another type.
        """
        self._values = dict[int, list[int | bytes]]()
        for field, value, _ in iterate_fields(content):
            self._values.setdefault(field, []).append(value)

    def __contains__(self, field: int) -> bool:
        return field in self._values

    def number(self, field: int) -> int:
        return (self._all(field, int) or [0])[-1]

    def data(self, field: int) -> bytes:
        return (self._all(field, bytes) or [b""])[-1]

    def text(self, field: int) -> str:
        return self.data(field).decode()

    def message(self, field: int) -> Message:
        return Message(self.data(field))

    def messages(self, field: int) -> list[Message]:
        """Return all values of a repeated field of messages."""
        return [Message(content) for content in self._all(field, bytes)]

    def _all(self, field: int, kind: type[V]) -> list[V]:
        values = self._values.get(field, [])
        expected = [value for value in values if isinstance(value, kind)]
        if len(expected) < len(values):
            raise MessageError(f"field {field} has another type")
        return expected


def iterate_fields(content: bytes) -> Iterator[tuple[int, int | bytes, int]]:
    """Yield number, value and end offset of each field of a message: an integer, or bytes for all other types.

    Raises:
        MessageError: the message is truncated or invalid.
    """
    offset, end = 0, len(content)
    while offset < end:
        key, offset = _decode_varint(content, offset)
        field, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            number, offset = _decode_varint(content, offset)
            yield field, number, offset
            continue
        if wire_type == _BYTES:
            length, offset = _decode_varint(content, offset)
        elif wire_type in _FIXED_LENGTHS:
            length = _FIXED_LENGTHS[wire_type]
        else:
            raise MessageError("invalid message")
        if offset + length > end:
            raise MessageError("truncated message")
        yield field, content[offset : offset + length], offset + length
        offset += length


def encode_number(field: int, value: int) -> bytes:
    return _encode_varint(field << 3 | _VARINT) + _encode_varint(value)


def _decode_varint(content: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _MAX_BITS, 7):
        if offset >= len(content):
            raise MessageError("truncated message")
        byte = content[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, offset
    raise MessageError("a number is too long")


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits of a byte count
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


#: The end of a manifest and of a data file.
MAGIC = b"LANC"
#: The folder with the manifests of a table.
VERSIONS_FOLDER = "_versions"
#: A file in it with the number of the newest version at the last write.
HINT_FILE = "latest_version_hint.json"

_NAME = re.compile(r"([0-9]{1,20})\.manifest")
#: Newer tables name a manifest by this number minus the version, so that the newest is listed first.
_MAX_VERSION = (1 << 64) - 1
_MIN_INVERTED = 1 << 63
#: Before the message: its length. After it: its offset, two version numbers of the format, and the magic.
_LENGTH = struct.Struct("<I")
_FOOTER = struct.Struct("<QHH4s")
#: Field numbers: of the manifest,
_FRAGMENT, _VERSION, _INDEXES, _READER_FEATURES, _TRANSACTION, _DATA_FORMAT, _BRANCH = 2, 3, 6, 9, 12, 15, 20
#: of its data format, of a fragment (with the files of sequences of row IDs and versions),
_FORMAT_VERSION, _FRAGMENT_ID, _FILE, _DELETIONS, _ROWS, _SEQUENCES = 2, 1, 2, 3, 4, (6, 8, 10)
#: of a data file and of the file of deleted rows,
_PATH, _FILE_BYTES, _DELETION_TYPE, _READ_VERSION, _DELETION_ID, _DELETED_ROWS, _FILE_BASE = (
    1,
    6,
    1,
    2,
    3,
    4,
    7,
)
#: of an index, and of its files. A base is the folder of another table, which contains the file.
_INDEX, _UUID, _INDEX_NAME, _INDEX_BASE, _INDEX_FILE, _INDEX_FILE_BYTES = 1, 1, 3, 9, 10, 2
#: The format of files before Lance 2.0, which is not in the manifest.
LEGACY_FORMAT = "0.1"
#: Formats of files, and features of versions (deleted rows, stable row IDs), that every supported release of the library reads.
_COMMON_FORMATS, _COMMON_FEATURES = frozenset({LEGACY_FORMAT, "2.0", "2.1", "2.2"}), 0b11


class ManifestError(ValueError):
    """A manifest cannot be read; the text is the reason."""


class DataFile(Struct, frozen=True):
    """A file of a version."""

    path: str  #: relative to the folder of the table
    bytes: int | None = None  #: None: the manifest does not contain it


class Fragment(Struct, frozen=True, kw_only=True):
    """Rows with the same data files."""

    rows: int  #: with deleted rows
    deleted: int
    files: Sequence[DataFile]  #: with the values of the rows
    deletions: str  #: the file with the deleted rows, relative to the table; empty: no deleted rows
    sequences: Sequence[DataFile]  #: separate files with row IDs and versions

    @property
    def remaining(self) -> int:
        """The number of rows without deleted rows."""
        return self.rows - self.deleted


class IndexFiles(Struct, frozen=True, kw_only=True):
    name: str
    folder: str  #: relative to the table
    files: Sequence[DataFile]  #: empty: written by an older library, which does not list them


class Manifest(Struct, frozen=True, kw_only=True):
    """One version of one table."""

    version: int
    format: str  #: of new files, for example ``2.0``
    fragments: Sequence[Fragment]
    indexes: Sequence[IndexFiles]
    transaction: str  #: the file of the transaction that created it, not required for reading; may be empty
    is_branch: bool  #: whether it belongs to a branch of the table
    is_external: bool  #: whether some files belong to another table
    reader_features: int  #: bits of what a reader must understand

    @property
    def is_common(self) -> bool:
        """Whether every release of the library can open it, as far as the manifest shows."""
        return (
            self.format in _COMMON_FORMATS
            and not self.reader_features & ~_COMMON_FEATURES
            and not (self.is_branch or self.is_external)
        )

    @property
    def rows(self) -> int:
        """The number of rows without deleted rows."""
        return sum(fragment.remaining for fragment in self.fragments)

    @property
    def deleted(self) -> int:
        """The number of deleted rows in the files."""
        return sum(fragment.deleted for fragment in self.fragments)

    @property
    def bytes(self) -> int:
        """The size of the data files, as far as the manifest contains it."""
        return sum(file.bytes or 0 for fragment in self.fragments for file in fragment.files)

    def files(self) -> Iterator[DataFile]:
        """Yield all files that are required for reading, as far as the manifest lists them."""
        for fragment in self.fragments:
            yield from fragment.files
            yield from fragment.sequences
            if fragment.deletions:
                yield DataFile(fragment.deletions)
        for index in self.indexes:
            yield from index.files


# Parsing -----------------------------------------------------------------------------------------------------------


def parse(content: bytes) -> Manifest:
    """Parse a manifest.

    Raises:
        ManifestError: it is not a manifest, is truncated, or names a file outside of its table.
    """
    try:
        return _parse(content)
    except ManifestError:
        raise
    except (ValueError, struct.error, OverflowError) as error:
        raise ManifestError(f"invalid or truncated manifest: {error}") from error


def _parse(content: bytes) -> Manifest:
    offset, _, _, magic = _FOOTER.unpack(content[-_FOOTER.size :])
    if magic != MAGIC:
        raise ManifestError("not a manifest: wrong footer")
    message = Message(_section(content, offset))
    if not message.number(_VERSION):
        raise ManifestError("manifest without a version")
    fragments, transaction, indexes = message.messages(_FRAGMENT), message.text(_TRANSACTION), list[Message]()
    if _INDEXES in message:
        indexes = Message(_section(content, message.number(_INDEXES))).messages(_INDEX)
    return Manifest(
        version=message.number(_VERSION),
        format=message.message(_DATA_FORMAT).text(_FORMAT_VERSION) or LEGACY_FORMAT,
        fragments=[_parse_fragment(fragment) for fragment in fragments],
        indexes=[_parse_index(index) for index in indexes],
        transaction=_require_inside(f"_transactions/{transaction}") if transaction else "",
        is_branch=_BRANCH in message,
        is_external=any(map(_is_external, fragments)) or any(_INDEX_BASE in index for index in indexes),
        reader_features=message.number(_READER_FEATURES),
    )


def _section(content: bytes, offset: int) -> bytes:
    """Return the bytes of the message at an offset."""
    (length,) = _LENGTH.unpack_from(content, offset)
    start = offset + _LENGTH.size
    if start + length > len(content) - _FOOTER.size:
        raise ManifestError("truncated manifest")
    return content[start : start + length]


def _parse_fragment(fragment: Message) -> Fragment:
    deletion, deletions = fragment.message(_DELETIONS), ""
    if fragment.data(_DELETIONS):
        numbers = (
            fragment.number(_FRAGMENT_ID),
            deletion.number(_READ_VERSION),
            deletion.number(_DELETION_ID),
        )
        ending = "bin" if deletion.number(_DELETION_TYPE) else "arrow"
        deletions = f"_deletions/{'-'.join(map(str, numbers))}.{ending}"
    return Fragment(
        rows=fragment.number(_ROWS),
        deleted=deletion.number(_DELETED_ROWS),
        files=[_parse_file("data/", file, _FILE_BYTES) for file in fragment.messages(_FILE)],
        deletions=deletions,
        sequences=[
            DataFile(_require_inside(file.text(_PATH)))
            for field in _SEQUENCES
            for file in fragment.messages(field)
        ],
    )


def _is_external(fragment: Message) -> bool:
    return any(_FILE_BASE in file for file in (*fragment.messages(_FILE), fragment.message(_DELETIONS)))


def _parse_index(index: Message) -> IndexFiles:
    folder = f"_indices/{UUID(bytes=index.message(_UUID).data(1))}"
    return IndexFiles(
        name=index.text(_INDEX_NAME),
        folder=folder,
        files=[_parse_file(f"{folder}/", file, _INDEX_FILE_BYTES) for file in index.messages(_INDEX_FILE)],
    )


def _parse_file(folder: str, file: Message, size_field: int) -> DataFile:
    return DataFile(_require_inside(folder + file.text(_PATH)), file.number(size_field) or None)


def _require_inside(path: str) -> str:
    """Return a path inside the folder of the table; the manifest may come from an untrusted source."""
    if not path or path.startswith("/") or path.endswith("/") or "\0" in path or ".." in path.split("/"):
        raise ManifestError(f"{path!r} is outside of its table")
    return path


# Versions ----------------------------------------------------------------------------------------------------------


def version_number(name: str) -> int | None:
    """Return the version of a manifest with this file name, or None if the name is not one of a manifest."""
    if not (match := _NAME.fullmatch(name)):
        return None
    number = int(match[1])
    return _MAX_VERSION - number if number >= _MIN_INVERTED else number


def parse_version(content: bytes, name: str) -> Manifest:
    """Parse a manifest with this file name; raises as ``parse``, and if it is that of another version.

    The library opens such a table with the rows of the other version, and cannot write to it.
    """
    manifest = parse(content)
    if manifest.version != version_number(name):
        raise ManifestError(f"it is that of version {manifest.version}")
    return manifest


class _Hint(Struct, frozen=True):
    version: int


def renumber(content: bytes, number: int) -> bytes:
    """Return a manifest with the same files and another version number.

    Raises:
        ManifestError: as ``parse``, or there is data between its message and its footer.
    """
    if parse(content).is_branch:
        raise ManifestError("manifest of a branch")
    offset, major, minor, magic = _FOOTER.unpack(content[-_FOOTER.size :])
    message = _section(content, offset)
    if offset + _LENGTH.size + len(message) + _FOOTER.size != len(content):
        raise ManifestError("unexpected data after the manifest")
    new_message, start = bytearray(), 0
    for field, _, end in iterate_fields(message):
        new_message += encode_number(_VERSION, number) if field == _VERSION else message[start:end]
        start = end
    result = (
        content[:offset]
        + _LENGTH.pack(len(new_message))
        + bytes(new_message)
        + _FOOTER.pack(offset, major, minor, magic)
    )
    if parse(result).version != number:
        raise ManifestError("the version cannot be changed")
    return result


def manifest_name(name: str, number: int) -> str:
    """Return the file name of the manifest of a version, in the naming scheme of ``name``."""
    inverted = int(name.partition(".")[0]) >= _MIN_INVERTED
    return f"{_MAX_VERSION - number:020d}.manifest" if inverted else f"{number}.manifest"


class History:
    """The files and versions of one table, read without the library."""

    def __init__(self, files: Files, folder: str) -> None:
        self.folder, self._files = folder, files

    def versions(self) -> dict[int, str]:
        """Return the manifests of all versions, the newest first."""
        folder = f"{self.folder}/{VERSIONS_FOLDER}"
        paths = {
            version_number(file.path.removeprefix(f"{folder}/")): file.path
            for file in self._files.walk(folder)
        }
        return {number: paths[number] for number in sorted(filter(None, paths), reverse=True)}

    def read_hint(self) -> int:
        """Return the newest version at the last write, or 0 if it is unknown.

        Callers that compare it with ``versions`` call this first, because versions may be written concurrently.
        """
        try:
            content = self._files.read(f"{self.folder}/{VERSIONS_FOLDER}/{HINT_FILE}")
            return msgspec.json.decode(content, type=_Hint).version
        except (OSError, *JSON_ERRORS):
            return 0

    def read_version(self, version: int) -> Manifest:
        """Return the manifest of a version.

        Raises:
            ManifestError: it is missing, truncated or damaged.
        """
        path = self.versions().get(version)
        if path is None:
            raise ManifestError("it is missing")
        return self.read_manifest(path)

    def read_manifest(self, path: str) -> Manifest:
        """Return the manifest in a file; raises as ``read_version``."""
        try:
            return parse_version(self._files.read(path), path.rpartition("/")[2])
        except OSError as error:
            raise ManifestError(error.strerror or str(error)) from error

    def describe_unreadable(self, versions: Mapping[int, str]) -> str:
        """Return why the newest version cannot be read, and the newest readable one; empty if it can be read."""
        newest, reason = next(iter(versions)), ""
        for version, path in versions.items():
            try:
                self.read_manifest(path)
            except ManifestError as error:
                reason = reason or f"its newest version, {newest}, cannot be read: {error}"
            else:
                return reason and f"{reason}; version {version} can be read"
        return f"{reason}; no older version can be read"

    def describe_old_damage(self, versions: Mapping[int, str]) -> Iterator[str]:
        """Yield which versions before the newest cannot be read, and why; the library needs them to compact and prune."""
        for version, path in [*versions.items()][1:]:
            try:
                self.read_manifest(path)
            except ManifestError as error:
                if version in self.versions():  # otherwise another process pruned it
                    yield f"version {version}, not the newest, cannot be read: {error}; compaction and pruning fail until {path} is deleted"

    def file_sizes(self) -> Mapping[str, int]:
        """Return the size of every file of the table, by its path relative to the folder of the table."""
        root = f"{self.folder}/"
        return {file.path.removeprefix(root): file.bytes for file in self._files.walk(self.folder)}
