"""Runs that need attention: commands that fail again and again, interrupted runs, and backups that were not started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import get_args

from dbctl.config.model import BackupConfig, JobCommand
from dbctl.errors.base import DbctlError, Exit, Remedy
from dbctl.model import Struct, now
from dbctl.services.events.history import read_history
from dbctl.services.events.runs import INTERRUPTED, RUNNING, CommandHistory, JournalLocation
from dbctl.services.events.store import EventStore
from dbctl.units import parse_duration

BACKUP = "backup create"
#: Commands that usually run without a user, whose failures no other command reports.
UNATTENDED = frozenset(get_args(JobCommand))


class RunProblem(Struct, frozen=True, kw_only=True):
    """Why the runs of a command for an app need attention."""

    app: str
    command: str
    kind: str  #: ``failing``, ``interrupted``, ``missing``, or ``unavailable``: the journal cannot be read
    message: str
    code: str = ""  #: the error of the last run, or its result
    exit_status: Exit = Exit.ACTION_NEEDED
    since: datetime | None = None
    run: int | None = None  #: the id of the last run

    @property
    def hint(self) -> str:
        """The command that shows the last run."""
        return Remedy("`runs show {run}`").write(facts={"run": self.run}) if self.run else ""


def find_problems(
    location: JournalLocation, app: str, *, backup_config: BackupConfig | None
) -> Sequence[RunProblem]:
    """Return the problems of the runs for an app; without a configuration none, because nothing identifies the app.

    Args:
        location: the journal.
        app: the name of the app or instance.
        backup_config: the configured ages of backups, of which the shortest applies; None: no limit.
    """
    if location.folder is None or not location.config:
        return ()
    try:
        history = read_history(location.folder, location.config, app)
    except DbctlError as error:
        return [RunProblem(app=app, command="", kind="unavailable", message=str(error))]
    max_age = _find_shortest_age(backup_config) if backup_config else None
    problems = [problem for command in history for problem in _find(app, command, max_age)]
    if EventStore(location.folder).is_read_only:
        message = f"the journal in {location.folder} cannot be written, so runs are not recorded"
        problems.append(RunProblem(app=app, command="", kind="unavailable", message=message))
    return problems


def _find_shortest_age(backup_config: BackupConfig) -> timedelta | None:
    texts = [backup_config.max_age, *(section.max_age for section in backup_config.databases.values())]
    return min((parse_duration(text) for text in texts if text), default=None)


def _find(app: str, history: CommandHistory, backup_max_age: timedelta | None) -> Iterator[RunProblem]:
    last, command = history.last, history.command
    time = f"{last.started_at:%Y-%m-%d %H:%M} UTC"
    if last.result == INTERRUPTED:
        message = f"{command} was interrupted: its process ended without a result; it began {time}"
        yield RunProblem(
            app=app, command=command, kind="interrupted", message=message, since=last.started_at, run=last.id
        )
    elif history.failures and command in UNATTENDED and last.result != RUNNING:
        code = history.error_code or last.result
        since = history.failing_since or last.started_at
        times = f"{history.failures} times in a row since {since:%Y-%m-%d %H:%M} UTC"
        message = f"{command} failed {times if history.failures > 1 else time} ({code})"
        yield RunProblem(
            app=app, command=command, kind="failing", message=message, code=code, since=since, run=last.id
        )
    elif command == BACKUP and backup_max_age and now() - last.started_at > backup_max_age:
        message = f"{command} has not been started since {time}"
        yield RunProblem(
            app=app, command=command, kind="missing", message=message, since=last.started_at, run=last.id
        )
