"""Records of runs, and summaries of several runs; where the journal is, in which they are."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from dbctl.config import loader
from dbctl.config.environment import has_home, state_folder
from dbctl.config.model import AuditConfig, JournalConfig
from dbctl.config.sections import Sections, Selection
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.operations import JournalDisabledError
from dbctl.model import Row, Struct

#: The result of a run whose process has not ended, and of one whose process ended without a result.
RUNNING, INTERRUPTED = "running", "interrupted"
#: The value of ``outcomes.failed`` for a failure that is that of a job; those that are recorded only have 1.
FAILED_JOB = 2
#: Results after which a run needs no attention: it succeeded, or the reader of its output ended it.
_SUCCESSES = frozenset({"ok", "action-needed", "broken-pipe"})
_FIRST_SIGNAL = 128
#: Who started a run: a person at a terminal, a program, or a program that discards the output (``--quiet``), as schedules do.
Origin: TypeAlias = Literal["terminal", "program", "job"]
#: Errors of commands that the app cannot have: no job of ``schedule`` runs them.
_IMPOSSIBLE = frozenset({"feature-missing", "not-supported"})
#: Errors of the words of a command, before its work begins. A job whose words become wrong still fails.
_REFUSALS = frozenset({
    "app-ambiguous", "app-missing", "backup-missing", "backup-pinned", "confirmation-missing",
    "confirmation-wrong", "database-unknown", "declined", "file-missing", "fleet-required",
    "fleet-selected", "format-not-supported", "last-backup", "plan-changed", "read-only",
    "report-missing", "rule-missing", "search-missing", "setting-missing", "table-missing",
    "template-invalid", "url-invalid", "usage", "use-dedicated-command", "user-missing",
    "value-invalid",
})  # fmt: skip
#: Fields that the table shows in another form, or below it.
_LISTS = frozenset({"warnings", "error", "instances", "hooks"})


def name_result(exit_code: int) -> str:
    """Return the result with this exit code: ``ok``, ``unreachable``, ``stopped`` for signals."""
    if exit_code in set(Exit):
        return Exit(exit_code).name.lower().replace("_", "-")
    return "stopped" if exit_code > _FIRST_SIGNAL else "failed"


def is_failure(result: str) -> bool:
    """Whether a run with this result failed; ``is_failed_job`` returns whether that is a reason to notify anyone."""
    return result not in _SUCCESSES and result != RUNNING


class RunError(Struct, frozen=True, kw_only=True):
    """The error that ended a run, without secrets."""

    code: str
    message: str
    hint: str


class InstanceCounts(Struct, frozen=True, kw_only=True):
    """The outcomes of a run on a fleet."""

    done: int
    failed: int
    skipped: int


class RunOutcome(Struct, frozen=True, kw_only=True):
    """The result of a run for one app or instance."""

    app: str
    exit_code: int
    error_code: str = ""


class HookRun(Struct, frozen=True, kw_only=True):
    """One program that ran with an action: a hook, or one that changed the maintenance mode."""

    app: str
    hook: str  #: ``before``, ``after``, ``failed``, ``finally``; ``on`` or ``off`` for the maintenance mode
    program: str  #: without its arguments, which may contain secrets
    reason: str = ""  #: why it failed; empty: it ended with status 0
    exit_code: int | None = None  #: negative for a signal; None: it was not started
    duration: float  #: seconds
    output: str = ""  #: the end of its output
    output_bytes: int = 0  #: the size of its complete output

    def summary(self) -> Row:
        return {
            "app": self.app,
            "hook": self.hook,
            "program": self.program,
            "result": self.reason or "ok",
            "duration": self.duration,
        }


class Run(Struct, frozen=True, kw_only=True):
    """The record of one run."""

    id: int = 0  #: increasing in the order in which runs begin; 0: not recorded yet
    command: str
    app: str = ""  #: several: separated by commas; empty: none was found
    result: str = RUNNING  #: ``ok``, ``running``, ``interrupted``, ``stopped``, or the name of the exit code
    started_at: datetime
    ended_at: datetime | None = None
    duration: float | None = None  #: seconds
    exit_code: int | None = None
    bytes: int | None = None
    rows: int | None = None
    error: RunError | None = None
    origin: Origin = "program"
    warnings: Sequence[str] = ()
    closing_line: str = ""  #: the sentence with which the command ended, also if it was not printed
    arguments: Sequence[str] = ()  #: as typed, without secrets
    databases: Sequence[str] = ()
    instances: InstanceCounts | None = None  #: of a run on a fleet
    hooks: Sequence[HookRun] = ()  #: in the order in which they ran
    config: str = ""  #: the path of the configuration; empty: none
    host: str = ""
    user: str = ""
    sudo_user: str = ""
    pid: int = 0
    version: str = ""
    #: the end of the audit log after the last change of the run, ``SEQUENCE:HASH``; empty: no change
    audit: str = ""

    @property
    def _duration_time(self) -> timedelta | None:
        return None if self.duration is None else timedelta(seconds=self.duration)

    def summary(self) -> Row:
        return {
            "id": self.id,
            "started_at": self.started_at,
            "command": self.command,
            "app": self.app,
            "result": self.result,
            "duration": self._duration_time,
            "error": self.error.code if self.error else None,
        }


def is_failed_job(run: Run, outcome: RunOutcome | None = None) -> bool:
    """Whether a run, or its ``outcome`` for one app, failed unattended: notifications, status, doctor, metrics and reports report it.

    A person at a terminal has seen the failure. A wrong word, such as the name of a database, is no failure of a job either, unless
    no user reads the output. A process that was killed is always a failure.
    """
    result = name_result(outcome.exit_code) if outcome else run.result
    if result == INTERRUPTED or not is_failure(result):
        return result == INTERRUPTED
    code = outcome.error_code if outcome else run.error.code if run.error else ""
    is_refused = code in _IMPOSSIBLE or (run.origin != "job" and code in _REFUSALS)
    return run.origin != "terminal" and not is_refused


class RunDetails(Run, frozen=True, kw_only=True):
    """The complete record of one run."""

    def summary(self) -> Row:
        row = {name: getattr(self, name) for name in Run.__struct_fields__ if name not in _LISTS}
        row["arguments"] = shlex.join(["dbctl", *self.command.split(), *self.arguments])
        row["duration"] = self._duration_time
        row["databases"] = ", ".join(self.databases)
        if self.error:
            row |= {"error": self.error.code, "message": self.error.message, "hint": self.error.hint}
        if self.instances:
            row["instances"] = (
                f"{self.instances.done} done, {self.instances.failed} failed, {self.instances.skipped} skipped"
            )
        lists = {
            "warnings": self.warnings,
            "hooks": [hook.summary() for hook in self.hooks],
            **{
                f"output of {hook.hook} ({hook.app})": hook.output.strip().splitlines() for hook in self.hooks
            },
        }
        row |= {name: items for name, items in lists.items() if items}
        return {name: value for name, value in row.items() if value not in (None, "")}


class RunFilter(Struct, frozen=True, kw_only=True):
    """The runs that ``runs list`` selects."""

    app: str = ""
    command: str = ""  #: ``backup create``, or a group: ``backup``
    since: datetime | None = None
    failed: bool = False
    after: int | None = None  #: the id of the last run of the previous page
    limit: int


class CommandHistory(Struct, frozen=True, kw_only=True):
    """The runs of one command for one app, as far as the journal has them, without failures that are not those of a job."""

    command: str
    last: Run  #: with the result and the exit code for this app, which may be an instance of a fleet
    last_success: Run | None
    error_code: str  #: of the last run for this app, which may be an instance of a fleet
    failures: int  #: as ``is_failed_job`` has them, in a row up to the last run
    failing_since: datetime | None  #: the start of the first of these failures


class JournalLocation(Struct, frozen=True, kw_only=True):
    """A journal, and the configuration and apps of a command."""

    folder: Path | None  #: None: runs are not recorded
    settings: JournalConfig = JournalConfig()
    audit: AuditConfig = AuditConfig()  #: the settings of the audit log, which is in the same folder
    config: str = ""  #: the absolute path of the configuration; empty: none
    apps: tuple[str, ...] = ()  #: those that the command selects, or all
    configuration: Sections | None = None  #: its sections; None: it is missing or invalid
    observes_runs: bool = False  #: whether one of the sections requires that runs are observed

    def require_folder(self) -> Path:
        """Return the folder.

        Raises:
            JournalDisabledError: runs are not recorded.
        """
        if self.folder is None:
            reason = "the directory of the journal is off" if has_home() else "the user has no home directory"
            raise JournalDisabledError(reason=reason)
        return self.folder


def locate_journal(selection: Selection, *, all_apps: bool = False) -> JournalLocation:
    """Return the journal for a selection; a configuration with errors has the default settings."""
    if selection.profile and selection.urls:
        return JournalLocation(folder=state_folder(), apps=(selection.app,) if selection.app else ())
    settings, audit, config, names, sections = JournalConfig(), AuditConfig(), "", list[str](), None
    try:
        config = str(loader.config_path(selection).absolute())
        sections = loader.load_sections(selection)  # which reads no variable or secret
        settings, audit, names = sections.journal, sections.audit, list(sections.apps)
    except DbctlError:  # the command itself reports it
        pass
    if selection.app and not all_apps:
        names = [selection.app]
    elif not all_apps and len(names) > 1:  # the command refuses
        names = []
    return JournalLocation(
        folder=state_folder(settings.folder),
        settings=settings,
        audit=audit,
        config=config,
        apps=tuple(names),
        configuration=sections,
        observes_runs=sections is not None
        and any(section.observes_runs for section in sections.extension_sections.values()),
    )
