"""Failures of a database or file that cannot be reached, read, locked, or written."""

from __future__ import annotations

import os
from pathlib import Path

from dbctl.errors.base import DbctlError, Exit


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
    remedy = "{instead} --db {to} deletes in that database alone, and dbctl integrity cross-check tells what stays behind."


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


class ConstraintError(DbctlError):
    code, exit_status = "constraint", Exit.REFUSED
    sentence, remedy = "{target} refused the change: {reason}", "Nothing was changed."


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


class FileMissingError(DbctlError):
    code, exit_status = "file-missing", Exit.NOT_FOUND
    sentence, remedy = "there is no {what} {path}", "Check the path."


class FileExistsAlreadyError(DbctlError):
    code, exit_status = "file-exists", Exit.REFUSED
    sentence, remedy = "{path} exists already", "Nothing was changed. {instead}"


class SidecarUnsoundError(DbctlError):
    """An index in a file of its own that must not be used."""

    code, exit_status = "sidecar-unsound", Exit.FAILED
    sentence = "{target}: the search index {path} is of no use: {reason}"
    remedy = "The database itself is untouched; dbctl search index build makes the index anew."


#: Failures behind which a change may have been made all the same, or may yet come back.
IN_DOUBT = (CommitUnsyncedError, FileUnsyncedError, UnreachableError)
