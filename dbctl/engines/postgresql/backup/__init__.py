"""Backup of PostgreSQL: dump, load, restore target, client programs."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.postgresql.backup.dump import PostgreSQLDumper
    from dbctl.engines.postgresql.backup.restore_target import PostgreSQLRestoreTarget
