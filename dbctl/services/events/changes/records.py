"""Records of changes: their canonical text with its hash, the digests that replace secrets, and the operations that they describe."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from dbctl.engines.contract.database import Readable
from dbctl.engines.sql import codec
from dbctl.errors.operations import AuditUnavailableError
from dbctl.files import atomic
from dbctl.model import JSON_ERRORS, Closing, Findings, Row, Struct, format_count

#: Results of an operation. ``failed``: the commit failed, or a part of the command. ``open``: no result was recorded: its process is
#: running, or ended around the commit, or it is unknown whether the commit took effect. ``partial``: the
#: commit of a database failed after that of another one; the changes are those of the other ones.
COMMITTED, FAILED, OPEN, PARTIAL = "committed", "failed", "open", "partial"
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
    #: the digest of the content of a table that the operation created, see ``capture.digest_table``; empty: it existed
    created: str = ""
    exact: bool = False  #: the images have exact values; those of older versions have rounded numbers


class Operation(Struct, frozen=True, kw_only=True):
    """One transaction of a command, or the whole command if its rows are only counted."""

    operation: int  #: the number of its first record
    time: datetime
    command: str
    app: str
    databases: Sequence[str] = ()
    rows: Mapping[str, int] = {}  #: by table
    result: str = OPEN  #: ``committed``, ``failed``, ``open`` or ``partial``
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
    addresses: Mapping[str, str] = {}  #: where the databases were, by name, without accounts
    run: int | None = None  #: the id of the run in the journal
    hash: str = ""

    def summary(self) -> Row:
        row = {
            **super().summary(),
            "arguments": shlex.join(["dbctl", *self.command.split(), *self.arguments]),
            "databases": ", ".join(
                f"{name} ({self.addresses[name]})" if name in self.addresses else name
                for name in self.databases
            ),
        }
        row |= {name: getattr(self, name) for name in ("sudo_user", "host", "config", "run", "undoes")}
        row |= {"undone_by": self.undone_by, "hash": self.hash}
        row["changes"] = [line for change in self.changes for line in _describe_change(change)][:SHOWN_ROWS]
        return {name: value for name, value in row.items() if value not in (None, "", [])}


def _describe_change(change: TableChange) -> list[Row]:
    table = f"{change.database}.{change.table}"
    if change.created:
        rows = format_count(change.rows, "row")
        return [{"table": table, "key": None, "change": f"created the table with {rows}"}]
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
    """Return a short text for an encoded value; a secret is ``***``, and bytes that are no text have the form of ``data set``."""
    text = ""
    if isinstance(value, dict) and len(value) == 1:
        (tag, content), *_ = value.items()
        if tag == "$secret":
            return "***"
        value = content
        if tag == codec.BYTES:
            raw = base64.b64decode(content)
            value = raw.decode(errors="replace")
            text = "" if value.isprintable() and value.encode() == raw else f"\\x{raw.hex()}"
    text = text or codec.encode_json(value)
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
    addresses: Mapping[str, str] = {}
    changes: Sequence[TableChange] = ()
    result: str = ""
    rows: Mapping[str, int] | None = None
    gap: bool = False  #: whether changes before it are not in the log
    lost: str = ""  #: an anchor of a record that the log did not have when it was written
    #: of a ``start``: the random id of its store; empty: it is that of a file of an older version
    store: str = ""
    problems: int = 0  #: that the files had which a ``start`` continues


class _CountedChange(Struct, frozen=True, kw_only=True):
    """A change without its images, whose decoding takes most of the time."""

    database: str
    table: str
    rows: int


class CountedRecord(StoredRecord, frozen=True):
    """A record without images, for lists."""

    changes: Sequence[_CountedChange] = ()  # type: ignore[assignment]


_COUNTING_DECODER = msgspec.json.Decoder(CountedRecord)
_ENCODER = msgspec.json.Encoder(order="deterministic", decimal_format="number")


def seal(values: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the canonical text of a record with its hash, and the hash: SHA-256 of the text without the hash, which includes the previous one."""
    digest = hashlib.sha256(_ENCODER.encode(values)).hexdigest()
    return _ENCODER.encode({**values, "hash": digest}), digest


def is_sealed(text: bytes) -> bool:
    """Whether a record has the right hash, which is that of its bytes without the hash: numbers are never read and written again."""
    try:
        digest = codec.decode_json(text)["hash"]
    except (*JSON_ERRORS, KeyError, TypeError):
        return False
    before, member, after = text.partition(f'"hash":"{digest}",'.encode())
    return bool(member) and hashlib.sha256(before + after).hexdigest() == digest


def decode_record(text: bytes, *, with_images: bool = False) -> StoredRecord | None:
    """Return a record, by default without the images of rows; None if the text is none."""
    try:
        if with_images:  # few commands need them, and preparing their decoder would delay each record
            return msgspec.json.Decoder(StoredRecord, float_hook=Decimal).decode(text)
        return _COUNTING_DECODER.decode(text)
    except JSON_ERRORS:
        return None


def decode_exactly(text: bytes) -> Mapping[str, Any]:
    """Return all fields of a valid record."""
    fields: Mapping[str, Any] = codec.decode_json(text)
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


#: Tags of values that are not restorable: a secret, and a value of an unknown type.
SECRET, UNREADABLE = "$secret", "$unreadable"
KEY_NAME = "audit.key"
_KEY_BYTES = 32


#: Tags of older versions, whose records had other forms of values.
_PARSERS: Mapping[str, Any] = {
    "$bytes": base64.b64decode,
    "$surrogates": lambda text: base64.b64decode(text).decode("utf-8", "surrogateescape"),
    "$integer": int,
    "$float": float,
    "$time": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$clock": time.fromisoformat,
    "$decimal": Decimal,
    "$uuid": UUID,
    "$duration": lambda parts: timedelta(*parts),
    "$object": lambda items: {name: decode_old_value(item) for name, item in items.items()},
}


def decode_old_value(value: Any) -> object:
    """Return a value of a row, as ``Readable.select`` returns it, from its JSON in a record of an older version.

    Raises:
        ValueError, TypeError, ArithmeticError: it is secret, unreadable or invalid.
    """
    if isinstance(value, list):
        return [decode_old_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    (tag, content), *rest = value.items()
    if rest or tag not in _PARSERS:
        raise ValueError(tag)
    return _PARSERS[tag](content)


def is_restorable(value: Any) -> bool:
    """Whether the log has the value itself: it is neither secret nor unreadable."""
    if isinstance(value, list):
        return all(map(is_restorable, value))
    if isinstance(value, dict):
        return SECRET not in value and UNREADABLE not in value
    return True


def is_rounded(value: Any) -> bool:
    """Whether a value of a record of an older version is a number whose digits may be missing, or contains one."""
    if isinstance(value, list):
        return any(map(is_rounded, value))
    return isinstance(value, float | Decimal)


def is_secret(value: Any) -> bool:
    """Whether the log has only the digest of a value."""
    return isinstance(value, dict) and SECRET in value


def compute_digest(key: bytes, value: object) -> Any:
    """Return a secret value as the log stores it: a keyed digest, which shows a change and cannot be guessed without the key."""
    text = codec.encode_json(codec.to_json(value)).encode()
    return {SECRET: hmac.new(key, text, hashlib.sha256).hexdigest()[:32]}


def digest_table(db: Readable, table: str, key: bytes) -> str:
    """Return a keyed digest of the columns and all rows of a table, in any order."""
    from dbctl.engines.sql.checks import read_row_texts

    columns = db.tables()[table].columns
    digest = hmac.new(
        key,
        codec.encode_json([[column.name, column.type] for column in columns.values()]).encode(),
        hashlib.sha256,
    )
    # a sum, because the order of the rows is any, and memory does not grow with the table
    texts = read_row_texts(db, table, list(columns))
    total = sum(int.from_bytes(hmac.digest(key, text, "sha256")) for text in texts)
    digest.update(str(total).encode())
    return digest.hexdigest()[:32]


def read_key(folder: Path) -> bytes:
    """Return the key of the digests, which is created on first use.

    Raises:
        AuditUnavailableError: it cannot be read or created.
    """
    path = folder / KEY_NAME
    try:
        key = _read_key(path)
        if key is None:
            key = _create_key(path)
    except OSError as error:
        raise AuditUnavailableError(path=path, reason=error.strerror or str(error)) from error
    return key


def _read_key(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(key) != _KEY_BYTES:
        raise AuditUnavailableError(path=path, reason="it is not a key of 32 bytes")
    return key


def _create_key(path: Path) -> bytes:
    """Create the key under another name, so that no process reads a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{KEY_NAME}.{os.getpid()}")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process created it
            atomic.rename_exclusively(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    key = _read_key(path)
    if key is None:
        raise AuditUnavailableError(path=path, reason="another process deleted it")
    return key
