"""Status of scheduled jobs: which are installed, when they ran last, and when they run next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from dbctl.config import loader as config
from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError, Exit, Remedy, worst_status
from dbctl.errors.usage import ConfigInvalidError
from dbctl.extensions.schedule.cron import (
    SYSTEM_FOLDER,
    find_obsolete,
    find_user_folder,
    join_command,
    read_unit,
)
from dbctl.extensions.schedule.jobs import PlannedJob, list_jobs
from dbctl.extensions.schedule.times import find_next_run, list_calendar_events
from dbctl.extensions.schedule.units import name_unit, quote_word, read_mark
from dbctl.files import limited_program
from dbctl.model import Closing, Finding, Findings, Page, Row, Struct, format_count, now
from dbctl.services.events.runs import CommandHistory, is_failure
from dbctl.services.observation import read_histories

#: The folder with a link to each enabled timer, next to the timers.
TIMERS_FOLDER = "timers.target.wants"
SYSTEM_CRONTABS = (Path("/etc/crontab"), Path("/etc/cron.d"))
_SECONDS, _MAX_BYTES = 10, 1 << 20
#: How late a job may start, besides the delay of its timer: it may wait for other jobs.
_TOLERANCE = timedelta(hours=1)


class JobStatus(Struct, frozen=True, kw_only=True):
    """One job of the configuration."""

    app: str
    name: str
    target: str  #: the search or the database; empty: the app
    schedule: str
    installed: Sequence[str]  #: ``systemd``, ``cron``, both or none
    #: ``ok``, ``missing``, ``duplicate``, ``changed``, ``disabled``, ``failed``, ``late`` or ``unknown``: it has not run
    state: str
    #: its start, from the journal; None: unknown, or the journal does not record the command
    last_run: datetime | None
    last_result: str | None
    next_run: datetime | None  #: without the delay of a timer; None: nothing starts the job

    def summary(self) -> Row:
        row = {name: getattr(self, name) for name in self.__struct_fields__}
        return row | {"installed": ", ".join(self.installed) or None, "target": self.target or None}


class JobPage(Page[JobStatus], frozen=True, kw_only=True):
    """The jobs of the selected apps."""

    obsolete: int  #: timers of jobs that the configuration does not have
    unread: int = 0  #: apps that cannot be read

    @property
    def closing(self) -> Closing:
        problems = self.obsolete + sum(job.state not in ("ok", "unknown") for job in self.items)
        unread = [f"{format_count(self.unread, 'app')} unread"] if self.unread else []
        details = [format_count(problems, "problem"), *unread]
        return Closing(f"Checked {format_count(len(self.items), 'job')}", details)


class ScheduleReport(Struct, frozen=True, kw_only=True):
    """The jobs, and the problems of their installation and runs."""

    page: JobPage
    findings: Findings
    failed: Sequence[DbctlError]  #: of apps that cannot be read

    @property
    def status(self) -> Exit:
        """The exit code without ``--check``."""
        failure = worst_status([error.exit_status for error in self.failed])
        return Exit.PARTIAL if failure and self.page.items else failure


def read_schedule(selections: Sequence[Selection], *, folder: Path | None = None) -> ScheduleReport:
    """Return the status of the jobs of apps; their units are in ``folder``, by default in the folders of systemd.

    Raises:
        UsageError: a schedule is invalid.
        DbctlError: the only app cannot be read. With several apps, the error is a finding.
        FileFailedError: a unit cannot be read.
    """
    folders = [folder] if folder else [SYSTEM_FOLDER, *filter(None, [find_user_folder()])]
    crontabs = _read_crontabs()
    items, planned = list[JobStatus](), list[PlannedJob]()
    readable, failed = list[Selection](), list[DbctlError]()
    unread = list[Finding]()
    for selection in selections:
        try:
            jobs = list_jobs([selection])
        except ConfigInvalidError as error:
            if len(selections) == 1:
                raise
            failed.append(error)
            unread.append(Finding.from_error(selection.app, error))
            continue
        readable.append(selection)
        planned += jobs
        histories: Mapping[str, CommandHistory] = {}
        with suppress(DbctlError):  # status reports it
            histories = read_histories(selection, jobs[0].app) if jobs else {}
        for job in jobs:
            units = [Path(place, name_unit(job)) for place in folders]
            items.append(
                _read_job(
                    job,
                    units,
                    crontabs,
                    histories.get(job.journal_command),
                    read_mark(selection),
                    is_in_use=folder is None,
                )
            )
    obsolete = list(_find_obsolete(readable, planned, folders)) if readable else []
    findings = [
        *unread,
        *(finding for item, job in zip(items, planned, strict=True) for finding in _find_problem(item, job)),
        *obsolete,
    ]
    page = JobPage(
        items=items,
        total=len(items),
        column_names=JobStatus.__struct_fields__,
        empty_message="no jobs are configured",
        obsolete=len(obsolete),
        unread=len(failed),
    )
    return ScheduleReport(page=page, findings=Findings(checked=len(items), findings=findings), failed=failed)


def _read_job(
    job: PlannedJob,
    units: Sequence[Path],
    crontabs: str,
    history: CommandHistory | None,
    mark: str,
    *,
    is_in_use: bool,
) -> JobStatus:
    """Return the status of a job; ``is_in_use``: systemd reads the units from their folders, and starts those with a link."""
    timers = [unit for unit in units if read_unit(unit.with_name(f"{unit.name}.timer"))]
    lines = [line for line in crontabs.splitlines() if line.lstrip()[:1] != "#" and join_command(job) in line]
    installed = ["systemd"] * bool(timers) + ["cron"] * bool(lines)
    is_current = all(_is_current(job, unit, mark) for unit in timers) and all(
        line.split()[: len(job.schedule.split())] == job.schedule.split() for line in lines
    )
    links = [unit.parent / TIMERS_FOLDER / f"{unit.name}.timer" for unit in timers]
    is_disabled = is_in_use and not all(link.is_symlink() for link in links)
    last, current = history.last if history else None, now()
    state = "ok"
    if not installed:
        state = "missing"
    elif len(installed) > 1:
        state = "duplicate"
    elif not is_current:
        state = "changed"
    elif is_disabled:
        state = "disabled"
    elif last is None:
        state = "unknown"
    elif is_failure(last.result):
        state = "failed"
    elif current > find_next_run(job.schedule, last.started_at) + _TOLERANCE + _read_delay(timers):
        state = "late"
    return JobStatus(
        app=job.app,
        name=job.name,
        target=job.target,
        schedule=job.schedule,
        installed=installed,
        state=state,
        last_run=last.started_at if last else None,
        last_result=last.result if last else None,
        next_run=find_next_run(job.schedule, current) if lines or (timers and not is_disabled) else None,
    )


def _read_delay(timers: Sequence[Path]) -> timedelta:
    texts = [read_unit(unit.with_name(f"{unit.name}.timer")) for unit in timers]
    delays = [
        int(seconds)
        for text in texts
        for seconds in re.findall(r"^RandomizedDelaySec=(\d+)s$", text, re.MULTILINE)
    ]
    return timedelta(seconds=max(delays, default=0))


def _is_current(job: PlannedJob, unit: Path, mark: str) -> bool:
    """Whether a service and its timer have the command and the times of a job; the second does not matter."""
    service = read_unit(unit.with_name(f"{unit.name}.service")).splitlines()
    timer = read_unit(unit.with_name(f"{unit.name}.timer"))
    times = [event.rpartition(":")[0] for event in re.findall("^OnCalendar=(.*)$", timer, re.MULTILINE)]
    expected = [event.rpartition(":")[0] for event in list_calendar_events(job.schedule, 0)]
    command = f"ExecStart={' '.join(map(quote_word, job.command))}"
    return command in service and mark in service and times == expected


_MESSAGES: Mapping[str, str] = {
    "missing": "is not installed",
    "duplicate": "is installed in a crontab and as a timer, so it runs twice",
    "changed": "is installed with another command or schedule than the configuration",
    "disabled": "has a timer that is not enabled, so nothing starts it",
    "failed": "failed in its last run",
    "late": "did not start at its time after the last run",
}


INSTALL_HINT = Remedy("Schedule it with: `schedule systemd --install`; or with: `schedule cron`")
INSTALL_USER_HINT = Remedy("Schedule it with: `schedule systemd --user --install`")
OBSOLETE_HINT = Remedy("Remove it with: `schedule systemd --install`")
OBSOLETE_USER_HINT = Remedy("Remove it with: `schedule systemd --user --install`")
OBSOLETE_FOLDER_HINT = Remedy("Remove it with: `schedule systemd --install --directory {folder}`")
RUNS_HINT = Remedy("List its runs with: `runs list`")


def _find_problem(job: JobStatus, planned: PlannedJob) -> Iterator[Finding]:
    if message := _MESSAGES.get(job.state):
        name = f"{job.name} of {job.target}" if job.target else job.name
        user_folder = find_user_folder()
        is_of_user = user_folder is not None and (user_folder / f"{name_unit(planned)}.timer").exists()
        hint = INSTALL_USER_HINT if is_of_user else INSTALL_HINT
        if job.state in ("failed", "late"):
            hint = RUNS_HINT
        yield Finding(
            job.app, "warning", f"job-{job.state}", f"the job {name} {message}", hint.write(job.app)
        )


def _find_obsolete(
    selections: Sequence[Selection], jobs: Sequence[PlannedJob], folders: Sequence[Path]
) -> Iterator[Finding]:
    """Yield the timers of jobs that the configuration does not have any more."""
    names = {f"{name_unit(job)}.timer" for job in jobs}
    apps = [config.find_app(selection, allow_fleet=True).name for selection in selections]
    remedies = {SYSTEM_FOLDER: OBSOLETE_HINT, find_user_folder(): OBSOLETE_USER_HINT}
    for folder in folders:
        remedy = remedies.get(folder, OBSOLETE_FOLDER_HINT)
        for path, app in find_obsolete(folder, selections, names).items():
            if path.suffix == ".timer":
                message = f"{path} is the timer of a job that the configuration does not have"
                hint = remedy.write(app if app in apps else apps[0], {"folder": folder})
                yield Finding(app, "warning", "job-obsolete", message, hint)


def _read_crontabs() -> str:
    """Return the lines of the user's crontab and of those of the system that can be read; cron ignores names with a dot."""
    texts = list[str]()
    with suppress(limited_program.ProgramFailedError):  # there is no cron, or the user has no crontab
        output = limited_program.run(["crontab", "-l"], seconds=_SECONDS, max_bytes=_MAX_BYTES)
        texts.append(output.decode(errors="replace"))
    for place in SYSTEM_CRONTABS:
        paths = [place]
        with suppress(OSError):  # it is a file
            paths = sorted(path for path in place.iterdir() if "." not in path.name)
        for path in paths:
            with suppress(OSError):
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(texts)
