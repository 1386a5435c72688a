"""Backups: create, verify, prune, copy, delete."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.backup.app_files import left_alone
    from dbctl.services.backup.copy import BackupsCopied, Copying
    from dbctl.services.backup.create import BackupCreated, Creation, make
    from dbctl.services.backup.delete import Deleted, Deletion
    from dbctl.services.backup.encryption import Keys, Sealing, is_encrypted
    from dbctl.services.backup.manifest import Kind, LeftOut, Manifest, Member
    from dbctl.services.backup.prune import Pruned, Pruning, has_rules, rules_of
    from dbctl.services.backup.reader import Unpacked, is_spare, unpacking
    from dbctl.services.backup.repository import (
        ID,
        LATEST,
        Backup,
        BackupShown,
        ListedKind,
        Repository,
        list_backups,
        partial,
    )
    from dbctl.services.backup.safety import Rescue, schema_of
    from dbctl.services.backup.sources import Source
    from dbctl.services.backup.status import AppBackups, BackupsStanding
    from dbctl.services.backup.verification_record import Drill
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "app_files": "left_alone",
            "copy": "BackupsCopied Copying",
            "create": "BackupCreated Creation make",
            "delete": "Deleted Deletion",
            "encryption": "Keys Sealing is_encrypted",
            "manifest": "Kind LeftOut Manifest Member",
            "prune": "Pruned Pruning has_rules rules_of",
            "reader": "Unpacked is_spare unpacking",
            "repository": "Backup BackupShown ID LATEST ListedKind Repository list_backups partial",
            "safety": "Rescue schema_of",
            "sources": "Source",
            "status": "AppBackups BackupsStanding",
            "verification_record": "Drill",
        },
    )
