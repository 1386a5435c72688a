"""Schemas of MySQL and MariaDB for other engines, and derived from other engines."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.mysql.portable.schema import MySQLPortableSchemas
    from dbctl.engines.mysql.portable.screen import MySQLValueScreen
