"""Events of one binary log of MariaDB: read, and verified by their checksums and positions.

The programs of the server print a log as SQL, in which the text of a statement can look like anything that they print themselves.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from dbctl.files.atomic import create_file
from dbctl.files.subprocesses import BLOCK

MAGIC = b"\xfebin"
#: time, kind, server, length, end (modulo 2^32) and flags of an event
_HEAD = struct.Struct("<IBIIIH")
CHECKSUM_BYTES = 4
_MAX_POSITION = 0xFFFFFFFF
#: Set in the format while a server writes the log; its checksum is that without this flag.
_IN_USE = 1
_CRC32 = 1
#: Kinds of events.
QUERY, STOP, ROTATE, FORMAT, XID, EXECUTE_LOAD, XA_PREPARE = 2, 3, 4, 15, 16, 18, 38
CHECKPOINT, GTID, GTID_LIST, ENCRYPTION, COMPRESSED_QUERY = 161, 162, 163, 164, 165
QUERIES = frozenset({QUERY, COMPRESSED_QUERY, EXECUTE_LOAD})
#: Events between transactions.
BETWEEN = frozenset({STOP, ROTATE, FORMAT, CHECKPOINT, GTID_LIST, ENCRYPTION})
#: Maximum bytes of an event that are kept in memory; only rows and texts are longer.
BODY_BYTES = 1 << 20


class Event(NamedTuple):
    """One event, without its checksum."""

    position: int
    end: int  #: the position of the next event
    time: int  #: when its statement began, in seconds
    kind: int
    server: int
    body: bytes  #: at most ``BODY_BYTES``


class Gtid(NamedTuple):
    """The global id of a transaction."""

    domain: int
    server: int
    sequence: int


class DamagedLogError(Exception):
    """The log cannot be read; the argument is the reason."""


class EncryptedLogError(Exception):
    """The log is encrypted by its server."""


class EventReader:
    """Reads the events of a log in their order; positions are those in the file."""

    def __init__(self, path: Path, start: int = 0) -> None:
        """Read from the event at ``start`` on, after those that describe the log, or all of them."""
        self.path, self._start = path, start
        self.size = path.stat().st_size
        #: a stored log can begin in the middle of that of its server: what the position there is larger by
        self.shift = 0
        self._is_part = False
        self.end = len(MAGIC)  #: of the last complete event

    def __iter__(self) -> Iterator[Event]:
        """Yield the events until the end, or until the beginning of an incomplete last one.

        Raises:
            DamagedLogError: the file is no binary log, or an event is damaged.
            EncryptedLogError: it is encrypted.
        """
        with self.path.open("rb", buffering=BLOCK) as file:
            if (magic := file.read(len(MAGIC))) != MAGIC:
                reason = "it is empty" if not magic else "it is no binary log of MariaDB"
                raise DamagedLogError(reason)
            has_checksums = True
            while event := self._read(file, has_checksums=has_checksums):
                if event.kind == ENCRYPTION:
                    raise EncryptedLogError
                if event.kind == FORMAT:
                    has_checksums = event.body[-1] == _CRC32
                self.end = event.end
                yield event
                if self._start and event.kind == (GTID_LIST if self._is_part else FORMAT):
                    self.end = file.seek(self._start)

    def _read(self, file: IO[bytes], *, has_checksums: bool) -> Event | None:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        time, kind, server, length, end, flags = _HEAD.unpack(head)
        position = self.end
        if kind == FORMAT and not end:  # as mariadb-binlog writes it if it begins in the middle
            end, self._is_part = position + length, True
        elif kind == GTID_LIST and self._is_part and not self.shift:
            self.shift = (end - position - length) & _MAX_POSITION
        expected = (position + length + self.shift) & _MAX_POSITION
        # by default, MariaDB 11.8 writes 0 for the events of a transaction (``binlog_legacy_event_pos``)
        if end not in (0, expected) or length < _HEAD.size + CHECKSUM_BYTES:
            raise DamagedLogError(f"the event at {position} is damaged")
        if position + length > self.size:
            return None
        has_checksum = has_checksums or kind == FORMAT
        if kind == FORMAT:
            head = head[:-2] + struct.pack("<H", flags & ~_IN_USE)
        remaining = length - _HEAD.size - (CHECKSUM_BYTES if has_checksum else 0)
        body, checksum = b"", zlib.crc32(head)
        while remaining:
            block = file.read(min(remaining, BODY_BYTES))
            if not block:
                return None  # the file was truncated since then
            body = body or block
            checksum = zlib.crc32(block, checksum)
            remaining -= len(block)
        stored = file.read(CHECKSUM_BYTES) if has_checksum else b""
        is_verified = has_checksums if kind != FORMAT else body[-1:] == bytes([_CRC32])
        if is_verified and stored != struct.pack("<I", checksum):
            raise DamagedLogError(f"the checksum of the event at {position} does not match")
        return Event(position, self.end + length, time, kind, server, body)


def read_gtid(event: Event) -> tuple[Gtid, bool]:
    """Return the id of a transaction, and whether it is a single statement without a commit."""
    sequence, domain, flags = struct.unpack_from("<QIB", event.body)
    return Gtid(domain, event.server, sequence), bool(flags & 1)


def read_gtid_list(event: Event) -> dict[int, Gtid]:
    """Return the last transaction of each domain before the log."""
    (count,) = struct.unpack_from("<I", event.body)
    entries = struct.iter_unpack("<IIQ", event.body[4 : 4 + 16 * (count & 0x0FFFFFFF)])
    return {domain: Gtid(domain, server, sequence) for domain, server, sequence in entries}


def write_part(raw: Path, destination: Path, start: int, gtids: Mapping[int, Gtid]) -> None:
    """Write what ``mariadb-binlog --raw`` copied from the position ``start`` on as a log that can be read alone.

    Args:
        raw: its file, which has the format of the log, and then the event at ``start``.
        destination: the new file, with a list of the transactions before it, as a server writes it at the beginning of a log.
        start: the position.
        gtids: the last transaction of each domain before it.

    Raises:
        DamagedLogError: the file is no binary log.
    """
    version = next(iter(EventReader(raw)), None)
    if version is None:
        raise DamagedLogError("it has no event")
    entries = b"".join(
        struct.pack("<IIQ", gtid.domain, gtid.server, gtid.sequence) for gtid in gtids.values()
    )
    body = struct.pack("<I", len(gtids)) + entries
    checksum_bytes = CHECKSUM_BYTES if version.body[-1] == _CRC32 else 0
    length = _HEAD.size + len(body) + checksum_bytes
    event = _HEAD.pack(version.time, GTID_LIST, version.server, length, start, 0) + body
    event += struct.pack("<I", zlib.crc32(event))[:checksum_bytes]
    with raw.open("rb") as source, create_file(destination, temporary=True) as output:
        output.write(source.read(version.end) + event)
        while block := source.read(BLOCK):
            output.write(block)


def read_next_log(event: Event) -> str:
    """Return the name of the log that follows an event of the kind ``ROTATE``."""
    return event.body[8:].decode(errors="surrogateescape")


def read_query(event: Event) -> tuple[str, str]:
    """Return the default database of a statement, and its text as far as it is kept."""
    database_length, _, variables_length = struct.unpack_from("<BHH", event.body, 8)
    start = 13 + variables_length + (13 if event.kind == EXECUTE_LOAD else 0)
    database, text = event.body[start : start + database_length], event.body[start + database_length + 1 :]
    if event.kind == COMPRESSED_QUERY:
        text = zlib.decompressobj().decompress(text[1 + (text[0] & 7) :], BODY_BYTES)
    return database.decode(errors="replace"), text.decode(errors="replace")
