"""``dbctl notify summary``: one message about the state of the apps, and about the runs of their jobs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import structs

from dbctl.config.sections import Sections, Selection
from dbctl.errors.base import DbctlError
from dbctl.errors.operations import NotifyNotConfiguredError
from dbctl.errors.usage import FleetSelectedError
from dbctl.model import Severity, format_count, now, time_before
from dbctl.services.events.history import list_runs
from dbctl.services.events.location import JournalLocation
from dbctl.services.events.runs import RunFilter, is_failed_job
from dbctl.services.notify.check import ProblemsSent, create_result
from dbctl.services.notify.dispatch import Dispatcher
from dbctl.services.notify.notice import Attachment, Notice
from dbctl.services.notify.settings import group_by_settings
from dbctl.services.observation import observe
from dbctl.services.report.fleets import collect_fleet

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
    """Send the summary to the channels whose rules include it.

    Args:
        sections: the configuration.
        location: the journal, and the path of the configuration.
        selections: the apps.
        period: the runs that began within this time are counted.
        timeout: for locks, in seconds.
        attachment: a file for channels that send files, such as a report.

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
                time=now(),
                host=os.uname().nodename,
                attachment=attachment,
            )
        )
    if not is_received:
        raise NotifyNotConfiguredError(channel="channel with the rule summary")
    return create_result(dispatcher.deliver())


def _describe_app(
    location: JournalLocation, selection: Selection, period: timedelta, timeout: float
) -> tuple[Sequence[str], int]:
    """Return the lines about an app or a fleet, and the number of its problems."""
    runs = list(_list_runs(location, selection.app, period))
    try:
        size, problems, backup_at = _read_state(selection, timeout)
    except DbctlError as error:
        return [f"{selection.app}: {error}", *runs], 1
    state = format_count(len(problems), "problem") if problems else "no problems"
    backup = [f"  newest verified backup: {backup_at:%Y-%m-%d %H:%M} UTC"] if backup_at else []
    lines = [f"{selection.app}: {size}, {state}", *backup, *runs]
    return [*lines, *(f"  ! {problem}" for problem in problems)], len(problems)


def _read_state(selection: Selection, timeout: float) -> tuple[str, Sequence[str], datetime | None]:
    """Return the size of an app or a fleet, its problems, and the time of its newest backup; of a fleet the oldest of these."""
    try:
        observed = observe(selection, timeout=timeout)
    except FleetSelectedError as error:
        status = collect_fleet(selection, error, timeout=timeout)
        problems = [f"{finding.target}: {finding.message}" for finding in status.list_findings()]
        times = [backup.created_at for backup in status.backups if backup.created_at]
        return format_count(status.totals.total, "instance"), problems, min(times, default=None)
    backups = [database.backup for database in observed.databases if database.backup]
    times = [backup.created_at for backup in backups if backup.created_at]
    return format_count(len(observed.databases), "database"), observed.messages, max(times, default=None)


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
