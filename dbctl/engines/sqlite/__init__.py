"""SQLite: readers open the file read-only, and every write is one immediate transaction."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sqlite.engine import ENGINE
    from dbctl.engines.sqlite.reader import SQLiteReader
    from dbctl.engines.sqlite.writer import SQLiteScratch, SQLiteWriter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "engine": "ENGINE",
            "reader": "SQLiteReader",
            "writer": "SQLiteScratch SQLiteWriter",
        },
    )
