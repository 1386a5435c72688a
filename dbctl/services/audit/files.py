"""The files of the audit log: one JSON object per line, in a canonical form whose hash includes the previous hash."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from gzip import GzipFile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dbctl.errors import AuditUnavailableError
from dbctl.files import SUFFIXES
from dbctl.model import JSON_ERRORS
from dbctl.services.audit.records import CountedRecord, StoredRecord

#: An empty file, which a full disk can usually still have: changes since its time are not in the log.
GAP_NAME = "audit.gap"
FILE_NAME = "audit.jsonl"
_NO_RECORD = 1 << 64  #: more than any number of a record
_DECODER = msgspec.json.Decoder(StoredRecord, float_hook=Decimal)
_COUNTING_DECODER = msgspec.json.Decoder(CountedRecord)
#: Of any record; a float would not have every number of it.
_EXACT_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(order="deterministic", decimal_format="number")


def seal(values: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the line of a record with its hash, and the hash: SHA-256 of the line without the hash."""
    digest = hashlib.sha256(_encode(values)).hexdigest()
    return _encode({**values, "hash": digest}) + b"\n", digest


def is_sealed(line: bytes) -> bool:
    """Whether a line has the right hash, which is that of its bytes without the hash: numbers are never read and written again."""
    try:
        digest = _EXACT_DECODER.decode(line)["hash"]
    except (*JSON_ERRORS, KeyError, TypeError):
        return False
    before, member, after = line.partition(f'"hash":"{digest}",'.encode())
    return bool(member) and hashlib.sha256(before + after.removesuffix(b"\n")).hexdigest() == digest


def decode_line(line: bytes, *, with_images: bool = False) -> StoredRecord | None:
    """Return the record of a line, by default without the images of rows; None if it is none."""
    try:
        return _DECODER.decode(line) if with_images else _COUNTING_DECODER.decode(line)
    except JSON_ERRORS:
        return None


def read_interruption(line: bytes) -> Mapping[str, Any]:
    """Return the number and the hash of incomplete bytes before a record, as it declares them; empty: none."""
    content = _EXACT_DECODER.decode(line).get("interrupted")
    return content if isinstance(content, dict) else {}


def _encode(values: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(values)


class Line(NamedTuple):
    """A line of a file."""

    path: Path
    number: int  #: from 1
    content: bytes


def list_files(folder: Path, others: Iterable[Path] = ()) -> Sequence[Path]:
    """Return the files of the log and ``others`` by their first record; a copy of a file of the log follows it.

    Raises:
        AuditUnavailableError: a file cannot be read.
    """
    current = folder / FILE_NAME
    own = {path.resolve() for path in folder.glob(f"{FILE_NAME}?*")} - {current.resolve()}
    further = {path.resolve() for path in others} - {*own, current.resolve()}
    starts = [(_find_first_sequence(path), path in further, str(path), path) for path in own | further]
    if current.exists():  # without a record, it is the newest file
        starts.append((_find_first_sequence(current) or _NO_RECORD, False, str(current), current))
    return [path for *_, path in sorted(starts)]


def read_lines(folder: Path, others: Iterable[Path] = ()) -> Iterator[Line]:
    """Yield the lines of the log, the oldest first.

    Raises:
        AuditUnavailableError: a file cannot be read.
    """
    for path in list_files(folder, others):
        with _open(path) as file:
            for number, content in enumerate(file, 1):
                yield Line(path, number, content)


def _find_first_sequence(path: Path) -> int:
    with _open(path) as file:
        for line in file:
            if record := decode_line(line):
                return record.sequence
    return 0


@contextmanager
def _open(path: Path) -> Iterator[Iterable[bytes]]:
    """Yield the lines of a file; programs that rotate logs may compress it with gzip.

    Raises (also in the block):
        AuditUnavailableError: the file cannot be read.
    """
    if path.exists() and not path.is_file():
        raise AuditUnavailableError(path=path, reason="it is not a regular file")
    try:
        with path.open("rb") as file:
            yield GzipFile(fileobj=file) if path.suffix == SUFFIXES["gzip"] else file
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AuditUnavailableError(path=path, reason=reason) from error
