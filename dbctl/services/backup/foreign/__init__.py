"""Backups that dbctl did not create: detection, verification, adoption."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.backup.foreign.adopt import AdoptBackup, BackupsAdopted
    from dbctl.services.backup.foreign.import_file import (
        MAX_COMPRESSION_RATIO,
        MIN_DECOMPRESSION_LIMIT,
        StagedBackup,
    )
    from dbctl.services.backup.foreign.matching import CONTENT_FACT, find_missing_live_tables
    from dbctl.services.backup.foreign.staging import repository_or_temp_dir, stat_file
