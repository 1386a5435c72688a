"""Records of changes: their canonical text with its hash, and the operations that they describe."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from dbctl.engines.sql import codec
from dbctl.model import JSON_ERRORS, Closing, Findings, Row, Struct, format_count

#: Results of an operation. ``failed``: the commit failed, or a part of the command. ``open``: no result was recorded: its process is
#: running, or ended around the commit.
COMMITTED, FAILED, OPEN = "committed", "failed", "open"
#: The hash before the first record.
NO_HASH = "0" * 64
#: Rows of a change that ``audit show`` prints; ``-o json`` has all.
SHOWN_ROWS = 200


#: Digits of the random id of a store.
_LOG_DIGITS = 16
_HEXADECIMAL = frozenset("0123456789abcdef")
_LARGEST_NUMBER = 2**63 - 1


class Anchor(Struct, frozen=True, kw_only=True):
    """The end of the log at some time, stored outside of it, so that a truncated or replaced log is detected."""

    sequence: int
    hash: str
    log: str = ""  #: the random id of the store; empty: an older version wrote it

    def __str__(self) -> str:
        return ":".join(filter(None, (str(self.sequence), self.hash, self.log)))


def parse_anchor(text: str) -> Anchor | None:
    """Return the anchor with this text: ``SEQUENCE:HASH:LOG``, or without the log; None for other text."""
    sequence, digest, log = (*text.strip().split(":"), "", "", "")[:3]
    anchor = Anchor(
        sequence=int(sequence) if sequence.isascii() and sequence.isdigit() else 0, hash=digest, log=log
    )
    is_hash = (
        len(digest) == len(NO_HASH) and len(log) in (0, _LOG_DIGITS) and set(digest + log) <= _HEXADECIMAL
    )
    is_anchor = is_hash and 0 < anchor.sequence <= _LARGEST_NUMBER and str(anchor) == text.strip()
    return anchor if is_anchor else None


class RowImage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row before and after an operation, with encoded values (``codec.to_json``; a digest replaces a secret).

    A changed row has only its changed columns. An inserted row has no ``before``, a deleted row no ``after``.
    """

    key: Mapping[str, Any]
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


class TableChange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The changes of one table."""

    database: str
    table: str
    rows: int  #: written rows; without images, a row that was written twice counts twice
    images: Sequence[RowImage] | None = None  #: None: undo cannot revert the change
    reason: str = ""  #: why there are no images
    exact: bool = False  #: the images have exact values; those of older versions have rounded numbers


class Operation(Struct, frozen=True, kw_only=True):
    """One transaction of a command, or the whole command if its rows are only counted."""

    operation: int  #: the number of its first record
    time: datetime
    command: str
    app: str
    databases: Sequence[str] = ()
    rows: Mapping[str, int] = {}  #: by table
    result: str = OPEN  #: ``committed``, ``failed``, or ``open``: no result was recorded
    user: str = ""
    acting_as: str = ""  #: the user of the app on whose behalf it was made
    undoes: int | None = None  #: the operation that it reverted
    undone_by: int | None = None

    def summary(self) -> Row:
        names = ("operation", "time", "user", "acting_as", "command", "app")
        rows = ", ".join(f"{table} {count:,}" for table, count in self.rows.items())
        return {name: getattr(self, name) for name in names} | {"rows": rows, "result": self.result}


class OperationDetails(Operation, frozen=True, kw_only=True):
    """The complete record of one operation."""

    arguments: Sequence[str] = ()  #: without secrets
    changes: Sequence[TableChange] = ()
    sudo_user: str = ""
    host: str = ""
    config: str = ""
    run: int | None = None  #: the id of the run in the journal
    hash: str = ""

    def summary(self) -> Row:
        row = {
            **super().summary(),
            "arguments": shlex.join(["dbctl", *self.command.split(), *self.arguments]),
            "databases": ", ".join(self.databases),
        }
        row |= {name: getattr(self, name) for name in ("sudo_user", "host", "config", "run", "undoes")}
        row |= {"undone_by": self.undone_by, "hash": self.hash}
        row["changes"] = [line for change in self.changes for line in _describe_change(change)][:SHOWN_ROWS]
        return {name: value for name, value in row.items() if value not in (None, "", [])}


def _describe_change(change: TableChange) -> list[Row]:
    table = f"{change.database}.{change.table}"
    if change.images is None:
        return [
            {"table": table, "key": None, "change": f"{change.rows:,} rows, not recorded: {change.reason}"}
        ]
    return [
        {"table": table, "key": describe_values(image.key), "change": describe_image(image)}
        for image in change.images
    ]


def describe_image(image: RowImage) -> str:
    """Return a text for the change of a row."""
    if image.before is None:
        return f"inserted {describe_values(image.after or {})}"
    if image.after is None:
        return f"deleted {describe_values(image.before)}"
    changes = (
        f"{name}: {describe_value(image.before.get(name))} -> {describe_value(value)}"
        for name, value in image.after.items()
    )
    return ", ".join(changes)


def describe_values(values: Mapping[str, Any]) -> str:
    """Return ``name=value`` for each encoded value."""
    return " ".join(f"{name}={describe_value(value)}" for name, value in values.items())


def describe_value(value: Any) -> str:
    """Return a short text for an encoded value; a secret is ``***``."""
    if isinstance(value, dict) and len(value) == 1:
        (tag, content), *_ = value.items()
        if tag == "$secret":
            return "***"
        value = content
    text = codec.encode_json(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - the width of a value


class StoredRecord(msgspec.Struct, frozen=True):
    """A record of the log. Unknown fields are part of its hash, and ignored here."""

    sequence: int
    time: datetime
    kind: str  #: ``start`` of a log, ``intent`` before a commit, ``outcome`` after it
    previous: str
    hash: str
    operation: int = 0
    command: str = ""
    arguments: Sequence[str] = ()
    app: str = ""
    user: str = ""
    sudo_user: str = ""
    acting_as: str = ""
    host: str = ""
    config: str = ""
    run: int | None = None
    undoes: int | None = None
    databases: Sequence[str] = ()
    changes: Sequence[TableChange] = ()
    result: str = ""
    rows: Mapping[str, int] | None = None
    gap: bool = False  #: whether changes before it are not in the log
    lost: str = ""  #: an anchor of a record that the log did not have when it was written
    store: str = (
        ""  #: of a ``start``: the random id of its store; empty: it is that of a file of an older version
    )
    problems: int = 0  #: that the files had which a ``start`` continues


class _CountedChange(Struct, frozen=True, kw_only=True):
    """A change without its images, whose decoding takes most of the time."""

    database: str
    table: str
    rows: int


class CountedRecord(StoredRecord, frozen=True):
    """A record without images, for lists."""

    changes: Sequence[_CountedChange] = ()  # type: ignore[assignment]


_DECODER = msgspec.json.Decoder(StoredRecord, float_hook=Decimal)
_COUNTING_DECODER = msgspec.json.Decoder(CountedRecord)
#: Of any record; a float would not have every number of it.
_EXACT_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(order="deterministic", decimal_format="number")


def seal(values: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the canonical text of a record with its hash, and the hash: SHA-256 of the text without the hash, which includes the previous one."""
    digest = hashlib.sha256(_ENCODER.encode(values)).hexdigest()
    return _ENCODER.encode({**values, "hash": digest}), digest


def is_sealed(text: bytes) -> bool:
    """Whether a record has the right hash, which is that of its bytes without the hash: numbers are never read and written again."""
    try:
        digest = _EXACT_DECODER.decode(text)["hash"]
    except (*JSON_ERRORS, KeyError, TypeError):
        return False
    before, member, after = text.partition(f'"hash":"{digest}",'.encode())
    return bool(member) and hashlib.sha256(before + after).hexdigest() == digest


def decode_record(text: bytes, *, with_images: bool = False) -> StoredRecord | None:
    """Return a record, by default without the images of rows; None if the text is none."""
    try:
        return _DECODER.decode(text) if with_images else _COUNTING_DECODER.decode(text)
    except JSON_ERRORS:
        return None


def decode_exactly(text: bytes) -> Mapping[str, Any]:
    """Return all fields of a valid record."""
    fields: Mapping[str, Any] = _EXACT_DECODER.decode(text)
    return fields


class AuditChecked(Findings, frozen=True, kw_only=True):
    """Result of ``audit verify``."""

    anchor: str = ""  #: ``SEQUENCE:HASH:LOG`` of the last record, to be stored on another machine
    files: Sequence[str] = ()

    @property
    def closing(self) -> Closing:
        problems = [format_count(len(self.findings), "problem")] if self.findings else ["no problems"]
        anchor = [f"anchor {self.anchor}"] if self.anchor else []
        return Closing(f"Checked {format_count(self.checked, 'record')}", [*problems, *anchor])
