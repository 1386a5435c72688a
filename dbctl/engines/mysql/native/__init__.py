"""Copies of a database to the same product: the statements of its schema, and rows as literals."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.mysql.native.schema import MySQLNativeSchemas
