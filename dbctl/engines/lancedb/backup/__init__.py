"""Backup of LanceDB: snapshot, archive, load, swap, verification."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.engines.lancedb.backup.dump import FolderDumps
    from dbctl.engines.lancedb.backup.restore_target import LanceRestoreTarget
