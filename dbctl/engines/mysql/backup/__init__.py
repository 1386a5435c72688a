"""Backup of MySQL and MariaDB: dump, load, restore target, client programs."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.mysql.backup.dump import MySQLDumper
    from dbctl.engines.mysql.backup.restore_target import MySQLRestoreTarget
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "dump": "MySQLDumper",
            "restore_target": "MySQLRestoreTarget",
        },
    )
