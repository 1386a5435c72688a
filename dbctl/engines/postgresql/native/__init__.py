"""Copies of a database to PostgreSQL: the schema that pg_dump describes, and rows in the text of the server."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.postgresql.native.schema import PostgreSQLNativeSchemas
