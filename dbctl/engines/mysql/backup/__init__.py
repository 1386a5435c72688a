"""Backup of MySQL and MariaDB: dump, load, restore target, client programs."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.mysql.backup.dump import MySQLDumper
    from dbctl.engines.mysql.backup.restore_target import MySQLRestoreTarget
