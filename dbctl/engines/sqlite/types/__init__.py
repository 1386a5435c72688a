"""Conversion of values for SQLite columns, and the forms of stored times."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.types.codec import RawText, find_affinity, parse_parameter
    from dbctl.engines.sqlite.types.times import SQLiteTimeRewriter, SQLiteTimes
