"""Conversion of values for SQLite columns, and the forms of stored times."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sqlite.types.times import SQLiteTimeRewriter, SQLiteTimes
    from dbctl.engines.sqlite.types.values import RawText, find_affinity
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "times": "SQLiteTimeRewriter SQLiteTimes",
            "values": "RawText find_affinity",
        },
    )
