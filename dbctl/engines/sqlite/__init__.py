"""SQLite: readers open the file read-only, and every write is one immediate transaction."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.engine import ENGINE
    from dbctl.engines.sqlite.reader import SQLiteReader
    from dbctl.engines.sqlite.writer import SQLiteScratch, SQLiteWriter
