"""Failures of what surrounds commands: fleets, journal, audit log, undo, hooks, maintenance mode, timers, replication; internal errors."""

from __future__ import annotations

import os
import traceback
from errno import EMFILE, ENAMETOOLONG, ENFILE

from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import ConcurrentChangeError, ReadOnlyError, UnreachableError
from dbctl.errors.usage import UsageError


class JournalUnavailableError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "the journal {path} cannot be used: {reason}"
    remedy = "Set DBCTL_STATE, or folder under [journal], to another directory; off disables the journal."


class JournalCorruptError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "the journal {path} is damaged: {reason}"
    remedy = "Rename the file, and keep it: it also has the audit log. The next run creates a new one."


class RunNotFoundError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "the journal has no run {id}", "List the runs with: `runs list`"


class JournalDisabledError(DbctlError, status=Exit.USAGE):
    sentence = "runs are not recorded: {reason}"
    remedy = "DBCTL_STATE, or folder under [journal], selects a directory."


class TableNotSampledError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "no sample in this period has a table {table!r}"
    remedy = "Record a sample with: `status --record`"


class HookFailedError(DbctlError, status=Exit.REFUSED):
    sentence = "the hook before {action} of {app} failed: {program}: {reason}"
    remedy = "Nothing was changed. {hint}"


class MaintenanceOnError(DbctlError, status=Exit.REFUSED, code="maintenance-on-failed"):
    sentence = "{app} was not put into maintenance mode: {program}: {reason}"
    remedy = "Nothing was changed in its databases. {hint}"


class MaintenanceOffError(DbctlError, status=Exit.FAILED, code="maintenance-off-failed"):
    sentence = "{app} may still be in maintenance mode: {program}: {reason}"
    remedy = "Repair the cause, then run: `apps maintenance off`"


class MaintenanceNotConfiguredError(DbctlError, status=Exit.USAGE):
    sentence = "no programs are configured for the maintenance mode of {app}"
    remedy = "Set on and off under [apps.{app}.maintenance_mode]."


class MaintenanceStateError(DbctlError, status=Exit.FAILED, code="maintenance-state-failed"):
    sentence = "the maintenance mode of {app} cannot be recorded in {path}: {reason}"
    remedy = "Set DBCTL_STATE to another directory for state."


class UnitForeignError(DbctlError, status=Exit.REFUSED):
    sentence = "{path} was not written for {config}"
    remedy = (
        "Nothing was changed. Remove the file, or rename the app: its name is part of the name of the unit."
    )


class TimersFailedError(DbctlError, status=Exit.FAILED):
    sentence = "systemctl {action} failed: {reason}"
    remedy = "The units were written. Show their state with: systemctl status 'dbctl-*'"


class AuditUnavailableError(DbctlError, status=Exit.UNREACHABLE):
    sentence = "the audit log {path} cannot be used: {reason}"
    remedy = "{hint}"
    default_hint = "Set DBCTL_STATE, or folder under [journal], to another directory."


class AuditInvalidError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "the audit log {path} is not intact: {reason}"
    remedy = "List the problems with: `audit verify`"


class OperationNotFoundError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "the audit log has no operation {number}"
    remedy = "List the operations with: `audit list`"


class UndoImpossibleError(DbctlError, status=Exit.REFUSED):
    sentence = "operation {number} ({command}) cannot be undone: {reason}"
    remedy = "{hint}"


class UndoConflictError(DbctlError, status=Exit.REFUSED):
    sentence = "{rows} of operation {number} changed since"
    remedy = "Nothing was changed. Undo the later changes first; list them with: `audit list`"


class UndoSecretsError(DbctlError, status=Exit.REFUSED):
    sentence = "operation {number} deleted rows with secrets, which are not in the log: {columns}"
    remedy = (
        "Nothing was changed. A row without its secret may be open to others, such as a shared link without its password."
        " To restore the rows without them, run: `undo {number} --without-secrets`"
    )


class UndoAppError(DbctlError, status=Exit.USAGE, code="undo-other-app"):
    sentence = "operation {number} changed the app {expected}, not {app}"
    remedy = "Select that app with --app, and its configuration with --config."


class UndoDatabaseError(DbctlError, status=Exit.USAGE, code="undo-other-database"):
    sentence = "operation {number} changed {expected}, but {target} is {actual}"
    remedy = "Nothing was changed. Select the configuration of that database with --config. If it was moved, run: `undo {number} --moved`"


class CommitInDoubtError(UnreachableError, status=Exit.FAILED):
    sentence = "{target}: it is unknown whether a commit took effect: {reason}"
    remedy = "The change was made completely, or not at all: check which, before you run it again."


class NodeNotReadyError(UnreachableError):
    sentence = "cannot open {target}: this node of the cluster accepts no statements ({reason})"
    remedy = "Nothing was changed. Use another node, or wait until this one has joined the primary component."


class RowLocksMissingError(ConcurrentChangeError, status=Exit.FAILED):
    sentence = "{target}: this server cannot lock rows that a query reads"
    remedy = "Nothing was changed. Compatible servers may lack a feature that this command needs."


class ReplicaNotConfiguredError(DbctlError, status=Exit.USAGE):
    sentence = "no database of {app} has a replica"
    remedy = "Add its address as url under [apps.{app}.replicas.DATABASE], or run it without --replica."


class ReplicaReadOnlyError(ReadOnlyError):
    sentence = "{target} is read from its replica, which accepts no changes"
    remedy = "Nothing was changed. Run it without --replica."


class ReplicaPromotedError(DbctlError, status=Exit.REFUSED):
    sentence = "the replica of {target} accepts writes: it was promoted, or is not a replica"
    remedy = "Check which server is the primary, then correct databases and replicas in the configuration."


class ReplicaLagError(DbctlError, status=Exit.REFUSED):
    sentence = "the replica of {target} is {lag} behind; max_lag is {limit:g} s"
    remedy = "Run it without --replica, check the replication, or raise max_lag in the configuration."


class ReplicaConflictError(DbctlError, status=Exit.BUSY):
    sentence = "{target}: the replica canceled a read that conflicts with replicated changes"
    remedy = (
        "Run it again, or set hot_standby_feedback = on or max_standby_streaming_delay = -1 on the replica."
    )


class TooManyFilesError(DbctlError, status=Exit.FAILED):
    sentence = "the limit of open files is reached"
    remedy = "Raise it: ulimit -n 1024 in the shell, or LimitNOFILE=1024 in the unit of systemd."


class TooManyProcessesError(DbctlError, status=Exit.FAILED):
    sentence = "the limit of processes and threads is reached"
    remedy = "End others, or raise it: ulimit -u in the shell, TasksMax in the unit of systemd, pids of a container."


class FileDeniedError(DbctlError, status=Exit.FAILED):
    sentence, remedy = "{path}: {reason}", "Show who may use it, and each folder above it: namei -l PATH"


#: The message of a ``RuntimeError`` of Python; a process that cannot be started is a ``BlockingIOError``.
_NO_THREAD = "can't start new thread"
LONGEST_NAME = 60  #: characters shown of a file name that is too long


def describe_internal_error(error: Exception) -> DbctlError:
    """Return the error that is reported for an unexpected exception."""
    if isinstance(error, OSError) and error.errno == ENAMETOOLONG and error.filename:
        name = os.fsdecode(error.filename)
        return UsageError(detail=f"{name[:LONGEST_NAME]}…: {error.strerror}")
    if isinstance(error, OSError) and error.errno in (EMFILE, ENFILE):
        return TooManyFilesError()
    if isinstance(error, BlockingIOError) or str(error) == _NO_THREAD:
        return TooManyProcessesError()
    if isinstance(error, PermissionError) and isinstance(error.filename, str):
        return FileDeniedError(path=error.filename, reason=error.strerror)
    if isinstance(error, OSError) and error.filename is None and error.strerror:
        return DbctlError(detail=error.strerror)
    return DbctlError(detail=f"{type(error).__name__}{_locate(error)}")


def _locate(error: BaseException) -> str:
    """Return the location in dbctl that raised ``error``, without values, which may be secret."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if f"{os.sep}dbctl{os.sep}" in frame.filename
    ]
    return f" at {frames[-1].filename.rpartition(os.sep)[2]}:{frames[-1].lineno}" if frames else ""


class FleetEmptyError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "{app} has no instance: {reason}", "Check the address of {app} in the configuration."


class InstanceNameInvalidError(DbctlError, status=Exit.USAGE):
    sentence = "{app} has an instance with an invalid name: {name!a}"
    remedy = "Names begin with a letter or a digit, and have up to 100 letters, digits, spaces and . _ @ + -."


class InstanceDuplicateError(DbctlError, status=Exit.REFUSED):
    sentence = "{name} and {other} are the same database"
    remedy = "Delete the link, or exclude the name: exclude = [...] under [apps.{app}.instances]."


class InstanceListingError(DbctlError, status=Exit.UNREACHABLE, code="instance-listing-failed"):
    sentence, remedy = "the instances of {app} cannot be listed: {reason}", "{hint}"


class WorkerEndedError(DbctlError, status=Exit.FAILED):
    sentence = "{app}: the process that worked on it ended unexpectedly ({reason})"
    remedy = "Its open transaction was rolled back. Try this instance alone: --app {app}"


class InstanceSkippedError(DbctlError, status=Exit.FAILED):
    sentence, remedy = "{app} was not processed: {reason}", "Nothing was changed in it."


class CanaryFailedError(DbctlError, status=Exit.CHECK_FAILED):
    sentence = "{app} failed the verification after the change: {reason}"
    remedy = "No other instance was changed. Examine it with: `integrity check`"


class RunMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no recorded run of {command} on {app}", "Start one without --resume."
