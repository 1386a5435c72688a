"""Schemas of PostgreSQL for other engines, and derived from other engines."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.postgresql.portable.schema import PostgreSQLPortableSchemas
    from dbctl.engines.postgresql.portable.screen import PostgreSQLValueScreen
