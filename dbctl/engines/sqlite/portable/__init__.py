"""Schemas of SQLite for other engines, and derived from other engines."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.portable.schema import SQLitePortableSchemas
    from dbctl.engines.sqlite.portable.screen import SQLiteValueScreen
