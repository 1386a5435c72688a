"""Statistics and maintenance of a SQLite file: sizes, indexes, free pages, vacuum."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sqlite.monitoring.sizes import SQLiteSizes
    from dbctl.engines.sqlite.monitoring.statistics import SQLiteIndexMonitor, SQLiteMaintenance
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "sizes": "SQLiteSizes",
            "statistics": "SQLiteIndexMonitor SQLiteMaintenance",
        },
    )
