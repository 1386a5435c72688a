"""Backup of LanceDB: snapshot, archive, load, swap, verification."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.lancedb.backup.dump import Copier, Dumping
    from dbctl.engines.lancedb.backup.restore_target import LanceOutside
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "dump": "Copier Dumping",
            "restore_target": "LanceOutside",
        },
    )
