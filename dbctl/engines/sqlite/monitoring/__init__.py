"""Statistics and maintenance of a SQLite file: sizes, indexes, free pages, vacuum."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.monitoring.maintenance import SQLiteMaintenance
    from dbctl.engines.sqlite.monitoring.sizes import SQLiteIndexMonitor, SQLiteSizes
