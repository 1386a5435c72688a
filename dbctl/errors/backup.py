"""Failures of backups: repository, storage, encryption, retention, and files."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class RepositoryUnsetError(DbctlError):
    code, exit_status = "repository-unset", Exit.USAGE
    sentence = "nothing says where the backups of {app} are kept"
    remedy = 'Set repository = "DIR" under [apps.{app}.backup] in the configuration, or give --repository DIR; s3://BUCKET/PREFIX will do, too.'


class StorageUnknownError(DbctlError):
    code, exit_status = "storage-unknown", Exit.USAGE
    sentence, remedy = "{what}: {reason}", "{instead}"


class StorageKeysMissingError(DbctlError):
    code, exit_status = "storage-keys-missing", Exit.USAGE
    sentence = "{place} wants keys: {reason}"
    remedy = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them into a profile of ~/.aws/credentials and set AWS_PROFILE."


class StorageUnfitError(DbctlError):
    code, exit_status = "storage-unfit", Exit.USAGE
    sentence = "{place}: this storage is not fit for backups: {reason}"
    remedy = "Nothing was written that stays. Keep backups elsewhere, and let its provider tell whether a newer version can do it."


class RetentionUnsetError(DbctlError):
    code, exit_status = "retention-unset", Exit.USAGE
    sentence = "nothing says which backups of {app} to keep"
    remedy = (
        "Set keep = {{ last = 7, daily = 14 }} under [apps.{app}.backup], or give --keep-last 7 and the like."
    )


class RepositoryMissingError(DbctlError):
    code, exit_status = "repository-missing", Exit.UNREACHABLE
    sentence = "there is no directory {place} with backups"
    remedy = "Is it mounted? The first dbctl backup create or adopt makes it."


class RepositoryFailedError(DbctlError):
    code, exit_status = "repository-failed", Exit.UNREACHABLE
    sentence = "the backups in {place} cannot be reached: {reason}"
    remedy = "Check that it is mounted, its owner and its mode. No backup was touched."


class StorageFailedError(DbctlError):
    """Facts: ``place``, ``reason`` and ``instead``; never what a server wrote, which may repeat a key."""

    code, exit_status = "storage-failed", Exit.UNREACHABLE
    sentence, remedy = "{place} cannot be used: {reason}", "{instead}"


class BackupMissingError(DbctlError):
    code, exit_status = "backup-missing", Exit.NOT_FOUND
    sentence, remedy = "no backup {name!r} of {app} in {place}", "dbctl backup list shows them.{near}"


class BackupLaterError(DbctlError):
    code, exit_status = "backup-later", Exit.NOT_FOUND
    sentence = "{place} holds no {kind} of {app} from {before} or before"
    remedy = "dbctl backup list shows what it holds."


class FileUnfitError(DbctlError):
    code, exit_status = "file-unfit", Exit.USAGE
    sentence, remedy = "{path} cannot be restored from: {reason}", "Nothing was changed. {instead}"


class FileUnsoundError(DbctlError):
    code, exit_status = "file-unsound", Exit.UNSOUND
    sentence = "{path} is not sound: {reason}"
    remedy = "Nothing was changed. {instead}"

    def __init__(
        self, *, instead: str = "Make the file anew; dbctl backup list shows backups.", **facts: object
    ) -> None:
        super().__init__(instead=instead, **facts)


class FileUnsafeError(DbctlError):
    code, exit_status = "file-unsafe", Exit.REFUSED
    sentence = "others may write {path} (mode {mode}), and so change what it holds"
    remedy = "Nothing was changed. Look at what it holds and chmod go-w it, or copy it to where only you may write."


class UnpacksTooFarError(DbctlError):
    code, exit_status = "unpacks-too-far", Exit.REFUSED
    sentence = (
        "{path} unpacks to more than {most:,} bytes, which is more than {times} times what it takes packed"
    )
    remedy = "Nothing was changed. If that is as it should be, unpack it yourself and name what comes out."


class ArchiveUnsafeError(DbctlError):
    code, exit_status = "archive-unsafe", Exit.UNSOUND
    sentence = "{path} is no archive to be unpacked: {reason}"
    remedy = "Nothing was unpacked. dbctl writes no such archive; look who made it."


class AdoptedAlreadyError(DbctlError):
    code, exit_status = "adopted-already", Exit.REFUSED
    sentence, remedy = (
        "{path} is in the repository already: it is backup {id}",
        "dbctl backup show {id} tells of it.",
    )


class RepositoryUnsafeError(DbctlError):
    code, exit_status = "repository-unsafe", Exit.REFUSED
    sentence = "others may write into {place} (mode {mode}), and so exchange backups"
    remedy = "Nothing was changed. chmod go-w {place}"


class ClockDoubtedError(DbctlError):
    code, exit_status = "clock-doubted", Exit.REFUSED
    sentence = "the clock says {now}, and {reason}"
    remedy = "Nothing was changed. Correct the clock; if it is right: {instead}"


class LastBackupError(DbctlError):
    code, exit_status = "last-backup", Exit.REFUSED
    sentence = "{ids}: no other sound backup of {databases} would be left"
    remedy = "Nothing was changed. Make another one first: dbctl backup create"


class RepositoryUnreadError(DbctlError):
    code, exit_status = "repository-unread", Exit.UNSOUND
    sentence = "{place}: {names} cannot be read, so nothing tells what may go"
    remedy = "Nothing was deleted. dbctl backup verify tells more; move what is damaged elsewhere."


class BackupUnsoundError(DbctlError):
    code, exit_status = "backup-unsound", Exit.UNSOUND
    sentence = "backup {id} of {app} is not sound: {reason}"
    remedy = "Nothing was changed. dbctl backup verify looks over all of them."


class KeyInvalidError(DbctlError):
    code, exit_status = "key-invalid", Exit.USAGE
    sentence = "{place}: {reason}"
    remedy = "Nothing was changed. age-keygen -o FILE makes an identity, and tells its recipient (age1…)."


class PassphraseInvalidError(KeyInvalidError):
    code, exit_status = "passphrase-invalid", Exit.USAGE
    sentence = "{place}: {reason}"
    remedy = "Nothing was changed. The file holds the passphrase on its first line, and nothing else counts."


class KeyWrongError(DbctlError):
    code, exit_status = "key-wrong", Exit.REFUSED
    sentence = "{file} cannot be opened: {reason}"
    remedy = "Nothing was changed. dbctl backup show ID tells for whom a backup was encrypted; older ones may want older keys."


class BackupDiffersError(DbctlError):
    code, exit_status = "backup-differs", Exit.REFUSED
    sentence = "backup {id} is in {place} already, and not as it is here: {reason}"
    remedy = "Nothing was changed. dbctl backup verify --repository tells more of it; move it elsewhere to have it copied."


class BackupFailedError(DbctlError):
    code, exit_status = "backup-failed", Exit.UNSOUND
    sentence = "{target} could not be backed up: the copy is not sound ({reason})"
    remedy = (
        "No backup was made; earlier ones are as they were. dbctl integrity check tells more of the database."
    )


class BackupUnloadableError(DbctlError):
    code, exit_status = "backup-unloadable", Exit.UNSOUND
    sentence = "{target} could not be backed up: no restore could load it ({reason})"
    remedy = "No backup was made; earlier ones are as they were. {instead}"


class CopyOntoOwnError(DbctlError):
    code, exit_status = "copy-onto-own", Exit.REFUSED
    sentence = "{place} is {target} itself"
    remedy = "Nothing was changed. --to names another database; without it the app's own is restored."


class CopyFilledError(DbctlError):
    code, exit_status = "copy-filled", Exit.REFUSED
    sentence = "{place} holds something already"
    remedy = "Nothing was changed. Name a new database, or an empty one; --replace lets all go that is there."


class SafetyBackupUnsetError(DbctlError):
    code, exit_status = "safety-backup-unset", Exit.USAGE
    sentence = "{target}: {names} destroys what only a backup would bring back, and nothing says where those of {app} are kept"
    remedy = 'Nothing was run. Set repository = "DIR" under [apps.{app}.backup], give --repository DIR, or go without one by --no-backup.'
