"""Copies of a file to SQLite: the statements of its schema, and values with their types."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.native.schema import SQLiteNativeSchemas
