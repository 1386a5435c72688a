"""Backup of SQLite: copy, load, restore target, foreign dumps."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.sqlite.backup.dumper import dump
    from dbctl.engines.sqlite.backup.dumps import SQLiteDumps
    from dbctl.engines.sqlite.backup.restore_target import SQLiteRestoreTarget
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "dumper": "dump",
            "dumps": "SQLiteDumps",
            "restore_target": "SQLiteRestoreTarget",
        },
    )
