"""Every expected failure of dbctl: code, exit status, sentence and hint."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.errors.base import (
        IN_DOUBT,
        AbilityMissingError,
        ActingUserInactiveError,
        AdoptedAlreadyError,
        AlongUnreachableError,
        AlreadyExistsError,
        AmbiguousLoginError,
        AppAmbiguousError,
        AppMissingError,
        ArchiveUnsafeError,
        BackupDiffersError,
        BackupFailedError,
        BackupLaterError,
        BackupMissingError,
        BackupPartialError,
        BackupUnloadableError,
        BackupUnsoundError,
        BuiltInRoleError,
        BusyError,
        CategoryMissingError,
        ChangedMeanwhileError,
        ChangedWhileReadError,
        ChangesLeftError,
        ClientFailedError,
        ClientMissingError,
        ClientOldError,
        ClockDoubtedError,
        ColumnMissingError,
        CommitUnsyncedError,
        ConfigInvalidError,
        ConfigMissingError,
        ConfirmationMissingError,
        ConfirmationWrongError,
        ConstraintError,
        ContentAbsentError,
        ContentUndecodableError,
        CopyFilledError,
        CopyOntoOwnError,
        CorruptError,
        CutOffWriteError,
        DatabaseMissingError,
        DatabaseNotEmptyError,
        DatabaseNotFoundError,
        DatabaseUnknownError,
        DatabaseUnsetError,
        DbctlError,
        DeclinedError,
        DiskFullError,
        DownAllRefusedError,
        DriverMissingError,
        DumpOverreachesError,
        DuplicateRowsError,
        EmbedderBusyError,
        EmbedderFailedError,
        EmbedderKeyMissingError,
        EmbedderPackageMissingError,
        EmbedderRefusedError,
        EmbedderUnreachableError,
        EmbedderUnsetError,
        Exit,
        FileExistsAlreadyError,
        FileFailedError,
        FileMissingError,
        FileUnfitError,
        FileUnsafeError,
        FileUnsoundError,
        FileUnsyncedError,
        FolderMissingError,
        ForeignDumpRefusedError,
        HalfWrittenError,
        ImportInvalidError,
        KeptMissingError,
        KeyInvalidError,
        KeyMissingError,
        KeyWrongError,
        LastAdminError,
        LastBackupError,
        LedgerForeignError,
        LedgerMissingError,
        LimitExceededError,
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
        MoveRefusedError,
        NobodyMeantError,
        NotADatabaseError,
        NotSupportedError,
        OutputFailedError,
        OwnCommandError,
        PassphraseInvalidError,
        PasswordWrongError,
        PermissionMissingError,
        PlanChangedError,
        PoolerError,
        PrivilegeMissingError,
        ProfileInvalidError,
        ProfileMissingError,
        QueryFailedError,
        ReadOnlyError,
        RecoverHopelessError,
        RehearsalFailedError,
        RehearsalRefusedError,
        ReplayFailedError,
        ReportMissingError,
        RepositoryFailedError,
        RepositoryMissingError,
        RepositoryUnreadError,
        RepositoryUnsafeError,
        RepositoryUnsetError,
        ResetRefusedError,
        RestoreFailedError,
        RestoreHalfError,
        RestoreUnfinishedError,
        RetentionUnsetError,
        RoleHeldError,
        RoleMissingError,
        RoomMissingError,
        RowAbsentError,
        RowMissingError,
        RowsLostError,
        RuleMissingError,
        SafetyBackupUnsetError,
        SameFileError,
        SchemaLacksError,
        ScratchFailedError,
        SearchMissingError,
        SecretAskedError,
        SessionMissingError,
        SettingMissingError,
        SidecarUnsoundError,
        StirredError,
        StoppedError,
        StorageFailedError,
        StorageKeysMissingError,
        StorageUnfitError,
        StorageUnknownError,
        TableMissingError,
        TableNotRestoredError,
        TablesLostError,
        TextIndexForeignError,
        TextIndexUnsoundError,
        TimesAmbiguousError,
        TimeUpError,
        UndoMissingError,
        UndoneAlreadyError,
        UndoNeedlessError,
        UndoNothingError,
        UnpacksTooFarError,
        UnreachableError,
        UpkeepUnsafeError,
        UrlInvalidError,
        UsageError,
        UserMissingError,
        ValueInvalidError,
        VectorIndexUnfitError,
        VectorInvalidError,
        VectorMissingError,
        VersionsKeptError,
        WrongAppError,
        gravest,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "base": (
                "AbilityMissingError ActingUserInactiveError AdoptedAlreadyError AlongUnreachableError "
                "AlreadyExistsError AmbiguousLoginError AppAmbiguousError AppMissingError ArchiveUnsafeError "
                "BackupDiffersError BackupFailedError BackupLaterError BackupMissingError BackupPartialError "
                "BackupUnloadableError BackupUnsoundError BuiltInRoleError BusyError CategoryMissingError "
                "ChangedMeanwhileError ChangedWhileReadError ChangesLeftError ClientFailedError ClientMissingError "
                "ClientOldError ClockDoubtedError ColumnMissingError CommitUnsyncedError ConfigInvalidError "
                "ConfigMissingError ConfirmationMissingError ConfirmationWrongError ConstraintError "
                "ContentAbsentError ContentUndecodableError CopyFilledError CopyOntoOwnError CorruptError "
                "CutOffWriteError DatabaseMissingError DatabaseNotEmptyError DatabaseNotFoundError "
                "DatabaseUnknownError DatabaseUnsetError DbctlError DeclinedError DiskFullError DownAllRefusedError "
                "DriverMissingError DumpOverreachesError DuplicateRowsError EmbedderBusyError EmbedderFailedError "
                "EmbedderKeyMissingError EmbedderPackageMissingError EmbedderRefusedError EmbedderUnreachableError "
                "EmbedderUnsetError Exit FileExistsAlreadyError FileFailedError FileMissingError FileUnfitError "
                "FileUnsafeError FileUnsoundError FileUnsyncedError FolderMissingError ForeignDumpRefusedError "
                "HalfWrittenError IN_DOUBT ImportInvalidError KeptMissingError KeyInvalidError KeyMissingError "
                "KeyWrongError LastAdminError LastBackupError LedgerForeignError LedgerMissingError "
                "LimitExceededError MigrationBrokenError MigrationChangedError MigrationFailedError "
                "MigrationHalfBackError MigrationHalfDoneError MigrationInDoubtError MigrationInvalidError "
                "MigrationMissingError MigrationOneWayError MigrationShapeOtherError MigrationShapeUnknownError "
                "MigrationStepMissingError MigrationStepsChangedError MigrationUnknownError MigrationsAheadError "
                "MigrationsMissingError MigrationsOutOfOrderError MigrationsShippedError MigrationsTwinnedError "
                "MigrationsUnfitError MigrationsUnsoundError MoveRefusedError NobodyMeantError NotADatabaseError "
                "NotSupportedError OutputFailedError OwnCommandError PassphraseInvalidError PasswordWrongError "
                "PermissionMissingError PlanChangedError PoolerError PrivilegeMissingError ProfileInvalidError "
                "ProfileMissingError QueryFailedError ReadOnlyError RecoverHopelessError RehearsalFailedError "
                "RehearsalRefusedError ReplayFailedError ReportMissingError RepositoryFailedError "
                "RepositoryMissingError RepositoryUnreadError RepositoryUnsafeError RepositoryUnsetError "
                "ResetRefusedError RestoreFailedError RestoreHalfError RestoreUnfinishedError RetentionUnsetError "
                "RoleHeldError RoleMissingError RoomMissingError RowAbsentError RowMissingError RowsLostError "
                "RuleMissingError SafetyBackupUnsetError SameFileError SchemaLacksError ScratchFailedError "
                "SearchMissingError SecretAskedError SessionMissingError SettingMissingError SidecarUnsoundError "
                "StirredError StoppedError StorageFailedError StorageKeysMissingError StorageUnfitError "
                "StorageUnknownError TableMissingError TableNotRestoredError TablesLostError TextIndexForeignError "
                "TextIndexUnsoundError TimeUpError TimesAmbiguousError UndoMissingError UndoNeedlessError "
                "UndoNothingError UndoneAlreadyError UnpacksTooFarError UnreachableError UpkeepUnsafeError "
                "UrlInvalidError UsageError UserMissingError ValueInvalidError VectorIndexUnfitError "
                "VectorInvalidError VectorMissingError VersionsKeptError WrongAppError gravest"
            ),
        },
    )
