"""Every expected failure of dbctl: its code word, exit status, sentence and remedy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import ClassVar


class Exit(IntEnum):
    """Exit statuses, few and by kind; a script may rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    ACTION_NEEDED = 3
    UNSOUND = 4
    NOT_FOUND = 5
    REFUSED = 6
    UNREACHABLE = 10
    BUSY = 11
    PARTIAL = 12
    BROKEN_PIPE = 141


#: The gravest first, where several targets failed.
GRAVITY = (
    Exit.FAILED,
    Exit.UNREACHABLE,
    Exit.BUSY,
    Exit.UNSOUND,
    Exit.REFUSED,
    Exit.NOT_FOUND,
    Exit.USAGE,
    Exit.ACTION_NEEDED,
)


def gravest(statuses: Sequence[Exit]) -> Exit:
    """Return the one that stands for all of several targets."""
    return next((status for status in GRAVITY if status in statuses), Exit.OK)


LONGEST_LIST = 20  #: details of a message; more are counted


class DbctlError(Exception):
    """Base of every expected failure: a raise names facts, the class owns the words.

    Both ``sentence`` and ``remedy`` are format strings over the facts.
    """

    code: ClassVar[str] = "internal"
    exit_status: ClassVar[Exit] = Exit.FAILED
    sentence: ClassVar[str] = "dbctl met a fault of its own: {detail}"
    remedy: ClassVar[str] = "--verbose prints where; please report it."
    registry: ClassVar[dict[str, type[DbctlError]]] = {}

    def __init__(self, **facts: object) -> None:
        super().__init__(self.sentence.format(**facts))
        self.facts = facts
        self.details: Sequence[
            str
        ] = ()  #: further lines of the message, where there are several things to tell
        self.hint = self.remedy.format(**facts)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.args), *self.details])

    def __init_subclass__(cls) -> None:
        if DbctlError.registry.setdefault(cls.code, cls) is not cls:
            raise TypeError(f"error code {cls.code!r} is declared twice")


# Words, values and configuration ------------------------------------------------------------------------------


class UsageError(DbctlError):
    code, exit_status = "usage", Exit.USAGE
    sentence, remedy = "{detail}", "--help lists the arguments and options of a command."


class ValueInvalidError(DbctlError):
    code, exit_status = "value-invalid", Exit.USAGE
    sentence, remedy = "{what} {value} is not acceptable: {reason}", "Nothing was changed."


class ImportInvalidError(DbctlError):
    code, exit_status = "import-invalid", Exit.USAGE
    sentence, remedy = "{count} rows of {file} cannot be imported", "Nothing was imported."

    def __init__(self, *, wrong: Sequence[str], rows: int, file: str) -> None:
        """Take every error with its line; a few of many are told, the others counted."""
        super().__init__(count=f"{len(wrong)} of {rows}", file=file)
        more = [f"… and {len(wrong) - LONGEST_LIST} more"] if len(wrong) > LONGEST_LIST else []
        self.details = [*wrong[:LONGEST_LIST], *more]


class ColumnMissingError(DbctlError):
    code, exit_status = "column-missing", Exit.USAGE
    sentence, remedy = "{table} has no column {column!r}", "It has: {names}."


class OwnCommandError(DbctlError):
    code, exit_status = "own-command", Exit.USAGE
    sentence, remedy = "{what} has rules of its own, which this would pass by", "dbctl {command} keeps them."


class ConfigMissingError(DbctlError):
    code, exit_status = "config-missing", Exit.USAGE
    sentence = "no configuration was found ({looked})"
    remedy = "dbctl init PROFILE DIR writes one; or give --profile NAME and --url DATABASE=PATH, or --url alone for what needs to know no app."


class ConfigInvalidError(DbctlError):
    code, exit_status = "config-invalid", Exit.USAGE
    sentence = "{file}, line {line}, {key}: {reason}"
    remedy = "dbctl apps check looks over the whole configuration."


class AppAmbiguousError(DbctlError):
    code, exit_status = "app-ambiguous", Exit.USAGE
    sentence, remedy = "several apps are configured ({names})", "Say which one: --app NAME, or DBCTL_APP."


class AppMissingError(DbctlError):
    code, exit_status = "app-missing", Exit.NOT_FOUND
    sentence, remedy = "no app {name!r} in {file}", "It knows: {names}."


class DatabaseUnknownError(DbctlError):
    code, exit_status = "database-unknown", Exit.NOT_FOUND
    sentence, remedy = "{app} has no database {name!r}", "Its databases: {names}."


class DatabaseUnsetError(DbctlError):
    code, exit_status = "database-unset", Exit.USAGE
    sentence = "{app} does not say where its database {name!r} is"
    remedy = "Add it under [apps.{app}.databases], or give --url {name}=PATH."


class ProfileMissingError(DbctlError):
    code, exit_status = "profile-missing", Exit.NOT_FOUND
    sentence, remedy = "no profile {name!r}", "Known: {names}; or give the path of a profile file (.toml)."


class ProfileInvalidError(DbctlError):
    code, exit_status = "profile-invalid", Exit.USAGE
    sentence = "{file}, line {line}, {key}: {reason}"
    remedy = "dbctl apps check {file} explains every mistake of a profile."


class UrlInvalidError(DbctlError):
    code, exit_status = "url-invalid", Exit.USAGE
    sentence = "the database URL is not understood: {reason}"
    remedy = "Write a path, sqlite:///PATH, or SCHEME://USER:PASSWORD@HOST:PORT/NAME with /, #, ? and @ in a password percent-encoded."


class NotSupportedError(DbctlError):
    code, exit_status = "not-supported", Exit.USAGE
    sentence, remedy = "{what} is not possible with {by}", "{instead}"


class DriverMissingError(DbctlError):
    code, exit_status = "driver-missing", Exit.USAGE
    sentence = "opening {target} wants {driver}, which is not installed ({reason})"
    remedy = "pip install 'dbctl[{extra}]' installs it; with pipx: pipx inject dbctl '{driver}'."


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


class EmbedderUnsetError(DbctlError):
    code, exit_status = "embedder-unset", Exit.USAGE
    sentence = "nothing says what makes vectors of words for {app}"
    remedy = (
        'Write [apps.{app}.embedder] into the configuration, with kind = "gemini", "openai", "command" or "local"'
        "{model}. Without a model: --similar-to ID, or --vector FILE."
    )


class EmbedderKeyMissingError(DbctlError):
    """Never says a word of what may be a key."""

    code, exit_status = "embedder-key-missing", Exit.USAGE
    sentence = "the embedder of {app} has no key from {place}: {reason}"
    remedy = 'Set that variable, or write key_file = "FILE" under [apps.{app}.embedder] and the key on the file\'s first line.'


class EmbedderPackageMissingError(DbctlError):
    code, exit_status = "embedder-package-missing", Exit.USAGE
    sentence = "the embedder of {app} wants the package {package}, which cannot be loaded ({reason})"
    remedy = "pip install {package} into the environment of dbctl; with pipx: pipx inject dbctl {package}."


class EmbedderFailedError(DbctlError):
    """Never says what a service wrote, which may repeat a key."""

    code, exit_status = "embedder-failed", Exit.FAILED
    sentence, remedy = "{place} made no vector: {reason}", "{instead}"


class EmbedderUnreachableError(DbctlError):
    code, exit_status = "embedder-unreachable", Exit.UNREACHABLE
    sentence, remedy = "{place} cannot be asked for a vector: {reason}", "{instead}"


class EmbedderBusyError(DbctlError):
    code, exit_status = "embedder-busy", Exit.BUSY
    sentence = "{place} takes no more questions for now: {reason}"
    remedy = "Try again later, or give it longer: timeout under [apps.NAME.embedder]."


class EmbedderRefusedError(DbctlError):
    code, exit_status = "embedder-refused", Exit.REFUSED
    sentence = "{place} refuses the key from {key}: {reason}"
    remedy = "Check the key, and what it is allowed to do."


class VectorInvalidError(DbctlError):
    code, exit_status = "vector-invalid", Exit.USAGE
    sentence, remedy = "{place} is no vector that can be searched by: {reason}", "{instead}"


class RetentionUnsetError(DbctlError):
    code, exit_status = "retention-unset", Exit.USAGE
    sentence = "nothing says which backups of {app} to keep"
    remedy = (
        "Set keep = {{ last = 7, daily = 14 }} under [apps.{app}.backup], or give --keep-last 7 and the like."
    )


class AbilityMissingError(DbctlError):
    code, exit_status = "ability-missing", Exit.USAGE
    sentence = "{app} ({profile}) has no {ability}"
    remedy = "{instead} Profiles that have them: {others}."

    def __init__(self, *, instead: str = "", **facts: object) -> None:
        super().__init__(instead=instead, **facts)
        self.hint = self.hint.lstrip()


class SchemaLacksError(DbctlError):
    code, exit_status = "schema-lacks", Exit.USAGE
    sentence = "{target} lacks {what}, which {purpose} needs"
    remedy = "dbctl apps check compares the profile with the live database; where the app has migrations, some may be pending (dbctl migrate status)."


class WrongAppError(DbctlError):
    code, exit_status = "wrong-app", Exit.USAGE
    sentence = "{target} is a database, but not one of {profile}: it lacks {what}"
    remedy = "{instead}"


# Databases -----------------------------------------------------------------------------------------------------


class DatabaseMissingError(DbctlError):
    code, exit_status = "database-missing", Exit.UNREACHABLE
    sentence, remedy = (
        "{target}: there is no file {path}",
        "{instead}",
    )

    def __init__(self, *, target: object, path: object, instead: str = "", **facts: object) -> None:
        folder = Path(str(path)).parent
        if not instead and not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises where it may not look
            instead = f"The directory {folder} is missing. Check the path, and whether its disk is mounted."
        instead = instead or (
            "Check the path in the configuration. dbctl backup list lists what can be restored;"
            " for an app with migrations, dbctl migrate up creates a new one."
        )
        super().__init__(target=target, path=path, instead=instead, **facts)


class FolderMissingError(DatabaseMissingError):
    code = "folder-missing"
    sentence = "{target}: there is no folder {path}"
    remedy = "Check the path in the configuration, and whether its disk is mounted. An app makes it with the first that it keeps there; dbctl backup list shows what can be restored."


class UnreachableError(DbctlError):
    code, exit_status = "unreachable", Exit.UNREACHABLE
    sentence, remedy = "{target} cannot be opened: {reason}", "{instead}"


class AlongUnreachableError(DbctlError):
    code, exit_status = "along-unreachable", Exit.UNREACHABLE
    sentence = "{target} may hold what goes along, and cannot be asked: {reason}"
    remedy = "{instead} --db {to} deletes in that database alone, and dbctl integrity cross tells what stays behind."


class PoolerError(DbctlError):
    code, exit_status = "pooler", Exit.USAGE
    sentence = (
        "{target} is reached through a connection pooler, which may give every statement another session"
    )
    remedy = "Give the address of the server itself; or, where the pooler keeps one session for each client, pool_mode=session behind the ? of the URL."


class CutOffWriteError(DbctlError):
    code, exit_status = "cut-off-write", Exit.UNREACHABLE
    sentence = "{target} cannot be read: a write to it was cut off and has to be rolled back first, which reading may not do"
    remedy = "Start the program that owns it; or, if dbctl may write it, run this as a user who may write its files."


class ChangesLeftError(UnreachableError):
    code, exit_status = "changes-left", Exit.UNREACHABLE
    sentence = "{target} was not read: a program that was killed left changes in {file}, and to read them a file has to be made beside it"
    remedy = "Start the program that owns it, which takes them in; or read it with a command that may leave a file, such as dbctl stats overview."


class NotADatabaseError(DbctlError):
    code, exit_status = "not-a-database", Exit.UNSOUND
    sentence, remedy = (
        "{target}: {path} is no {engine} database",
        "Check the path; a backup may have to be restored.",
    )


class CorruptError(DbctlError):
    code, exit_status = "corrupt", Exit.UNSOUND
    sentence = "{target} is damaged: {reason}"
    remedy = "Stop the app, keep a copy of every file as it is, and restore a backup; without one, dbctl restore recover reads what a file of SQLite still holds."


class BusyError(DbctlError):
    code, exit_status = "busy", Exit.BUSY
    sentence = "{target} is locked{holder}; waited {waited} s"
    remedy = "Nothing was changed. Try again, or wait longer with --timeout SECONDS."


class StirredError(BusyError):
    code = "stirred"
    sentence = "{target} is written so often that what it held cannot be kept"
    remedy = "Nothing was changed. Try again, or stop the app for as long as it takes."


class ChangedMeanwhileError(DbctlError):
    code, exit_status = "changed-meanwhile", Exit.BUSY
    sentence = "{target} was changed by somebody else meanwhile, so that this could not be done"
    remedy = "Nothing of it was done. Run it again."


class ChangedWhileReadError(DbctlError):
    code, exit_status = "changed-while-read", Exit.BUSY
    sentence = "{target} was changed by somebody else while it was read"
    remedy = "What was given out so far may be of two moments: throw it away, and run it again."


class VectorIndexUnfitError(DbctlError):
    code, exit_status = "vector-index-unfit", Exit.REFUSED
    sentence, remedy = "{target}: no index is made of {name}: {reason}", "{instead} Nothing was changed."


class VersionsKeptError(DbctlError):
    code, exit_status = "versions-kept", Exit.REFUSED
    sentence = "{target}: versions that would be taken away are kept by a name: {tags}"
    remedy = "A backup may be reading them: wait for its end; what nobody needs any more, take the name away from. Nothing was taken away."


class HalfWrittenError(DbctlError):
    code, exit_status = "half-written", Exit.FAILED
    sentence = "{target}: the change failed half way ({reason}), and somebody else wrote {tables} meanwhile, so that what was written there by then stays"
    remedy = "Stop the app, look at the rows that the change was about, and run it again."


class ReadOnlyError(DbctlError):
    code, exit_status = "read-only", Exit.REFUSED
    sentence, remedy = "{target} is read-only: {reason}", "{instead}"


class PrivilegeMissingError(DbctlError):
    code, exit_status = "privilege-missing", Exit.REFUSED
    sentence, remedy = "{target} refused it: {reason}", "{instead}"


class DiskFullError(DbctlError):
    code, exit_status = "disk-full", Exit.FAILED
    sentence, remedy = "{target}: the disk is full", "Nothing was changed. Free some space and run it again."


class RoomMissingError(DbctlError):
    """Facts: ``place``, and in bytes ``need`` and ``room``."""

    code, exit_status = "room-missing", Exit.FAILED
    sentence = "{place} has room for {room:,} bytes, and {need:,} are needed"
    remedy = "Nothing was changed. Free some space and run it again."


class ScratchFailedError(DbctlError):
    code, exit_status = "scratch-failed", Exit.FAILED
    sentence = "{target} cannot be unpacked for a moment: {reason}"
    remedy = "Nothing was changed, and it says nothing about the backup. Look after the disk."


class QueryFailedError(DbctlError):
    code, exit_status = "query-failed", Exit.FAILED
    sentence, remedy = "{target} refused a statement: {reason}", "Nothing was changed. {instead}"

    def __init__(
        self, *, instead: str = "dbctl apps check compares profile and database.", **facts: object
    ) -> None:
        super().__init__(instead=instead, **facts)


class TimeUpError(DbctlError):
    code, exit_status = "time-up", Exit.REFUSED
    sentence, remedy = "{target}: it took longer than {within}", "Nothing was changed. {instead}"


class SecretAskedError(DbctlError):
    code, exit_status = "secret-asked", Exit.REFUSED
    sentence = "{target}: it reads {what}, a secret"
    remedy = "Name the columns that you want, or say --secrets."


class MoveRefusedError(DbctlError):
    code, exit_status = "move-refused", Exit.REFUSED
    sentence = "{target}: {column} may not go from {before} to {after}"
    remedy = "From {before} it may go to: {moves}.{hint}"


class ConstraintError(DbctlError):
    code, exit_status = "constraint", Exit.REFUSED
    sentence, remedy = "{target} refused the change: {reason}", "Nothing was changed."


class DuplicateRowsError(DbctlError):
    code, exit_status = "duplicate-rows", Exit.REFUSED
    sentence = "{target}: {login} cannot take over {rows}: rows with the same key are there already"
    remedy = "Nothing was changed. Change these rows first, or let them be deleted with the user: --delete-duplicates."


class FileFailedError(DbctlError):
    code, exit_status = "file-failed", Exit.FAILED
    sentence, remedy = "{path}: {reason}", "Nothing was changed."


class ClientMissingError(DbctlError):
    code, exit_status = "client-missing", Exit.UNREACHABLE
    sentence = "{target}: {program} is not installed"
    remedy = "Nothing was changed. Install it: {package} on Debian; its version has to be {version} or later."


class ClientOldError(DbctlError):
    code, exit_status = "client-old", Exit.REFUSED
    sentence = "{target}: {program} is of version {version}, and what it is for is of version {wanted}"
    remedy = "Nothing was changed. Install {package}, or run dbctl where it is installed."


class ClientFailedError(DbctlError):
    code, exit_status = "client-failed", Exit.FAILED
    sentence, remedy = "{target}: {program} failed: {reason}", "{instead}"


class FileUnsyncedError(DbctlError):
    code, exit_status = "file-unsynced", Exit.FAILED
    sentence = "{path} is written, but the disk did not confirm its name: {reason}"
    remedy = "It is there now; whether it is there after a power failure is not known. Look after the disk."


class CommitUnsyncedError(DbctlError):
    code, exit_status = "commit-unsynced", Exit.FAILED
    sentence = "{target}: a change was written, and the disk did not confirm it: {reason}"
    remedy = "It is not there now, and may be once all who have {path} open are gone. Look after the disk, and then whether it was made before you run it again."


class OutputFailedError(DbctlError):
    code, exit_status = "output-failed", Exit.FAILED
    sentence = "standard output: {reason}"
    remedy = "The answer is incomplete; what the command changed stays changed."


class StoppedError(DbctlError):
    """Ends with 128 + the number of the signal."""

    code, exit_status = "interrupted", Exit.FAILED
    sentence, remedy = "interrupted ({by})", "What was not committed was rolled back."


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


class FileMissingError(DbctlError):
    code, exit_status = "file-missing", Exit.NOT_FOUND
    sentence, remedy = "there is no {what} {path}", "Check the path."


class FileExistsAlreadyError(DbctlError):
    code, exit_status = "file-exists", Exit.REFUSED
    sentence, remedy = "{path} exists already", "Nothing was changed. {instead}"


# Things that are not there ---------------------------------------------------------------------------------------


class UserMissingError(DbctlError):
    code, exit_status = "user-missing", Exit.NOT_FOUND
    sentence, remedy = "no user {login!r} in {target}", "dbctl users list shows them."


class RoleMissingError(DbctlError):
    code, exit_status = "role-missing", Exit.NOT_FOUND
    sentence, remedy = "no role {name!r} in {target}", "Known: {names}."


class PermissionMissingError(DbctlError):
    code, exit_status = "permission-missing", Exit.NOT_FOUND
    sentence, remedy = "no permission {name!r} in {target}", "dbctl roles permissions lists them.{near}"


class SettingMissingError(DbctlError):
    code, exit_status = "setting-missing", Exit.NOT_FOUND
    sentence, remedy = "no setting {key!r} in {target}", "dbctl settings list shows them.{near}"


class CategoryMissingError(DbctlError):
    code, exit_status = "category-missing", Exit.NOT_FOUND
    sentence, remedy = "no settings of category {name!r} in {target}", "Known: {names}."


class SearchMissingError(DbctlError):
    code, exit_status = "search-missing", Exit.NOT_FOUND
    sentence, remedy = "{app} has no search {name!r}", "It has: {names}."


class ReportMissingError(DbctlError):
    code, exit_status = "report-missing", Exit.NOT_FOUND
    sentence, remedy = "{app} has no report {name!r}", "It has: {names}."


class RuleMissingError(DbctlError):
    code, exit_status = "rule-missing", Exit.NOT_FOUND
    sentence, remedy = "{app} has no cleanup rule {name!r}", "It has: {names}."


class RowMissingError(DbctlError):
    code, exit_status = "row-missing", Exit.NOT_FOUND
    sentence, remedy = "no {what} {id!r} in {target}", "dbctl search {what} WORDS finds them."


class VectorMissingError(DbctlError):
    code, exit_status = "vector-missing", Exit.NOT_FOUND
    sentence, remedy = "{target} has no vector of {what} {id!r}", "{instead}"


class NobodyMeantError(DbctlError):
    code, exit_status = "nobody-meant", Exit.NOT_FOUND
    sentence, remedy = "no {what} {id!r} in {places}", "Ids are compared letter by letter."


class TableMissingError(DbctlError):
    code, exit_status = "table-missing", Exit.NOT_FOUND
    sentence = "no table {name!r} in {target}"
    remedy = "dbctl stats tables lists them; --db names another database.{near}"


class ContentAbsentError(DbctlError):
    code, exit_status = "content-absent", Exit.NOT_FOUND
    sentence, remedy = "{column} of {table} {key} in {target} is NULL", "Nothing was written."


class RowAbsentError(DbctlError):
    code, exit_status = "row-absent", Exit.NOT_FOUND
    sentence, remedy = "{table} of {target} has no row {key}", "dbctl data rows {table} lists them."


class DatabaseNotFoundError(DbctlError):
    code, exit_status = "database-not-found", Exit.NOT_FOUND
    sentence = "no database {name} of {profile} ({files}) was found below {directory}"
    remedy = "Say where it is: --url {name}=PATH.{seen}"


class SessionMissingError(DbctlError):
    code, exit_status = "session-missing", Exit.NOT_FOUND
    sentence, remedy = "no session {pids} at {target}", "dbctl stats connections shows them."


class MigrationsMissingError(DbctlError):
    code, exit_status = "migrations-missing", Exit.NOT_FOUND
    sentence = "{target} has no folder of migrations{place}"
    remedy = "Set [apps.NAME.migrations] in the configuration, or give --migrations DIR."

    def __init__(self, *, target: str, path: Path | None) -> None:
        """Name ``path``, the folder that is missing; None: nobody has named any."""
        super().__init__(target=target, path=path, place=f" ({path})" if path else "")


class MigrationMissingError(DbctlError):
    code, exit_status = "migration-missing", Exit.NOT_FOUND
    sentence, remedy = "{folder} has no migration {name!r}", "dbctl migrate status shows them.{near}"


class MigrationShapeUnknownError(DbctlError):
    code, exit_status = "migration-shape-unknown", Exit.NOT_FOUND
    sentence, remedy = "the migrations of {app} have no shape {name!r}", "Its shapes: {names}."


class UndoMissingError(DbctlError):
    code, exit_status = "undo-missing", Exit.NOT_FOUND
    sentence = "no restore of {app} can be undone: {place} holds no safety backup"
    remedy = "dbctl backup list shows what it holds."


class UndoNothingError(DbctlError):
    code, exit_status = "undo-nothing", Exit.NOT_FOUND
    sentence = "the last restore of {target} ({id}) found no database there, so there is none to go back to"
    remedy = (
        "Nothing was changed. dbctl backup list shows older ones; dbctl restore apply ID brings one back."
    )


class UndoNeedlessError(DbctlError):
    code, exit_status = "undo-needless", Exit.NOT_FOUND
    sentence = "the last restore of {target} ({id}) was cut off before it replaced anything, and there was none before it"
    remedy = "Nothing was changed. What was there when it began is kept: dbctl restore apply {kept}"


class UndoneAlreadyError(DbctlError):
    code, exit_status = "undone-already", Exit.NOT_FOUND
    sentence = "the last restore was cut off and is undone: {target} is as it was before, and none came before that one"
    remedy = "Nothing was changed. What was there between, not all of one moment, is kept: dbctl restore apply {kept}"


class KeptMissingError(DbctlError):
    code, exit_status = "kept-missing", Exit.NOT_FOUND
    sentence = "{target}: {name}, which a restore was to keep, is not there: that restore did not come so far, or it is gone"
    remedy = (
        "Nothing was changed. dbctl backup list shows what there is; dbctl restore apply ID brings one back."
    )


class BackupMissingError(DbctlError):
    code, exit_status = "backup-missing", Exit.NOT_FOUND
    sentence, remedy = "no backup {name!r} of {app} in {place}", "dbctl backup list shows them.{near}"


class BackupLaterError(DbctlError):
    code, exit_status = "backup-later", Exit.NOT_FOUND
    sentence = "{place} holds no {kind} of {app} from {before} or before"
    remedy = "dbctl backup list shows what it holds."


# Refusals --------------------------------------------------------------------------------------------------------


class DatabaseNotEmptyError(DbctlError):
    code, exit_status = "database-not-empty", Exit.REFUSED
    sentence = "{target} is not empty: it holds {tables}"
    remedy = "Nothing was changed. Make a new, empty database for it."


class ContentUndecodableError(DbctlError):
    code, exit_status = "content-undecodable", Exit.UNSOUND
    sentence = "{column} of {table} {key} in {target} is not {encoding}: {reason}"
    remedy = "--encoding plain writes it as it is stored."


class LimitExceededError(DbctlError):
    code, exit_status = "limit-exceeded", Exit.REFUSED
    sentence = "{rows} rows of {table} in {target} match, and the limit is {limit}"
    remedy = "Nothing was changed. Narrow the filter, or allow more with --limit N."


class AlreadyExistsError(DbctlError):
    code, exit_status = "already-exists", Exit.REFUSED
    sentence, remedy = "{target} already has {what} {name!r}", "Nothing was changed. {instead}"


class AmbiguousLoginError(DbctlError):
    code, exit_status = "login-ambiguous", Exit.REFUSED
    sentence, remedy = (
        "{login!r} fits several users of {target} (ids {ids})",
        "Nothing was changed. Say which by --id.",
    )


class ActingUserInactiveError(DbctlError):
    code, exit_status = "acting-user-inactive", Exit.REFUSED
    sentence = "{login!r} is not active in {target}, so no change is made on behalf of that user"
    remedy = "Nothing was changed. Name an active user with --acting-as."


class LastAdminError(DbctlError):
    code, exit_status = "last-admin", Exit.REFUSED
    sentence = "{target} would be left without an active {role!r}: {logins}"
    remedy = "Nothing was changed. Give another active user that role first."


class RoleHeldError(DbctlError):
    code, exit_status = "role-held", Exit.REFUSED
    sentence, remedy = (
        "role {name!r} is held (users: {count})",
        "Nothing was changed. Move them first: dbctl users set-role LOGIN ROLE.",
    )


class BuiltInRoleError(DbctlError):
    code, exit_status = "role-built-in", Exit.REFUSED
    sentence, remedy = (
        "role {name!r} is built into {profile}",
        "Nothing was changed. Create a role of your own beside it.",
    )


class UpkeepUnsafeError(DbctlError):
    code, exit_status = "upkeep-unsafe", Exit.REFUSED
    sentence, remedy = "{what} of {target} would do harm: {reason}", "Nothing was changed. {instead}"


class SameFileError(DbctlError):
    code, exit_status = "same-file", Exit.REFUSED
    sentence = "{path} is the database itself, under this or another name"
    remedy = "Nothing was changed. Restore from a file of its own."


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


class ForeignDumpRefusedError(DbctlError):
    code, exit_status = "foreign-dump-refused", Exit.REFUSED
    sentence = (
        "{target}: a dump that dbctl did not make is loaded only by a role created for it, and {reason}"
    )
    remedy = "Nothing was run. {instead}"


class DumpOverreachesError(DbctlError):
    code, exit_status = "dump-overreaches", Exit.UNSOUND
    sentence = "{target}: the dump asks for more than a database of its own: {reason}"
    remedy = "The scratch role refused it; nothing outside the scratch database was changed. {instead}"


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


class KeyMissingError(DbctlError):
    code, exit_status = "key-missing", Exit.USAGE
    sentence = "{what} is encrypted, and {reason}"
    remedy = (
        "Nothing was changed. --identity FILE names an identity of age, or a key of ssh, --passphrase-file FILE a file with"
        " the passphrase; identity_file under [apps.NAME.backup.encrypt] says so for good."
    )


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


class BackupPartialError(DbctlError):
    code, exit_status = "backup-partial", Exit.REFUSED
    sentence = (
        "backup {id} of {app} holds only some tables ({tables}), so no database can be restored from it"
    )
    remedy = "Nothing was changed. {instead}"


class TablesLostError(DbctlError):
    code, exit_status = "tables-lost", Exit.REFUSED
    sentence = "{dump} does not hold all tables of {target}, which the restore would drop: {tables}"
    remedy = (
        "Nothing was changed. If it is a dump of some tables: --table NAME --merge missing restores the rows of one,"
        " --to URL makes a copy beside. If it is a whole dump and these tables are to go: --replace."
    )


class RecoverHopelessError(DbctlError):
    code, exit_status = "recover-hopeless", Exit.UNSOUND
    sentence, remedy = "nothing of {target} can be recovered: {reason}", "{instead}"


class RestoreFailedError(DbctlError):
    code, exit_status = "restore-failed", Exit.FAILED
    sentence = "{target} was not restored: {reason}"
    remedy = "Nothing was changed. {instead}"


class TableNotRestoredError(DbctlError):
    code, exit_status = "table-not-restored", Exit.REFUSED
    sentence = "{table} of {target} cannot take the rows of {id}: {reason}"
    remedy = "Nothing was changed. {instead}"


class RestoreHalfError(DbctlError):
    code, exit_status = "restore-half", Exit.PARTIAL
    sentence = "{app}: restored {done}; {database} failed ({reason}), and so did the way back: {why}"
    remedy = "{kept}"


class RestoreUnfinishedError(DbctlError):
    code, exit_status = "restore-unfinished", Exit.FAILED
    sentence = "{target} may be neither what it was nor all that was to be restored: {reason}"
    remedy = "What it held is kept: dbctl restore undo goes back to it, and the restore again goes on."


class ConfirmationMissingError(DbctlError):
    code, exit_status = "confirmation-missing", Exit.REFUSED
    sentence, remedy = "{title}: this wants an answer, and there is no terminal to ask on", "{instead}"


class ConfirmationWrongError(DbctlError):
    code, exit_status = "confirmation-wrong", Exit.REFUSED
    sentence, remedy = "--confirm says {given!r}, but the app is {app!r}", "Nothing was changed."


class DeclinedError(DbctlError):
    code, exit_status = "declined", Exit.REFUSED
    sentence, remedy = "{title}: not done", "Nothing was changed."


class PlanChangedError(DbctlError):
    code, exit_status = "plan-changed", Exit.REFUSED
    sentence = "{target} changed between the plan and its execution"
    remedy = "Nothing was changed. Run it again and look at the new plan."


class PasswordWrongError(DbctlError):
    code, exit_status = "password-wrong", Exit.FAILED
    sentence, remedy = "the password of {login!r} is another one", "dbctl users set-password sets a new one."


class MigrationsUnsoundError(DbctlError):
    code, exit_status = "migrations-unsound", Exit.REFUSED
    sentence = "{target}: the ledger names migrations that {folder} does not have ({names})"
    remedy = (
        "Nothing was run. Point [apps.NAME.migrations] at the folder of the deployed app, or give --migrations DIR."
        " If {folder} is a new folder, copy the files of these migrations into it; if they are lost, dbctl migrate repair"
        " --missing removes them from the ledger."
    )


class MigrationsAheadError(DbctlError):
    code, exit_status = "migrations-ahead", Exit.UNSOUND
    sentence = (
        "{target} is newer than the files in {folder}: its ledger names {names}, which come after all of them"
    )
    remedy = (
        "Nothing was run. Install the app's newer version, or point [apps.NAME.migrations] at its folder."
    )


class MigrationsTwinnedError(DbctlError):
    code, exit_status = "migrations-twinned", Exit.UNSOUND
    sentence = "{target}: {names} cannot be told from another migration, which has the same number"
    remedy = "Nothing was run. Give each a number of its own."


class LedgerForeignError(DbctlError):
    code, exit_status = "ledger-foreign", Exit.REFUSED
    sentence = "what {target} has had is recorded by {runner}, whose ledger dbctl reads and does not write"
    remedy = "Nothing was run. Let {runner} run it, or give the database a ledger that dbctl writes: dbctl migrate adopt."


class MigrationsOutOfOrderError(DbctlError):
    code, exit_status = "migrations-out-of-order", Exit.REFUSED
    sentence = "{target}: {names} would run after {newest}, which was applied already"
    remedy = "Nothing was run. Give them a number above the newest one."


class MigrationsShippedError(DbctlError):
    code, exit_status = "migrations-shipped", Exit.REFUSED
    sentence = "{target} uses the migrations shipped with dbctl, which take no new ones"
    remedy = "Nothing was changed. Set [apps.NAME.migrations] in the configuration, or give --migrations DIR."


class MigrationsUnfitError(DbctlError):
    code, exit_status = "migrations-unfit", Exit.REFUSED
    sentence = "the schema of {target} is not what migrations of {folder} make: {differences}"
    remedy = "Nothing was recorded. It may be of another shape of the app; --migrations names a folder that made it."


class MigrationShapeOtherError(DbctlError):
    code, exit_status = "migration-shape-other", Exit.REFUSED
    sentence = "{target} has the shape {found}, not {shape}"
    remedy = "Nothing was changed. Leave --shape away: what a database has tells which one it is."


class LedgerMissingError(DbctlError):
    code, exit_status = "ledger-missing", Exit.REFUSED
    sentence = "{target} holds tables but no ledger ({table}), so nothing tells which migrations it has had"
    remedy = "Nothing was run. dbctl migrate adopt makes a ledger that tells which ones the schema shows; or let the app itself record them."


class MigrationChangedError(DbctlError):
    code, exit_status = "migration-changed", Exit.UNSOUND
    sentence = "{target}: {names} changed after being applied"
    remedy = "Nothing was run. Put the old text back, or write the change as a new migration."


class MigrationBrokenError(DbctlError):
    code, exit_status = "migration-broken", Exit.REFUSED
    sentence = "{target}: {names} was begun by the app's own runner and did not come to its end"
    remedy = "Nothing was run. Look at what it left behind. Take that back, then dbctl migrate repair --failed; or complete it, then dbctl migrate mark NAME --applied."


class MigrationFailedError(DbctlError):
    code, exit_status = "migration-failed", Exit.FAILED
    sentence = "{target}: {name} failed{place}: {reason}"
    remedy = "{name} was rolled back whole. Done by this run: {applied}; not run: {pending}.{known}"


class TextIndexUnsoundError(DbctlError):
    code, exit_status = "text-index-unsound", Exit.FAILED
    sentence = "{target}: {name} was made, and does not hold what it should: {reason}"
    remedy = "Everything was rolled back; please report it."


class TextIndexForeignError(DbctlError):
    code, exit_status = "text-index-foreign", Exit.REFUSED
    sentence = "{target}: {name} is no index of words but a table with rows of its own"
    remedy = (
        "Nothing was changed. Give that table another name, then dbctl search index build makes the index."
    )


class SidecarUnsoundError(DbctlError):
    """An index in a file of its own that must not be used."""

    code, exit_status = "sidecar-unsound", Exit.FAILED
    sentence = "{target}: the search index {path} is of no use: {reason}"
    remedy = "The database itself is untouched; dbctl search index build makes the index anew."


class MigrationHalfDoneError(MigrationFailedError):
    """Besides those of ``MigrationFailedError``: how far it came (``done``), and what a failed statement ``left``."""

    code, exit_status = "migration-half-done", Exit.FAILED
    remedy = "It was not one transaction: {done}, and that stays. Correct what follows in its file, not what has run: dbctl migrate {way} goes on there.{left} Done by this run: {applied}; not run: {pending}.{known}"


class MigrationInDoubtError(MigrationFailedError):
    code, exit_status = "migration-in-doubt", Exit.FAILED
    remedy = "Whether {name} stands is not known: once the cause is mended, dbctl migrate status tells. Done by this run before it: {applied}; not run: {pending}.{known}"


class RowsLostError(MigrationFailedError):
    code, exit_status = "rows-lost", Exit.REFUSED
    sentence = "{target}: {name} takes rows away without saying so: {losses}"
    remedy = "{undone} If that is meant, put a line -- dbctl: loses-rows above its first statement, or, where the file is not yours, give --loses-rows {name}. Done by this run: {applied}; not run: {pending}."


class MigrationUnknownError(DbctlError):
    code, exit_status = "migration-unknown", Exit.REFUSED
    sentence = "{target}: whether statement {number} of {name} has run is not known, for the run was killed meanwhile: {sql}"
    remedy = "Nothing was run. Look whether it was done, and record that: dbctl migrate repair --statement done, or undone."


class MigrationStepsChangedError(DbctlError):
    code, exit_status = "migration-steps-changed", Exit.UNSOUND
    sentence = "{target}: {name} is half done, and its statement {number}, which has run, is another one in the file now"
    remedy = "Nothing was run. Put back the text of what has run; what follows it may change."


class MigrationStepMissingError(DbctlError):
    code, exit_status = "migration-step-missing", Exit.NOT_FOUND
    sentence = "{target}: of no statement of {name} it is in doubt whether it has run"
    remedy = "dbctl migrate status shows how far it came."


class MigrationHalfBackError(DbctlError):
    code, exit_status = "migration-half-back", Exit.REFUSED
    sentence = "{target}: {name} is taken back in part"
    remedy = "Nothing was run. dbctl migrate down takes back the rest."


class TimesAmbiguousError(DbctlError):
    code, exit_status = "times-ambiguous", Exit.REFUSED
    sentence = (
        "{table}.{column} of {target} holds {rows} with T and without Z, whose zone nothing tells{example}"
    )
    remedy = "Nothing was changed. dbctl data set {table} KEY {column}=TIME sets one of them; with --table another table is repaired."


class SafetyBackupUnsetError(DbctlError):
    code, exit_status = "safety-backup-unset", Exit.USAGE
    sentence = "{target}: {names} destroys what only a backup would bring back, and nothing says where those of {app} are kept"
    remedy = 'Nothing was run. Set repository = "DIR" under [apps.{app}.backup], give --repository DIR, or go without one by --no-backup.'


class DownAllRefusedError(DbctlError):
    code, exit_status = "down-all-refused", Exit.REFUSED
    sentence = "{app} is protected: its migrations are never all taken back at once"
    remedy = "Nothing was run. --steps N or --to NAME takes back the last ones."


class ResetRefusedError(DbctlError):
    code, exit_status = "reset-refused", Exit.REFUSED
    sentence = "{app} is protected: its databases are never reset"
    remedy = "Nothing was changed. migrate reset is for development databases."


class MigrationOneWayError(DbctlError):
    code, exit_status = "migration-one-way", Exit.REFUSED
    sentence = "{target}: {name} cannot be taken back: {reason}"
    remedy = "Nothing was run. Write what takes it back as a new migration, or restore a backup of before."


class RehearsalFailedError(DbctlError):
    """What ``up`` would tell (``told``), of a copy."""

    code, exit_status = "rehearsal-failed", Exit.FAILED
    sentence = "rehearsed on a copy, {told}"
    remedy = "{target} is as it was. dbctl migrate up would end in the same way.{advice}"


class RehearsalRefusedError(DbctlError):
    code, exit_status = "rehearsal-refused", Exit.REFUSED
    sentence = "{target}: {name} cannot be rehearsed, for it reaches beyond a copy: {reason} (line {line})"
    remedy = "Nothing was run. Do that part by hand, or rehearse on a server of its own."


class ReplayFailedError(DbctlError):
    code, exit_status = "replay-failed", Exit.FAILED
    sentence = "{target}: {name} cannot be run anew in an empty database{place}: {reason}"
    remedy = "Nothing was changed. Without it nothing tells what the schema should be; dbctl migrate verify looks over the files."


class MigrationInvalidError(DbctlError):
    code, exit_status = "migration-invalid", Exit.USAGE
    sentence, remedy = "{file}: {reason}", "Nothing was run."


#: Failures behind which a change may have been made all the same, or may yet come back.
IN_DOUBT = (CommitUnsyncedError, FileUnsyncedError, UnreachableError)
