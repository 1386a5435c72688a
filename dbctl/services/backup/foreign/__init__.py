"""Backups that dbctl did not create: detection, verification, adoption."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.backup.foreign.adopt import AdoptBackup, BackupsAdopted
    from dbctl.services.backup.foreign.detect import (
        CONTENT_FACT,
        MAX_COMPRESSION_RATIO,
        MIN_DECOMPRESSION_LIMIT,
        find_missing_live_tables,
        stat_file,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "adopt": "AdoptBackup BackupsAdopted",
            "detect": "CONTENT_FACT MAX_COMPRESSION_RATIO MIN_DECOMPRESSION_LIMIT find_missing_live_tables stat_file",
        },
    )
