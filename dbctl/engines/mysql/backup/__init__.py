"""Backup of MySQL and MariaDB: dump, load, restore target, client programs."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.mysql.backup.dump import MySQLDumps
    from dbctl.engines.mysql.backup.restore_target import MySQLOutside
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "dump": "MySQLDumps",
            "restore_target": "MySQLOutside",
        },
    )
