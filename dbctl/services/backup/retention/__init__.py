"""Retention of backups: the rules, their application, and pins."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.backup.retention.pin import BackupsPinned, PinBackups
    from dbctl.services.backup.retention.prune import (
        BackupsDeleted,
        BackupsPruned,
        DeleteBackups,
        PruneBackups,
    )
    from dbctl.services.backup.retention.rules import (
        database_retentions,
        has_rules,
        retention_for,
        rules_by_name,
    )
