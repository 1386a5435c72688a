"""Values of rows in the audit log: exact values as JSON (``codec.to_json``); a digest replaces a secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from dbctl.engines.sql import codec
from dbctl.errors.operations import AuditUnavailableError
from dbctl.files import atomic

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
