"""Backup of PostgreSQL: dump, load, restore target, client programs."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.postgresql.backup.dump import PostgreSQLDumps
    from dbctl.engines.postgresql.backup.names import new_ones
    from dbctl.engines.postgresql.backup.restore_target import PostgreSQLOutside
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "dump": "PostgreSQLDumps",
            "names": "new_ones",
            "restore_target": "PostgreSQLOutside",
        },
    )
