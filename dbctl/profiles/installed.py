"""Records of installed profiles: where each one came from, next to its file."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

import msgspec

from dbctl.model import Struct


class Origin(Struct, frozen=True, kw_only=True):
    """The record of an installed profile."""

    source: str  #: the address, or the absolute path, from which it was installed
    sha256: str  #: of its file, in hexadecimal digits
    installed_at: datetime


def record_path(profile: Path) -> Path:
    """Return the file with the record of a profile: ``shop.origin.json`` of ``shop.toml``."""
    return profile.with_name(f"{profile.stem}.origin.json")


def read_record(profile: Path) -> Origin | None:
    """Return the record of a profile; None: it was not installed, or its record cannot be read."""
    try:
        return msgspec.json.decode(record_path(profile).read_bytes(), type=Origin)
    except (OSError, msgspec.MsgspecError):
        return None


def compute_digest(data: bytes) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
