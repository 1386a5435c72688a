"""Failures of what surrounds commands: the journal of runs, hooks, the maintenance mode, notifications, and timers."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class JournalUnavailableError(DbctlError):
    code, exit_status = "journal-unavailable", Exit.UNREACHABLE
    sentence = "the journal {path} cannot be used: {reason}"
    remedy = "Set DBCTL_STATE, or folder under [journal], to another directory; off disables the journal."


class JournalCorruptError(DbctlError):
    code, exit_status = "journal-corrupt", Exit.CHECK_FAILED
    sentence = "the journal {path} is damaged: {reason}"
    remedy = "Rename the file, and keep it: it also has the audit log. The next run creates a new one."


class RunNotFoundError(DbctlError):
    code, exit_status = "run-not-found", Exit.NOT_FOUND
    sentence, remedy = "the journal has no run {id}", "List the runs with: `runs list`"


class JournalDisabledError(DbctlError):
    code, exit_status = "journal-disabled", Exit.USAGE
    sentence = "runs are not recorded: {reason}"
    remedy = "DBCTL_STATE, or folder under [journal], selects a directory."


class TableNotSampledError(DbctlError):
    code, exit_status = "table-not-sampled", Exit.NOT_FOUND
    sentence = "no sample in this period has a table {table!r}"
    remedy = "Record a sample with: `status --record`"


class HookFailedError(DbctlError):
    code, exit_status = "hook-failed", Exit.REFUSED
    sentence = "the hook before {action} of {app} failed: {program}: {reason}"
    remedy = "Nothing was changed. Its output is in the journal: `runs list`"


class MaintenanceOnError(DbctlError):
    code, exit_status = "maintenance-on-failed", Exit.REFUSED
    sentence = "{app} was not put into maintenance mode: {program}: {reason}"
    remedy = "Nothing was changed in its databases. Its output is in the journal: `runs list`"


class MaintenanceOffError(DbctlError):
    code, exit_status = "maintenance-off-failed", Exit.FAILED
    sentence = "{app} may still be in maintenance mode: {program}: {reason}"
    remedy = "Repair the cause, then run: `apps maintenance off`"


class MaintenanceNotConfiguredError(DbctlError):
    code, exit_status = "maintenance-not-configured", Exit.USAGE
    sentence = "no programs are configured for the maintenance mode of {app}"
    remedy = "Set on and off under [apps.{app}.maintenance_mode]."


class MaintenanceStateError(DbctlError):
    code, exit_status = "maintenance-state-failed", Exit.FAILED
    sentence = "the maintenance mode of {app} cannot be recorded in {path}: {reason}"
    remedy = "Set DBCTL_STATE to another directory for state."


class NotifyNotConfiguredError(DbctlError):
    code, exit_status = "notify-not-configured", Exit.USAGE
    sentence = "no {channel} is configured for notifications"
    remedy = "Add a section such as [notify.email]; list its keys with: `config explain notify`"


class UnitForeignError(DbctlError):
    code, exit_status = "unit-foreign", Exit.REFUSED
    sentence = "{path} was not written for {config}"
    remedy = (
        "Nothing was changed. Remove the file, or rename the app: its name is part of the name of the unit."
    )


class TimersFailedError(DbctlError):
    code, exit_status = "timers-failed", Exit.FAILED
    sentence = "systemctl {action} failed: {reason}"
    remedy = "The units were written. Show their state with: systemctl status 'dbctl-*'"
