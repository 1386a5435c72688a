"""Backups: create, verify, prune, copy, delete."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.backup.app_files import report_unchanged_files
    from dbctl.services.backup.copy import BackupsCopied, CopyBackups
    from dbctl.services.backup.create import BackupCreated, CreateBackup, create_backup
    from dbctl.services.backup.encryption import (
        DecryptionKeys,
        EncryptionPolicy,
        is_encrypted,
        load_encryption,
    )
    from dbctl.services.backup.manifest import Kind, Manifest, Member, OmittedDatabase
    from dbctl.services.backup.member_files import MemberReader, needs_decoding, open_reader
    from dbctl.services.backup.operation import BackupOperation
    from dbctl.services.backup.repository import (
        ID,
        LATEST,
        Backup,
        BackupDetail,
        ListedKind,
        Repository,
        list_backups,
    )
    from dbctl.services.backup.retention import (
        BackupsDeleted,
        BackupsPinned,
        BackupsPruned,
        DeleteBackups,
        PinBackups,
        PruneBackups,
        database_retentions,
        has_rules,
        retention_for,
        rules_by_name,
    )
    from dbctl.services.backup.safety import SafetyBackupSource, schema_fingerprint
    from dbctl.services.backup.sources import ByteProgress, MemberSource, Source, count_in_bytes, ignore_bytes
    from dbctl.services.backup.status import (
        DUE_CODES,
        AppBackups,
        BackupStatus,
        DatabaseBackups,
        Job,
        find_max_age,
    )
    from dbctl.services.backup.verification_record import Drill
    from dbctl.services.backup.verify import VerifyBackups
