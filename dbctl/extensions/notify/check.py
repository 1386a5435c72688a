"""``notify check`` and ``notify summary``: send what is overdue or found, and one message about the state of the apps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import structs

from dbctl.config.sections import Sections, Selection
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import FleetSelectedError
from dbctl.extensions.notify.dispatch import Dispatcher, ProblemsSent, group_by_settings
from dbctl.extensions.notify.errors import NotifyNotConfiguredError
from dbctl.extensions.notify.notice import Attachment, Notice, list_findings
from dbctl.extensions.notify.observer import list_run_problems, report_findings, report_group
from dbctl.model import Finding, Severity, format_count, time_before
from dbctl.services.events.history import list_runs
from dbctl.services.events.runs import JournalLocation, RunFilter, is_failed_job
from dbctl.services.fleet.status import collect_status
from dbctl.services.observation import observe

#: Codes of findings about work that is due.
OVERDUE = frozenset({"backup-due", "verification-due", "drill-due", "cleanup-due", "migrations-pending"})
#: Findings about runs are read from the journal, where they are the same subject as the notice of the run itself.
RUNS = "run-"


def send_problems(
    sections: Sections, location: JournalLocation, selections: Sequence[Selection], *, timeout: float
) -> ProblemsSent:
    """Notify users of overdue work, findings and jobs that failed."""
    dispatcher = Dispatcher(sections, location.config, location.folder)
    for selection in selections:
        for problem in list_run_problems(location, sections, selection.app):
            dispatcher.report(problem)
        findings, is_complete = _read_findings(selection, timeout)
        _report_status(dispatcher, sections, selection.app, findings, is_complete=is_complete)
    return dispatcher.deliver()


def _read_findings(selection: Selection, timeout: float) -> tuple[Sequence[Finding], bool]:
    """Return the findings of the status of an app, or of a fleet, and whether everything could be read."""
    try:
        state = _read_state(selection, timeout)
    except DbctlError as error:
        return [Finding.from_error(selection.app, error)], False
    return [finding for finding in state.findings if not finding.code.startswith(RUNS)], state.is_complete


def _report_status(
    dispatcher: Dispatcher, sections: Sections, app: str, findings: Sequence[Finding], *, is_complete: bool
) -> None:
    overdue = [finding for finding in findings if finding.code in OVERDUE]
    notice = Notice(
        event="overdue",
        apps=[app],
        severity="warning",
        headline=f"overdue: {', '.join(dict.fromkeys(finding.code for finding in overdue))}",
        text="\n".join(list_findings(overdue)),
        findings=overdue,
    )
    if overdue or is_complete:  # what cannot be read may still be overdue
        report_group(dispatcher, "overdue work", notice, "No work is overdue any more.")
    others = [finding for finding in findings if finding.code not in OVERDUE]
    report_findings(dispatcher, sections, app, "status", others)


MAX_RUNS = 10_000


def send_summary(
    sections: Sections,
    location: JournalLocation,
    selections: Sequence[Selection],
    *,
    period: timedelta,
    timeout: float,
    attachment: Attachment | None = None,
) -> ProblemsSent:
    """Send the summary, with the runs that began within ``period``, to the channels whose rules include it.

    Channels that send files also send ``attachment``, such as a report.

    Raises:
        NotifyNotConfiguredError: no channel receives summaries.
    """
    by_app = {selection.app: selection for selection in selections}
    dispatcher = Dispatcher(sections, location.config, location.folder)
    is_received = False
    for settings, apps in group_by_settings(sections, list(by_app)):
        if "summary" not in settings.rules or not settings.channels:
            continue
        is_received = True
        parts, problems = list[str](), 0
        for app in apps:
            lines, count = _describe_app(location, by_app[app], period, timeout)
            parts.append("\n".join(lines))
            problems += count
        severity: Severity = "warning" if problems else "info"
        dispatcher.send(
            Notice(
                event="summary",
                apps=apps,
                severity=severity,
                headline=f"summary: {format_count(problems, 'problem') if problems else 'no problems'}",
                text="\n\n".join(parts),
                attachment=attachment,
            )
        )
    if not is_received:
        raise NotifyNotConfiguredError(channel="channel with the rule summary")
    return dispatcher.deliver()


def _describe_app(
    location: JournalLocation, selection: Selection, period: timedelta, timeout: float
) -> tuple[Sequence[str], int]:
    """Return the lines about an app or a fleet, and the number of its problems."""
    runs = list(_list_runs(location, selection.app, period))
    try:
        size, _, problems, backup_at, _ = _read_state(selection, timeout)
    except DbctlError as error:
        return [f"{selection.app}: {error}", *runs], 1
    state = format_count(len(problems), "problem") if problems else "no problems"
    backup = [f"  newest verified backup: {backup_at:%Y-%m-%d %H:%M} UTC"] if backup_at else []
    lines = [f"{selection.app}: {size}, {state}", *backup, *runs]
    return [*lines, *(f"  ! {problem}" for problem in problems)], len(problems)


class _State(NamedTuple):
    """The state of an app or a fleet."""

    size: str  #: 2 databases
    findings: Sequence[Finding]
    problems: Sequence[str]  #: their messages
    backup_at: datetime | None  #: of its newest backup; of a fleet the oldest of these
    is_complete: bool  #: whether all databases could be read


def _read_state(selection: Selection, timeout: float) -> _State:
    try:
        observed = observe(selection, timeout=timeout)
    except FleetSelectedError as error:
        status = collect_status(selection, error, timeout=timeout)
        findings = status.list_findings()
        problems = [f"{finding.target}: {finding.message}" for finding in findings]
        times = [backup.created_at for backup in status.backups if backup.created_at]
        size = format_count(status.totals.total, "instance")
        return _State(size, findings, problems, min(times, default=None), not status.errors)
    backups = [database.backup for database in observed.databases if database.backup]
    times = [backup.created_at for backup in backups if backup.created_at]
    size = format_count(len(observed.databases), "database")
    is_complete = all(database.is_readable for database in observed.databases)
    return _State(size, observed.findings, observed.messages, max(times, default=None), is_complete)


def _list_runs(location: JournalLocation, app: str, period: timedelta) -> Iterator[str]:
    """Yield a line for each command that ran; nothing if the journal cannot be read."""
    if location.folder is None:
        return
    selected = RunFilter(app=app, since=time_before(period), limit=MAX_RUNS)
    try:
        runs = list_runs(location.folder, selected).items
    except DbctlError as error:
        yield f"  {error}"
        return
    runs = [run for run in runs if run.config == location.config]
    failed = Counter(run.command for run in runs if is_failed_job(run))
    for command, count in sorted(Counter(run.command for run in runs).items()):
        failures = f", {failed[command]} failed" if failed[command] else ""
        yield f"  {command}: {format_count(count, 'run')}{failures}"


def select_apps(sections: Sections, selection: Selection) -> Sequence[Selection]:
    """Return a selection for each configured app, or the selected one."""
    names = [selection.app] if selection.app else list(sections.apps)
    return [structs.replace(selection, app=name) for name in names]
