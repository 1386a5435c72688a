"""Backup of SQLite: copy, load, restore target, foreign dumps."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.sqlite.backup.dumps import SQLiteDumps
    from dbctl.engines.sqlite.backup.restore_target import SQLiteRestoreTarget
