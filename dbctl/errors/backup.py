"""Failures of backups and restores: repository, storage, encryption, retention, files, and dumps that dbctl did not create."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class RepositoryNotConfiguredError(DbctlError, status=Exit.USAGE):
    sentence = "no backup repository is configured for {app}"
    remedy = 'Set repository = "DIR" (or "s3://BUCKET/PREFIX") under [apps.{app}.backup], or pass --repository DIR.'


class StorageSettingInvalidError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "{setting}: {reason}", "{hint}"


class StorageKeysMissingError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "{place} requires access keys: {reason}", "{hint}"


class StorageIncompatibleError(DbctlError, status=Exit.USAGE):
    sentence = "{place}: this storage cannot store backups: {reason}"
    remedy = "No backup was stored. Use a bucket without versioning, a newer version of the server, or other storage."


class ObjectLockMissingError(DbctlError, status=Exit.USAGE):
    sentence = "{place}: the bucket {bucket} has no object lock, so object_lock cannot lock backups there"
    remedy = (
        "Nothing was written. Create a bucket with object lock, or remove object_lock; see: `config show`"
    )


class RetentionNotConfiguredError(DbctlError, status=Exit.USAGE):
    sentence = "no retention rules are configured for the backups of {app}"
    remedy = "Set keep = {{ last = 7, daily = 14 }} under [apps.{app}.backup], or pass --keep-last 7."


class RepositoryMissingError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "backup directory not found: {place}"
    remedy = "Check that its disk is mounted, or create the directory with: `backup create`"


class RepositoryFailedError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "cannot access the backups in {place}: {reason}"
    remedy = "Check that it is mounted, and its owner and mode. {hint}"
    default_hint = "No backup was changed."


class StorageFailedError(DbctlError, status=Exit.UNREACHABLE):
    """Context: ``place``, ``reason`` and ``hint``; never the text of a server, which may repeat a key."""

    sentence, remedy = "cannot use {place}: {reason}", "{hint}"


class BackupMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "no backup {name!r} of {app} in {place}"
    remedy = "{hint}List backups with: `backup list`"


class BackupIdInvalidError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "{name!r} is a path, not the id of a backup"
    remedy = "Restore a file with: `restore apply --file {name}`"


class BackupPartialError(DbctlError, status=Exit.REFUSED):
    sentence = "backup {id} of {app} has only some tables ({tables}), not a whole database"
    remedy = "Nothing was changed. {hint}"


class NoBackupBeforeError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "{place} has no {kind} of {app} from {before} or earlier"
    remedy = "List backups with: `backup list`"


class FileNotRestorableError(DbctlError, status=Exit.USAGE):
    sentence, remedy = "cannot restore from {path}: {reason}", "Nothing was changed. {hint}"


class FileInvalidError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{path} is corrupt: {reason}"
    remedy = "Nothing was changed. {hint}"

    default_hint = "Create the file again, or use a backup; list backups with: `backup list`"


class FileUnsafeError(DbctlError, status=Exit.REFUSED):
    sentence = "other users can write to {path} (mode {mode})"
    remedy = "Nothing was changed. Check its content, then run: chmod go-w {quoted}"


class DecompressionLimitError(DbctlError, status=Exit.REFUSED):
    sentence = "{path} decompresses to over {limit:,} bytes, more than {ratio} times its size"
    remedy = "Nothing was changed. If you trust the file, decompress it and pass the result."


class ArchiveUnsafeError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{path} cannot be extracted safely: {reason}"
    remedy = "Nothing was extracted. Check where it came from."


class AlreadyAdoptedError(DbctlError, status=Exit.REFUSED):
    sentence = "{path} is already in the repository as backup {id}"
    remedy = "Show it with: `backup show {id}`"


class RepositoryUnsafeError(DbctlError, status=Exit.REFUSED):
    sentence = "other users can write to {place} (mode {mode}) and replace backups"
    remedy = "Nothing was changed. Run on {machine}: chmod go-w {quoted}; for a disk without modes, such as NTFS, mount it with umask=022."


class ClockImplausibleError(DbctlError, status=Exit.REFUSED):
    sentence = "the clock shows {now}, but {reason}"
    remedy = "Nothing was changed. Correct the clock; if it is right, {hint}"


class LogRequiredError(DbctlError, status=Exit.REFUSED):
    sentence = "{ids}: {reasons}, without which no later moment can be recovered"
    remedy = "Nothing was deleted. Prune the log with the copies that it follows: `backup prune`"


class LastBackupError(DbctlError, status=Exit.REFUSED):
    sentence = "{ids}: no other valid backup of {databases} would remain"
    remedy = "Nothing was changed. Create another one first with: `backup create`"


class BackupPinnedError(DbctlError, status=Exit.REFUSED):
    sentence = "backup {id} is pinned by {by}: {reason}"
    remedy = "Nothing was deleted. Remove the pin first with: `backup unpin {id}`"


class BackupRequiredError(DbctlError, status=Exit.REFUSED):
    sentence = "{ids}: the base of {dependents}, which would be lost"
    remedy = "Nothing was deleted. Delete them together with: `backup delete {ids} --with-dependents`"


class BaseMissingError(DbctlError, status=Exit.REFUSED):
    sentence = "backup {id} requires the base {base}, which {place} lacks"
    remedy = "Nothing was copied of it. Copy the base, too: `backup copy {base} {id} --to {place}`"


class BackupRetainedError(DbctlError, status=Exit.REFUSED):
    sentence = "{place}: backup {id} is {reason}"
    remedy = "Nothing was deleted. Delete it afterwards with: `backup delete {id}`"


class RepositoryUnreadableError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{place}: cannot decide what to delete, because {names} cannot be read"
    remedy = "Nothing was deleted. Move damaged backups to another location; find them with: `backup verify`"


class BackupCorruptError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "backup {id} of {app} is corrupt: {reason}"
    remedy = "Nothing was changed. Verify all backups with: `backup verify`"


class KeyInvalidError(DbctlError, status=Exit.USAGE):
    sentence = "{place}: {reason}"
    remedy = "Nothing was changed. age-keygen -o FILE creates an identity and prints its recipient (age1…)."


class PassphraseInvalidError(KeyInvalidError, status=Exit.USAGE):
    sentence = "{place}: {reason}"
    remedy = (
        "Nothing was changed. Write the passphrase on the first line of the file; other lines are ignored."
    )


class KeyWrongError(DbctlError, status=Exit.REFUSED):
    sentence = "cannot decrypt {file}: {reason}"
    remedy = "Nothing was changed. Older backups may require older keys; list the recipients of a backup with: `backup show ID`"


class EncryptionNotConfiguredError(DbctlError, status=Exit.USAGE):
    sentence = "no keys are configured for the backups of {app}"
    remedy = "Nothing was changed. Set recipients or a passphrase in [apps.{app}.backup.encrypt] of the configuration."


class RekeyRefusedError(DbctlError, status=Exit.REFUSED):
    sentence = "backup {id} cannot be encrypted again: {reason}"
    remedy = "It is unchanged, and requires its previous keys."


class BackupDiffersError(DbctlError, status=Exit.REFUSED):
    sentence = "{place} already has a different backup {id}: {reason}"
    remedy = "Nothing was changed. Move that backup to another location, or verify it with: `backup verify --repository {place}`"


class BackupFailedError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "backup of {target} failed: the copy is corrupt ({reason})"
    remedy = "No backup was created; earlier ones are unchanged. Check the database with: `integrity check`"


class BackupEmptyError(BackupFailedError):
    """A database without tables would replace the latest usable backup."""

    sentence = "backup of {target} failed: the database has no table"
    remedy = "No backup was created; earlier ones are unchanged. If tables were lost, restore the latest backup with: `restore apply latest`"


class SchemaOnlyUnknownError(DbctlError, status=Exit.USAGE):
    sentence = "schema_only of {app} names no table of its databases with {entries}"
    remedy = "No backup was created. Correct it under [apps.{app}.backup]. List tables with: `schema show`"


class SchemaOnlyRefusedError(DbctlError, status=Exit.USAGE):
    sentence = "a backup of {target} without the rows of {tables} could not be restored: {reasons}"
    remedy = "No backup was created. Under [apps.{app}.backup], add the tables that need these rows to schema_only, or remove the others."


class BackupShrunkenError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{losses}"
    remedy = "The backup is stored, and {larger} is pinned, so that it is not pruned. Compare the data with: `backup verify {larger} --against-live`; if the loss is intended, remove the pin with: `backup unpin {larger}`"


class BackupUnloadableError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "backup of {target} failed: no restore could load it ({reason})"
    remedy = "No backup was created; earlier ones are unchanged. {hint}"


class TargetIsSourceError(DbctlError, status=Exit.REFUSED):
    sentence = "{place} is {target} itself"
    remedy = "Nothing was changed. Pass another database with --to, or omit --to to restore the app's own."


class TargetNotEmptyError(DbctlError, status=Exit.REFUSED):
    sentence = "{place} is not empty"
    remedy = "Nothing was changed. Pass a new or empty database; copy and restore apply replace the content of one with --replace."


class SafetyBackupNotConfiguredError(DbctlError, status=Exit.USAGE):
    sentence = "{target}: {names} deletes data, and no repository is configured for a safety backup of {app}"
    remedy = 'Nothing was run. Set repository = "DIR" under [apps.{app}.backup], or pass --repository DIR or --no-backup.'


class UndoMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "cannot undo a restore of {app}: no safety backup of a restore in {place}"
    remedy = "{hint}"
    default_hint = "List backups with: `backup list`"


class NothingToUndoError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "no restore of {target} to undo: {reason}"
    remedy = "Nothing was changed. {hint}"


class RetainedDatabaseMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "{target}: the retained database {name} does not exist"
    remedy = "Nothing was changed. The restore ended before it, or it was dropped. Restore a backup with: `restore apply ID`"


class RolesMissingError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: the backup names {roles} that the server lacks: {names}"
    remedy = (
        "Nothing was changed. Create them with --roles create, leave out their grants and ownership with"
        " --roles skip, or replace one with --roles NAME=EXISTING."
    )


class RoleReplacementInvalidError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "{target}: --roles {name}={replacement}: {reason}"
    remedy = "Nothing was changed. List the roles of a backup with: `backup show ID`"


class RowsLeftOutError(DbctlError, status=Exit.REFUSED):
    sentence = "backup {id} has no rows of {tables}: schema_only left them out"
    remedy = "Nothing was changed. Choose a backup that has them; find it with: `backup list`"


class ForeignDumpRefusedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: a foreign dump is only loaded by a temporary role, but {reason}"
    remedy = "Nothing was run. {hint}"


class DumpOverreachesError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{target}: the dump requires rights outside its own database: {reason}"
    remedy = "The temporary role denied it; nothing outside the temporary database was changed. Check the dump. {hint}"


class TablesLostError(DbctlError, status=Exit.REFUSED):
    sentence = "{dump} lacks tables of {target}, which the restore would drop: {tables}"
    remedy = (
        "Nothing was changed. Restore rows of one table with --table NAME --merge missing, create a copy with --to URL,"
        " or drop these tables with --replace."
    )


class UnrecoverableError(DbctlError, status=Exit.CHECK_FAILED):
    sentence, remedy = "cannot salvage any row of {target}: {reason}", "{hint}"


class RestoreFailedError(DbctlError, status=Exit.FAILED):
    sentence = "restore of {target} failed: {reason}"
    remedy = "Nothing was changed. {hint}"


class TableNotRestoredError(DbctlError, status=Exit.REFUSED):
    sentence = "cannot restore rows of {id} into {table} of {target}: {reason}"
    remedy = "Nothing was changed. {hint}"


class RestorePartialError(DbctlError, status=Exit.PARTIAL):
    sentence = "{app}: restored {done}; {database} failed ({reason}) and rollback failed: {rollback_error}"
    remedy = "{hint}"


class CopyPartialError(DbctlError, status=Exit.PARTIAL):
    """Context: ``places``: the addresses of the copies that are in place, and ``revert_error``: why they remain."""

    sentence = (
        "{places}: replaced by the copy, and not reverted ({revert_error}), because {place} failed: {reason}"
    )
    remedy = (
        "The other destinations are unchanged. Repair the cause, and create all copies again, with --replace."
    )


class RestoreUnfinishedError(DbctlError, status=Exit.FAILED):
    sentence = "{target} may be only partially restored: {reason}"
    remedy = "The previous data is stored. Complete the restore by running it again, or return to the previous data with: `restore undo`"
