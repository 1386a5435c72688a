"""Every expected failure of dbctl: code, exit code, sentence and hint."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.errors.backup import (
        AlreadyAdoptedError,
        ArchiveUnsafeError,
        BackupCorruptError,
        BackupDiffersError,
        BackupFailedError,
        BackupMissingError,
        BackupUnloadableError,
        ClockImplausibleError,
        DecompressionLimitError,
        FileInvalidError,
        FileNotRestorableError,
        FileUnsafeError,
        KeyInvalidError,
        KeyWrongError,
        LastBackupError,
        NoBackupBeforeError,
        PassphraseInvalidError,
        RepositoryFailedError,
        RepositoryMissingError,
        RepositoryNotConfiguredError,
        RepositoryUnreadableError,
        RepositoryUnsafeError,
        RetentionNotConfiguredError,
        SafetyBackupNotConfiguredError,
        StorageFailedError,
        StorageIncompatibleError,
        StorageKeysMissingError,
        StorageSettingInvalidError,
        TargetIsSourceError,
        TargetNotEmptyError,
    )
    from dbctl.errors.base import DbctlError, Exit, load_registry, worst_status
    from dbctl.errors.connection import (
        IN_DOUBT,
        BusyError,
        CascadeUnreachableError,
        ChangedWhileReadError,
        ClientFailedError,
        ClientMissingError,
        ClientOldError,
        CommitUnsyncedError,
        ConcurrentChangeError,
        ConstraintError,
        CorruptError,
        DatabaseMissingError,
        DiskFullError,
        ExternalIndexInvalidError,
        FileExistsAlreadyError,
        FileFailedError,
        FileMissingError,
        FileUnsyncedError,
        FolderMissingError,
        InsufficientSpaceError,
        InterruptedWriteError,
        NotADatabaseError,
        OutputFailedError,
        PoolerError,
        PrivilegeMissingError,
        QueryFailedError,
        QueryTimeoutError,
        ReadOnlyError,
        SecretColumnError,
        StoppedError,
        UncheckpointedWalError,
        UnreachableError,
        WriteConflictError,
    )
    from dbctl.errors.databases import (
        AlreadyExistsError,
        ColumnMissingError,
        ContentNullError,
        ContentUndecodableError,
        DatabaseNotEmptyError,
        DatabaseNotFoundError,
        ImportInvalidError,
        LimitExceededError,
        MaintenanceUnsafeError,
        PartialWriteError,
        RowNotFoundError,
        SameFileError,
        TableMissingError,
        TempSpaceFailedError,
        TimesAmbiguousError,
        TransitionRefusedError,
        VersionsTaggedError,
    )
    from dbctl.errors.migrations import (
        DownAllRefusedError,
        DuplicateMigrationNumberError,
        LedgerForeignError,
        LedgerMissingError,
        MigrationBrokenError,
        MigrationChangedError,
        MigrationFailedError,
        MigrationFilesMissingError,
        MigrationInDoubtError,
        MigrationInvalidError,
        MigrationIrreversibleError,
        MigrationMissingError,
        MigrationPartialError,
        MigrationPartiallyRevertedError,
        MigrationsAheadError,
        MigrationsMismatchError,
        MigrationsMissingError,
        MigrationsOutOfOrderError,
        MigrationsShippedError,
        MigrationStatementUnknownError,
        MigrationStepMissingError,
        MigrationStepsChangedError,
        MigrationVariantMismatchError,
        MigrationVariantUnknownError,
        RehearsalFailedError,
        RehearsalRefusedError,
        ReplayFailedError,
        ResetRefusedError,
        RowsLostError,
    )
    from dbctl.errors.restore import (
        BackupPartialError,
        DumpOverreachesError,
        ForeignDumpRefusedError,
        NothingToUndoError,
        RestoreFailedError,
        RestorePartialError,
        RestoreUnfinishedError,
        RetainedDatabaseMissingError,
        TableNotRestoredError,
        TablesLostError,
        UndoMissingError,
        UnrecoverableError,
    )
    from dbctl.errors.search import (
        EmbedderBusyError,
        EmbedderFailedError,
        EmbedderKeyMissingError,
        EmbedderNotConfiguredError,
        EmbedderPackageMissingError,
        EmbedderRefusedError,
        EmbedderUnreachableError,
        TextIndexForeignError,
        TextIndexInvalidError,
        VectorIndexUnsuitableError,
        VectorInvalidError,
        VectorMissingError,
    )
    from dbctl.errors.usage import (
        AmbiguousLoginError,
        AppAmbiguousError,
        AppMissingError,
        ConfigInvalidError,
        ConfigMissingError,
        ConfirmationMissingError,
        ConfirmationWrongError,
        DatabaseNotConfiguredError,
        DatabaseUnknownError,
        DeclinedError,
        DriverMissingError,
        FeatureMissingError,
        KeyMissingError,
        NoMatchError,
        NotSupportedError,
        PasswordWrongError,
        PlanChangedError,
        ProfileInvalidError,
        ProfileMissingError,
        ReportMissingError,
        RoleMissingError,
        RuleMissingError,
        SchemaMismatchError,
        SearchMissingError,
        SessionMissingError,
        UrlInvalidError,
        UsageError,
        UseDedicatedCommandError,
        UserMissingError,
        ValueInvalidError,
        WrongAppError,
    )
    from dbctl.errors.users import (
        ActingUserInactiveError,
        BuiltInRoleError,
        CategoryMissingError,
        DuplicateRowsError,
        LastAdminError,
        PermissionMissingError,
        RoleInUseError,
        SettingMissingError,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "backup": (
                "AlreadyAdoptedError ArchiveUnsafeError BackupCorruptError BackupDiffersError BackupFailedError "
                "BackupMissingError BackupUnloadableError ClockImplausibleError DecompressionLimitError "
                "FileInvalidError FileNotRestorableError FileUnsafeError KeyInvalidError KeyWrongError "
                "LastBackupError NoBackupBeforeError PassphraseInvalidError RepositoryFailedError "
                "RepositoryMissingError RepositoryNotConfiguredError RepositoryUnreadableError RepositoryUnsafeError "
                "RetentionNotConfiguredError SafetyBackupNotConfiguredError StorageFailedError "
                "StorageIncompatibleError StorageKeysMissingError StorageSettingInvalidError TargetIsSourceError "
                "TargetNotEmptyError"
            ),
            "base": "DbctlError Exit load_registry worst_status",
            "connection": (
                "BusyError CascadeUnreachableError ChangedWhileReadError ClientFailedError ClientMissingError "
                "ClientOldError CommitUnsyncedError ConcurrentChangeError ConstraintError CorruptError "
                "DatabaseMissingError DiskFullError ExternalIndexInvalidError FileExistsAlreadyError FileFailedError "
                "FileMissingError FileUnsyncedError FolderMissingError IN_DOUBT InsufficientSpaceError "
                "InterruptedWriteError NotADatabaseError OutputFailedError PoolerError PrivilegeMissingError "
                "QueryFailedError QueryTimeoutError ReadOnlyError SecretColumnError StoppedError "
                "UncheckpointedWalError UnreachableError WriteConflictError"
            ),
            "databases": (
                "AlreadyExistsError ColumnMissingError ContentNullError ContentUndecodableError DatabaseNotEmptyError "
                "DatabaseNotFoundError ImportInvalidError LimitExceededError MaintenanceUnsafeError PartialWriteError "
                "RowNotFoundError SameFileError TableMissingError TempSpaceFailedError TimesAmbiguousError "
                "TransitionRefusedError VersionsTaggedError"
            ),
            "migrations": (
                "DownAllRefusedError DuplicateMigrationNumberError LedgerForeignError LedgerMissingError "
                "MigrationBrokenError MigrationChangedError MigrationFailedError MigrationFilesMissingError "
                "MigrationInDoubtError MigrationInvalidError MigrationIrreversibleError MigrationMissingError "
                "MigrationPartialError MigrationPartiallyRevertedError MigrationStatementUnknownError "
                "MigrationStepMissingError MigrationStepsChangedError MigrationVariantMismatchError "
                "MigrationVariantUnknownError MigrationsAheadError MigrationsMismatchError MigrationsMissingError "
                "MigrationsOutOfOrderError MigrationsShippedError RehearsalFailedError RehearsalRefusedError "
                "ReplayFailedError ResetRefusedError RowsLostError"
            ),
            "restore": (
                "BackupPartialError DumpOverreachesError ForeignDumpRefusedError NothingToUndoError "
                "RestoreFailedError RestorePartialError RestoreUnfinishedError RetainedDatabaseMissingError "
                "TableNotRestoredError TablesLostError UndoMissingError UnrecoverableError"
            ),
            "search": (
                "EmbedderBusyError EmbedderFailedError EmbedderKeyMissingError EmbedderNotConfiguredError "
                "EmbedderPackageMissingError EmbedderRefusedError EmbedderUnreachableError TextIndexForeignError "
                "TextIndexInvalidError VectorIndexUnsuitableError VectorInvalidError VectorMissingError"
            ),
            "usage": (
                "AmbiguousLoginError AppAmbiguousError AppMissingError ConfigInvalidError ConfigMissingError "
                "ConfirmationMissingError ConfirmationWrongError DatabaseNotConfiguredError DatabaseUnknownError "
                "DeclinedError DriverMissingError FeatureMissingError KeyMissingError NoMatchError NotSupportedError "
                "PasswordWrongError PlanChangedError ProfileInvalidError ProfileMissingError ReportMissingError "
                "RoleMissingError RuleMissingError SchemaMismatchError SearchMissingError SessionMissingError "
                "UrlInvalidError UsageError UseDedicatedCommandError UserMissingError ValueInvalidError WrongAppError"
            ),
            "users": (
                "ActingUserInactiveError BuiltInRoleError CategoryMissingError DuplicateRowsError LastAdminError "
                "PermissionMissingError RoleInUseError SettingMissingError"
            ),
        },
    )
