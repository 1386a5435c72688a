"""Backups: create, verify, prune, copy, delete."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.backup.app_files import report_unchanged_files
    from dbctl.services.backup.copy import BackupsCopied, CopyBackups
    from dbctl.services.backup.create import BackupCreated, CreateBackup, MemberSource, create_backup
    from dbctl.services.backup.delete import BackupsDeleted, DeleteBackups
    from dbctl.services.backup.encryption import DecryptionKeys, EncryptionPolicy, is_encrypted
    from dbctl.services.backup.manifest import Kind, Manifest, Member, OmittedDatabase
    from dbctl.services.backup.prune import BackupsPruned, PruneBackups, has_rules, retention_for
    from dbctl.services.backup.reader import MemberReader, needs_decoding, open_reader
    from dbctl.services.backup.repository import (
        ID,
        LATEST,
        Backup,
        BackupDetail,
        ListedKind,
        Repository,
        list_backups,
        partial_backup_error,
    )
    from dbctl.services.backup.safety import SafetyBackupSource, schema_fingerprint
    from dbctl.services.backup.sources import Source
    from dbctl.services.backup.status import AppBackups, BackupStatus
    from dbctl.services.backup.verification_record import Drill
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "app_files": "report_unchanged_files",
            "copy": "BackupsCopied CopyBackups",
            "create": "BackupCreated CreateBackup MemberSource create_backup",
            "delete": "BackupsDeleted DeleteBackups",
            "encryption": "DecryptionKeys EncryptionPolicy is_encrypted",
            "manifest": "Kind Manifest Member OmittedDatabase",
            "prune": "BackupsPruned PruneBackups has_rules retention_for",
            "reader": "MemberReader needs_decoding open_reader",
            "repository": "Backup BackupDetail ID LATEST ListedKind Repository list_backups partial_backup_error",
            "safety": "SafetyBackupSource schema_fingerprint",
            "sources": "Source",
            "status": "AppBackups BackupStatus",
            "verification_record": "Drill",
        },
    )
