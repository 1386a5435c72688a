"""Failures to reach, read, lock, or write a database or file."""

from __future__ import annotations

import os
from pathlib import Path

from dbctl.errors.base import DbctlError, Exit


class DatabaseMissingError(DbctlError):
    code, exit_status = "database-missing", Exit.UNREACHABLE
    sentence = "{target}: file not found: {path}"
    remedy = "{hint}"
    default_hint = "Check the path in the configuration. Find a backup with: `backup list`; or create a new database from migrations with: `migrate up`"

    def __init__(self, *, path: object, **context: object) -> None:
        folder = Path(str(path)).parent
        if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises without search permission
            hint = f"The directory {folder} is missing. Check the path, and that its disk is mounted."
            context.setdefault("hint", hint)
        super().__init__(path=path, **context)


class FolderMissingError(DatabaseMissingError):
    code = "folder-missing"
    sentence = "{target}: folder not found: {path}"
    remedy = (
        "Check the path in the configuration, and that its disk is mounted. Find a backup with: `backup list`"
    )


class UnreachableError(DbctlError):
    code, exit_status = "unreachable", Exit.UNREACHABLE
    sentence = "cannot open {target}: {reason}"
    remedy = "{hint}"


class CascadeUnreachableError(DbctlError):
    code, exit_status = "cascade-unreachable", Exit.UNREACHABLE
    sentence = "cannot open {target}, whose related rows must be deleted too: {reason}"
    remedy = "To delete only in that database, pass --db {to}, then list the remaining rows with: `integrity cross-check`; or repair the cause: {hint}"


class PoolerError(DbctlError):
    code, exit_status = "pooler", Exit.USAGE
    sentence = "{target} is behind a connection pooler that may change sessions between statements"
    remedy = "Use the server's own address, or add ?pool_mode=session if the pooler assigns one session per client."


class InterruptedWriteError(DbctlError):
    code, exit_status = "interrupted-write", Exit.UNREACHABLE
    sentence = "cannot read {target}: an interrupted write must be rolled back first"
    remedy = "Start the app that owns it, or run dbctl as a user who can write to its files."


class UncheckpointedWalError(UnreachableError):
    code, exit_status = "uncheckpointed-wal", Exit.UNREACHABLE
    sentence = "cannot read {target} without creating a file: {file} holds changes of a killed process"
    remedy = "Start the app that owns it, or run a command that may create the file: `stats overview`"


class NotADatabaseError(DbctlError):
    code, exit_status = "not-a-database", Exit.CHECK_FAILED
    sentence = "{target}: {path} is not a {engine} database"
    remedy = "Check the path, or restore a backup with: `restore apply ID`"


class CorruptError(DbctlError):
    code, exit_status = "corrupt", Exit.CHECK_FAILED
    sentence = "{target} is damaged: {reason}"
    remedy = "Stop the app, copy its files, and restore a backup; without one, salvage SQLite with: `restore recover`"


class BusyError(DbctlError):
    code, exit_status = "busy", Exit.BUSY
    sentence = "{target} is locked{holder}; waited {waited} s"
    remedy = "Nothing was changed. Try again, or wait longer with --timeout SECONDS."


class WriteConflictError(BusyError):
    code = "write-conflict"
    sentence = "{target} changes too fast for a consistent safety copy"
    remedy = "Nothing was changed. Try again, or stop the app during the command."


class ConcurrentChangeError(DbctlError):
    code, exit_status = "concurrent-change", Exit.BUSY
    sentence = "another process changed {target} at the same time"
    remedy = "Nothing was changed. Run it again."


class ChangedWhileReadError(DbctlError):
    code, exit_status = "changed-while-read", Exit.BUSY
    sentence = "another process changed {target} while it was read"
    remedy = "Discard the output, which may mix two states, and run it again."


class ReadOnlyError(DbctlError):
    code, exit_status = "read-only", Exit.REFUSED
    sentence, remedy = "{target} is read-only: {reason}", "{hint}"


class PrivilegeMissingError(DbctlError):
    code, exit_status = "privilege-missing", Exit.REFUSED
    sentence, remedy = "{target} denied access: {reason}", "{hint}"


class DiskFullError(DbctlError):
    code, exit_status = "disk-full", Exit.FAILED
    sentence, remedy = "{target}: the disk is full", "Nothing was changed. Free some space and run it again."


class InsufficientSpaceError(DbctlError):
    """Context: ``place``, and in bytes ``required`` and ``free``."""

    code, exit_status = "insufficient-space", Exit.FAILED
    sentence = "{place} has {free:,} bytes free, but {required:,} are required"
    remedy = "Nothing was changed. Free some space and run it again."


class QueryFailedError(DbctlError):
    code, exit_status = "query-failed", Exit.FAILED
    sentence, remedy = "{target} rejected a statement: {reason}", "Nothing was changed. {hint}"
    default_hint = "Compare profile and database with: `apps check`"

    def __init__(self, *, is_table_missing: bool = False, **context: object) -> None:
        super().__init__(**context)
        self.is_table_missing = is_table_missing  #: on a server


class QueryTimeoutError(DbctlError):
    code, exit_status = "query-timeout", Exit.REFUSED
    sentence, remedy = "{target}: the query took longer than {limit}", "Nothing was changed. {hint}"


class SecretColumnError(DbctlError):
    code, exit_status = "secret-column", Exit.REFUSED
    sentence = "{target}: the query reads the secret {column}"
    remedy = "Select only the columns that you need, or pass --secrets."


class StoredFunctionError(DbctlError):
    code, exit_status = "stored-function", Exit.REFUSED
    sentence = "{target}: the query calls the stored function {function}, which may read secrets"
    remedy = "Select from the tables, or pass --secrets."


class ConstraintError(DbctlError):
    code, exit_status = "constraint", Exit.REFUSED
    sentence, remedy = "{target} rejected the change: {reason}", "Nothing was changed."


class FileFailedError(DbctlError):
    code, exit_status = "file-failed", Exit.FAILED
    sentence, remedy = "{path}: {reason}", "Nothing was changed."


class ClientMissingError(DbctlError):
    code, exit_status = "client-missing", Exit.UNREACHABLE
    sentence = "{target}: {program} is not installed"
    remedy = "Nothing was changed. Install the client programs of {product} {version} or newer (package {package})."


class ClientOldError(DbctlError):
    code, exit_status = "client-old", Exit.REFUSED
    sentence = "{target}: {program} has version {version}, but version {required} is required"
    remedy = (
        "Nothing was changed. Install the client programs of {product} {required} or newer (package {package}),"
        " or run dbctl on a machine that has them."
    )


class ClientFailedError(DbctlError):
    code, exit_status = "client-failed", Exit.FAILED
    sentence, remedy = "{target}: {program} failed: {reason}", "{hint}"


class FileUnsyncedError(DbctlError):
    code, exit_status = "file-unsynced", Exit.FAILED
    sentence = "{path} was written, but the disk did not confirm it: {reason}"
    remedy = "The file exists now, but a power failure may remove it. Check the disk."


class CommitUnsyncedError(DbctlError):
    code, exit_status = "commit-unsynced", Exit.FAILED
    sentence = "{target}: a change was written, but the disk did not confirm it: {reason}"
    remedy = "It may appear once every process has closed {path}. Check the disk and the data before you run it again."


class OutputFailedError(DbctlError):
    code, exit_status = "output-failed", Exit.FAILED
    sentence = "cannot write to standard output: {reason}"
    remedy = "The output is incomplete; changes that the command made remain."


class StoppedError(DbctlError):
    """Exit code: 128 + the number of the signal."""

    code, exit_status = "interrupted", Exit.FAILED
    sentence, remedy = "interrupted ({signal})", "Uncommitted changes were rolled back."


class FileMissingError(DbctlError):
    code, exit_status = "file-missing", Exit.NOT_FOUND
    sentence, remedy = "{kind} not found: {path}", "Check the path."


class FileExistsAlreadyError(DbctlError):
    code, exit_status = "file-exists", Exit.REFUSED
    sentence, remedy = "{path} already exists", "Nothing was changed. {hint}"


class ExternalIndexInvalidError(DbctlError):
    code, exit_status = "external-index-invalid", Exit.FAILED
    sentence = "{target}: the search index {path} is invalid: {reason}"
    remedy = "The database is unchanged. Rebuild the index with: `search index build`"


#: Failures after which the change may still have been made, or may appear later.
IN_DOUBT = (CommitUnsyncedError, FileUnsyncedError, UnreachableError)
