"""Values in columns of SQLite, and the forms of stored times."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sqlite.types.times import SQLiteTimes, form_of
    from dbctl.engines.sqlite.types.values import RawText, affinity
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "times": "SQLiteTimes form_of",
            "values": "RawText affinity",
        },
    )
