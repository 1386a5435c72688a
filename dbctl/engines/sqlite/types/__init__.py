"""Conversion of values for SQLite columns, and the forms of stored times."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.types.times import SQLiteTimeRewriter, SQLiteTimes
    from dbctl.engines.sqlite.types.values import RawText, find_affinity
