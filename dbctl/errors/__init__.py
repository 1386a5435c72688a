"""Every expected failure of dbctl: code, exit status, sentence and hint."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.errors.backup import (
        AdoptedAlreadyError,
        ArchiveUnsafeError,
        BackupDiffersError,
        BackupFailedError,
        BackupLaterError,
        BackupMissingError,
        BackupUnloadableError,
        BackupUnsoundError,
        ClockDoubtedError,
        CopyFilledError,
        CopyOntoOwnError,
        FileUnfitError,
        FileUnsafeError,
        FileUnsoundError,
        KeyInvalidError,
        KeyWrongError,
        LastBackupError,
        PassphraseInvalidError,
        RepositoryFailedError,
        RepositoryMissingError,
        RepositoryUnreadError,
        RepositoryUnsafeError,
        RepositoryUnsetError,
        RetentionUnsetError,
        SafetyBackupUnsetError,
        StorageFailedError,
        StorageKeysMissingError,
        StorageUnfitError,
        StorageUnknownError,
        UnpacksTooFarError,
    )
    from dbctl.errors.base import DbctlError, Exit, gravest, load_registry
    from dbctl.errors.connection import (
        IN_DOUBT,
        AlongUnreachableError,
        BusyError,
        ChangedMeanwhileError,
        ChangedWhileReadError,
        ChangesLeftError,
        ClientFailedError,
        ClientMissingError,
        ClientOldError,
        CommitUnsyncedError,
        ConstraintError,
        CorruptError,
        CutOffWriteError,
        DatabaseMissingError,
        DiskFullError,
        FileExistsAlreadyError,
        FileFailedError,
        FileMissingError,
        FileUnsyncedError,
        FolderMissingError,
        NotADatabaseError,
        OutputFailedError,
        PoolerError,
        PrivilegeMissingError,
        QueryFailedError,
        ReadOnlyError,
        RoomMissingError,
        SecretAskedError,
        SidecarUnsoundError,
        StirredError,
        StoppedError,
        TimeUpError,
        UnreachableError,
    )
    from dbctl.errors.databases import (
        AlreadyExistsError,
        ColumnMissingError,
        ContentAbsentError,
        ContentUndecodableError,
        DatabaseNotEmptyError,
        DatabaseNotFoundError,
        HalfWrittenError,
        ImportInvalidError,
        LimitExceededError,
        MoveRefusedError,
        RowAbsentError,
        RowMissingError,
        SameFileError,
        ScratchFailedError,
        TableMissingError,
        TimesAmbiguousError,
        UpkeepUnsafeError,
        VersionsKeptError,
    )
    from dbctl.errors.migrations import (
        DownAllRefusedError,
        LedgerForeignError,
        LedgerMissingError,
        MigrationBrokenError,
        MigrationChangedError,
        MigrationFailedError,
        MigrationHalfBackError,
        MigrationHalfDoneError,
        MigrationInDoubtError,
        MigrationInvalidError,
        MigrationMissingError,
        MigrationOneWayError,
        MigrationsAheadError,
        MigrationShapeOtherError,
        MigrationShapeUnknownError,
        MigrationsMissingError,
        MigrationsOutOfOrderError,
        MigrationsShippedError,
        MigrationStepMissingError,
        MigrationStepsChangedError,
        MigrationsTwinnedError,
        MigrationsUnfitError,
        MigrationsUnsoundError,
        MigrationUnknownError,
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
        KeptMissingError,
        RecoverHopelessError,
        RestoreFailedError,
        RestoreHalfError,
        RestoreUnfinishedError,
        TableNotRestoredError,
        TablesLostError,
        UndoMissingError,
        UndoneAlreadyError,
        UndoNeedlessError,
        UndoNothingError,
    )
    from dbctl.errors.search import (
        EmbedderBusyError,
        EmbedderFailedError,
        EmbedderKeyMissingError,
        EmbedderPackageMissingError,
        EmbedderRefusedError,
        EmbedderUnreachableError,
        EmbedderUnsetError,
        TextIndexForeignError,
        TextIndexUnsoundError,
        VectorIndexUnfitError,
        VectorInvalidError,
        VectorMissingError,
    )
    from dbctl.errors.usage import (
        AbilityMissingError,
        AmbiguousLoginError,
        AppAmbiguousError,
        AppMissingError,
        ConfigInvalidError,
        ConfigMissingError,
        ConfirmationMissingError,
        ConfirmationWrongError,
        DatabaseUnknownError,
        DatabaseUnsetError,
        DeclinedError,
        DriverMissingError,
        KeyMissingError,
        NobodyMeantError,
        NotSupportedError,
        OwnCommandError,
        PasswordWrongError,
        PlanChangedError,
        ProfileInvalidError,
        ProfileMissingError,
        ReportMissingError,
        RoleMissingError,
        RuleMissingError,
        SchemaLacksError,
        SearchMissingError,
        SessionMissingError,
        UrlInvalidError,
        UsageError,
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
        RoleHeldError,
        SettingMissingError,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "backup": (
                "AdoptedAlreadyError ArchiveUnsafeError BackupDiffersError BackupFailedError BackupLaterError "
                "BackupMissingError BackupUnloadableError BackupUnsoundError ClockDoubtedError CopyFilledError "
                "CopyOntoOwnError FileUnfitError FileUnsafeError FileUnsoundError KeyInvalidError KeyWrongError "
                "LastBackupError PassphraseInvalidError RepositoryFailedError RepositoryMissingError "
                "RepositoryUnreadError RepositoryUnsafeError RepositoryUnsetError RetentionUnsetError "
                "SafetyBackupUnsetError StorageFailedError StorageKeysMissingError StorageUnfitError "
                "StorageUnknownError UnpacksTooFarError"
            ),
            "base": "DbctlError Exit gravest load_registry",
            "connection": (
                "AlongUnreachableError BusyError ChangedMeanwhileError ChangedWhileReadError ChangesLeftError "
                "ClientFailedError ClientMissingError ClientOldError CommitUnsyncedError ConstraintError CorruptError "
                "CutOffWriteError DatabaseMissingError DiskFullError FileExistsAlreadyError FileFailedError "
                "FileMissingError FileUnsyncedError FolderMissingError IN_DOUBT NotADatabaseError OutputFailedError "
                "PoolerError PrivilegeMissingError QueryFailedError ReadOnlyError RoomMissingError SecretAskedError "
                "SidecarUnsoundError StirredError StoppedError TimeUpError UnreachableError"
            ),
            "databases": (
                "AlreadyExistsError ColumnMissingError ContentAbsentError ContentUndecodableError "
                "DatabaseNotEmptyError DatabaseNotFoundError HalfWrittenError ImportInvalidError LimitExceededError "
                "MoveRefusedError RowAbsentError RowMissingError SameFileError ScratchFailedError TableMissingError "
                "TimesAmbiguousError UpkeepUnsafeError VersionsKeptError"
            ),
            "migrations": (
                "DownAllRefusedError LedgerForeignError LedgerMissingError MigrationBrokenError MigrationChangedError "
                "MigrationFailedError MigrationHalfBackError MigrationHalfDoneError MigrationInDoubtError "
                "MigrationInvalidError MigrationMissingError MigrationOneWayError MigrationShapeOtherError "
                "MigrationShapeUnknownError MigrationStepMissingError MigrationStepsChangedError "
                "MigrationUnknownError MigrationsAheadError MigrationsMissingError MigrationsOutOfOrderError "
                "MigrationsShippedError MigrationsTwinnedError MigrationsUnfitError MigrationsUnsoundError "
                "RehearsalFailedError RehearsalRefusedError ReplayFailedError ResetRefusedError RowsLostError"
            ),
            "restore": (
                "BackupPartialError DumpOverreachesError ForeignDumpRefusedError KeptMissingError "
                "RecoverHopelessError RestoreFailedError RestoreHalfError RestoreUnfinishedError "
                "TableNotRestoredError TablesLostError UndoMissingError UndoNeedlessError UndoNothingError "
                "UndoneAlreadyError"
            ),
            "search": (
                "EmbedderBusyError EmbedderFailedError EmbedderKeyMissingError EmbedderPackageMissingError "
                "EmbedderRefusedError EmbedderUnreachableError EmbedderUnsetError TextIndexForeignError "
                "TextIndexUnsoundError VectorIndexUnfitError VectorInvalidError VectorMissingError"
            ),
            "usage": (
                "AbilityMissingError AmbiguousLoginError AppAmbiguousError AppMissingError ConfigInvalidError "
                "ConfigMissingError ConfirmationMissingError ConfirmationWrongError DatabaseUnknownError "
                "DatabaseUnsetError DeclinedError DriverMissingError KeyMissingError NobodyMeantError "
                "NotSupportedError OwnCommandError PasswordWrongError PlanChangedError ProfileInvalidError "
                "ProfileMissingError ReportMissingError RoleMissingError RuleMissingError SchemaLacksError "
                "SearchMissingError SessionMissingError UrlInvalidError UsageError UserMissingError ValueInvalidError "
                "WrongAppError"
            ),
            "users": (
                "ActingUserInactiveError BuiltInRoleError CategoryMissingError DuplicateRowsError LastAdminError "
                "PermissionMissingError RoleHeldError SettingMissingError"
            ),
        },
    )
