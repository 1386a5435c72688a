"""Profiles: their model and loader, and the codecs and formats that they may name."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.profiles.codecs import (
        BOOLEANS,
        EPOCH,
        HASHES,
        KEYS,
        TIMES,
        Encoding,
        TimeCodec,
        new_password,
        read_boolean,
        read_time,
    )
    from dbctl.profiles.formats import CRON_FIELDS, FORMATS
    from dbctl.profiles.loader import load
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "codecs": "BOOLEANS EPOCH Encoding HASHES KEYS TIMES TimeCodec new_password read_boolean read_time",
            "formats": "CRON_FIELDS FORMATS",
            "loader": "load",
        },
    )
