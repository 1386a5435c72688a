"""Failures to reach, read, lock, or write a database or file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbctl.errors.base import DbctlError, Exit


class DatabaseMissingError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "{target}: file not found: {path}"
    remedy = "{hint}"
    default_hint = "Check the path in the configuration. Find a backup with: `backup list`; or create a new database from migrations with: `migrate up`"

    def __init__(self, *, path: object, **context: object) -> None:
        folder = Path(str(path)).parent
        if not os.path.isdir(folder):
            hint = f"The directory {folder} is missing. Check the path, and that its disk is mounted."
            context.setdefault("hint", hint)
        super().__init__(path=path, **context)


class FolderMissingError(DatabaseMissingError):
    sentence = "{target}: folder not found: {path}"
    remedy = (
        "Check the path in the configuration, and that its disk is mounted. Find a backup with: `backup list`"
    )


class UnreachableError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "cannot open {target}: {reason}"
    remedy = "{hint}"
    can_pass = True  #: whether time alone can end it, unlike a wrong password


class ConnectionLostError(UnreachableError, status=Exit.UNREACHABLE):
    sentence, remedy = "the connection to {target} was lost: {reason}", "{hint}"


class RoutedPathError(UnreachableError):
    can_pass = False
    sentence = "cannot open {target}: {path} is on another machine ({via})"
    remedy = "Run dbctl on that machine."


class CascadeUnreachableError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "cannot open {target}, whose related rows must be deleted too: {reason}"
    remedy = "To delete only in that database, pass --db {to}, then list the remaining rows with: `integrity cross-check`; or repair the cause: {hint}"


class PoolerError(DbctlError, status=Exit.USAGE):
    sentence = "{target} is behind a connection pooler that may change sessions between statements"
    remedy = "Use the server's own address, or add ?pool_mode=session if the pooler assigns one session per client."


class LossySettingError(DbctlError, status=Exit.REFUSED):
    sentence = "{target} is refused: {setting} is {value}, with which {effect}"
    remedy = (
        "Nothing was changed. Check why it is set for the role, the database or the server, and remove it as a superuser:"
        " ALTER ROLE or ALTER DATABASE … RESET {setting};{more}"
    )


class InterruptedWriteError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "cannot read {target}: an interrupted write must be rolled back first{reason}"
    remedy = "Start the app that owns it, or run dbctl as a user who can write to its files. On a read-only file system: copy the file with its -journal, and read the copy."


class UncheckpointedWalError(UnreachableError, status=Exit.UNREACHABLE):
    sentence = "cannot read {target} without creating a file: {file} holds changes of a killed process"
    remedy = "Start the app that owns it, or run a command that may create the file: `stats overview`"


class NotADatabaseError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{target}: {path} is not a {engine} database"
    remedy = "Check the path, or restore a backup with: `restore apply ID`"


class CorruptError(DbctlError, status=Exit.CHECK_FAILED):
    sentence, remedy = "{target} is damaged: {reason}", "{hint}"
    default_hint = "Stop the app, and restore a backup. List backups with: `backup list`"


class BusyError(DbctlError, status=Exit.BUSY):
    sentence = "{target} is locked{holder}; waited {waited} s"
    remedy = "Nothing was changed. Try again, or wait longer with --timeout SECONDS."


class WriteConflictError(BusyError):
    sentence = "{target} changes too fast for a consistent safety copy"
    remedy = "Nothing was changed. Try again, or stop the app during the command."


class ConcurrentChangeError(DbctlError, status=Exit.BUSY):
    sentence = "another process changed {target} at the same time"
    remedy = "Nothing was changed. Run it again."


class ChangedWhileReadError(DbctlError, status=Exit.BUSY):
    sentence = "another process changed {target} while it was read"
    remedy = "Discard the output, which may mix two states, and run it again."


class ReadOnlyError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{target} is read-only: {reason}", "{hint}"


class RoutedReadOnlyError(ReadOnlyError, status=Exit.REFUSED):
    sentence = "{target} is read-only: {path} is on another machine ({via})"
    remedy = "Nothing was changed. Run dbctl on that machine."


class PrivilegeMissingError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{target} denied access: {reason}", "{hint}"


class BinaryLogRefusedError(PrivilegeMissingError, status=Exit.REFUSED):
    """The server cannot write the change to its binary log; a user with further rights could log it in another format."""

    sentence = "{target} cannot log the change: {reason}"


class DiskFullError(DbctlError, status=Exit.FAILED):
    sentence, remedy = "{target}: the disk is full", "Nothing was changed. Free some space and run it again."


class InsufficientSpaceError(DbctlError, status=Exit.FAILED):
    """Context: ``place``, and in bytes ``required`` and ``free``."""

    sentence = "{place} has {free:,} bytes free, but {required:,} are required"
    remedy = "Nothing was changed. Free some space and run it again."


class QueryFailedError(DbctlError, status=Exit.FAILED):
    sentence, remedy = "{target} rejected a statement: {reason}", "Nothing was changed. {hint}"
    default_hint = "Compare profile and database with: `apps check`"

    def __init__(self, *, is_table_missing: bool = False, **context: object) -> None:
        super().__init__(**context)
        self.is_table_missing = is_table_missing  #: on a server


class QueryTimeoutError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{target}: the query took longer than {limit}", "Nothing was changed. {hint}"


class SecretColumnError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: the query reads the secret {column}"
    remedy = "Select only the columns that you need, or pass --secrets."


class StoredFunctionError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: the query calls the stored function {function}, which may read secrets"
    remedy = "Select from the tables, or pass --secrets."


class ConstraintError(DbctlError, status=Exit.REFUSED):
    sentence, remedy = "{target} does not accept the change: {reason}", "Nothing was changed."


class RowSkippedError(ConstraintError):
    sentence = (
        "{target} does not accept the change: a trigger or ON CONFLICT IGNORE skips the new row of {table}"
    )


class FileFailedError(DbctlError, status=Exit.FAILED):
    sentence = "{path}: {reason}"
    remedy = "Nothing was changed. Check the path, its permissions and its disk."


class ClientMissingError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "{target}: {program} is not installed"
    remedy = "Nothing was changed. Install the client programs of {product} {version} or newer (package {package})."


class ClientOldError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {program} has version {version}, but version {required} is required"
    remedy = (
        "Nothing was changed. Install the client programs of {product} {required} or newer (package {package}),"
        " or run dbctl on a machine that has them."
    )


class ClientFailedError(DbctlError, status=Exit.FAILED):
    sentence, remedy = "{target}: {program} failed: {reason}", "{hint}"


class FileUnsyncedError(DbctlError, status=Exit.FAILED):
    sentence = "{path} was written, but the disk did not confirm it: {reason}"
    remedy = "The file exists now, but a power failure may remove it. Check the disk."


class CommitUnsyncedError(DbctlError, status=Exit.FAILED):
    sentence = "{target}: a change was written, but the disk did not confirm it: {reason}"
    remedy = "It may appear once every process has closed {path}. Check the disk and the data before you run it again."


class CommitUnconfirmedError(CommitUnsyncedError, status=Exit.FAILED):
    sentence = "{target}: the change is committed, but no synchronous standby confirmed it: {reason}"
    remedy = "A failover may lose it. Check the standbys before the next change: SELECT * FROM pg_stat_replication; and SHOW synchronous_standby_names;"


class OutputFailedError(DbctlError, status=Exit.FAILED):
    sentence = "cannot write to standard output: {reason}"
    remedy = "The output is incomplete; changes that the command made remain."


class StoppedError(DbctlError, status=Exit.FAILED, code="interrupted"):
    """Exit code: 128 + the number of the signal."""

    sentence, remedy = "interrupted ({signal})", "Uncommitted changes were rolled back."


class FileMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy, default_hint = "{kind} not found: {path}", "{hint}", "Check the path."


@contextmanager
def report_file_errors(path: object, *, kind: str = "") -> Iterator[None]:
    """Raise ``OSError`` as an error of a file; ``kind`` is what it is, if it may be missing.

    Raises:
        FileMissingError: a file of a kind does not exist.
        FileFailedError: any other ``OSError``.
    """
    try:
        yield
    except OSError as error:
        if kind and isinstance(error, FileNotFoundError):
            raise FileMissingError(kind=kind, path=path) from error
        raise FileFailedError(path=path, reason=error.strerror or str(error)) from error


class FileExistsAlreadyError(DbctlError, status=Exit.REFUSED, code="file-exists"):
    sentence, remedy = "{path} already exists", "Nothing was changed. {hint}"


class ExternalIndexInvalidError(DbctlError, status=Exit.FAILED):
    sentence = "{target}: the search index {path} is invalid: {reason}"
    remedy = "The database is unchanged. Rebuild the index with: `search index build`"


#: Failures after which the change may still have been made, or may appear later.
IN_DOUBT = (CommitUnsyncedError, FileUnsyncedError, UnreachableError)
