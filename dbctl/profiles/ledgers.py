"""The ledgers of migrations that dbctl supports by name, in the order in which a database is searched for them."""

# Without postponed annotations, as in ``profiles.model``.
from binascii import crc32
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec

from dbctl.files import toml
from dbctl.profiles.model import ForeignLedger, Ledger, Section

SOURCE = Path(__file__).with_name("ledgers.toml")


class Ledgers(Section, frozen=True, kw_only=True):
    """All of them, by name."""

    ledgers: Mapping[str, Ledger]  #: of the runners that dbctl can take turns with
    foreign: Mapping[str, ForeignLedger]  #: of those that it only reads


class Prepared(msgspec.Struct, frozen=True):
    """What ``profiles.generate`` makes of the file, as it does of profiles."""

    of: int  #: CRC-32 of the TOML file that it was made of
    profile: Ledgers


@cache
def known() -> Ledgers:
    """Return all of them."""
    try:
        prepared = msgspec.json.decode(SOURCE.with_suffix(".json").read_bytes(), type=Prepared)
        if prepared.of == crc32(SOURCE.read_bytes()):
            return prepared.profile
    except (OSError, msgspec.MsgspecError):  # missing or out of date: the source itself is read
        pass
    values, text = toml.load(SOURCE)
    return toml.structure(values, Ledgers, text)
