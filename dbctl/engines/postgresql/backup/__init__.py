"""Backup of PostgreSQL: dump, load, restore target, client programs."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.postgresql.backup.dump import PostgreSQLDumper
    from dbctl.engines.postgresql.backup.names import scratch_name_pattern
    from dbctl.engines.postgresql.backup.restore_target import PostgreSQLRestoreTarget
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "dump": "PostgreSQLDumper",
            "names": "scratch_name_pattern",
            "restore_target": "PostgreSQLRestoreTarget",
        },
    )
