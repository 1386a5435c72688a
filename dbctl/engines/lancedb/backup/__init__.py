"""Backup of LanceDB: snapshot, archive, load, swap, verification."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.lancedb.backup.dump import FolderDumps
    from dbctl.engines.lancedb.backup.restore_target import LanceRestoreTarget
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "dump": "FolderDumps",
            "restore_target": "LanceRestoreTarget",
        },
    )
