"""Statistics of an app and of its databases."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.stats.connections import FILES, Blocked, Connected, Slowed, sessions_of
    from dbctl.services.stats.indexes import IndexMeasured, State, TableWasted
    from dbctl.services.stats.reports import defaults, fitting
    from dbctl.services.stats.tables import DatabaseMeasured, Entry, Held, TableMeasured, UserMeasured
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "connections": "Blocked Connected FILES Slowed sessions_of",
            "indexes": "IndexMeasured State TableWasted",
            "reports": "defaults fitting",
            "tables": "DatabaseMeasured Entry Held TableMeasured UserMeasured",
        },
    )
