"""SQLite: what is meant for reading is never opened for writing, and every write is one immediate transaction."""

from dbctl.engines.sqlite.reader import SQLiteReader
from dbctl.engines.sqlite.writer import SQLiteWriter

__all__ = ["SQLiteReader", "SQLiteWriter"]
