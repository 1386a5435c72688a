"""Backups that dbctl did not create: detection, verification, adoption."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.backup.foreign.adopt import AdoptBackup, BackupsAdopted
    from dbctl.services.backup.foreign.import_file import MAX_COMPRESSION_RATIO, MIN_DECOMPRESSION_LIMIT
    from dbctl.services.backup.foreign.matching import CONTENT_FACT, find_missing_live_tables
    from dbctl.services.backup.foreign.staging import stat_file
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "adopt": "AdoptBackup BackupsAdopted",
            "import_file": "MAX_COMPRESSION_RATIO MIN_DECOMPRESSION_LIMIT",
            "matching": "CONTENT_FACT find_missing_live_tables",
            "staging": "stat_file",
        },
    )
