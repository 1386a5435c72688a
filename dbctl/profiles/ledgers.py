"""The ledgers of migrations that dbctl supports by name, in the order in which a database is searched for them."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from binascii import crc32
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec

from dbctl.files import toml
from dbctl.profiles.model.base import Section
from dbctl.profiles.model.databases import ForeignLedger, Ledger

SOURCE = Path(__file__).with_name("ledgers.toml")


class Ledgers(Section, frozen=True, kw_only=True):
    """The supported ledgers, by name."""

    ledgers: Mapping[str, Ledger]  #: ledgers that dbctl reads and writes
    foreign: Mapping[str, ForeignLedger]  #: ledgers that it only reads


class CachedLedgers(msgspec.Struct, frozen=True):
    """The ledgers in the JSON file that ``profiles.generate`` writes."""

    source_crc32: int  #: CRC-32 of the TOML file
    profile: Ledgers


@cache
def load_ledgers() -> Ledgers:
    """Return the supported ledgers."""
    try:
        prepared = msgspec.json.decode(SOURCE.with_suffix(".json").read_bytes(), type=CachedLedgers)
        if prepared.source_crc32 == crc32(SOURCE.read_bytes()):
            return prepared.profile
    except (OSError, msgspec.MsgspecError):  # missing or outdated: read the source
        pass
    values, text = toml.load(SOURCE)
    return toml.structure(values, Ledgers, text)
