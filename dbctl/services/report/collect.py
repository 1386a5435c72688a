"""Collect an operations report from the status, the samples and the journal."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import ceil

from dbctl import __version__
from dbctl.config import Selection
from dbctl.errors import DbctlError
from dbctl.model import Finding, now
from dbctl.services.history import (
    DatabaseGrowth,
    Sample,
    discard_wrong_times,
    measure_growth,
    read_samples,
    select_evenly,
)
from dbctl.services.journal import JournalLocation, Run, is_failure, read_runs
from dbctl.services.migrations.ledger import Migration
from dbctl.services.report.result import (
    Activity,
    OperationsReport,
    Point,
    ReportedApp,
    ReportedDatabase,
    ReportedFigure,
    ReportedFinding,
    ReportedRun,
    ReportTotals,
    RunKind,
)
from dbctl.services.status import HEALTHS, DatabaseStatus, StatusReport, collect_status

#: The longest lists of a report, so that its size has a limit.
MAX_TABLES, MAX_RUNS, MAX_MIGRATIONS, MAX_FINDINGS, MAX_POINTS, MAX_BARS = 10, 20, 30, 100, 60, 60
#: Groups of commands, and words of other groups, that only check or back up.
_CHECKS = frozenset({"doctor", "integrity check", "integrity cross-check", "apps check", "settings validate"})
_CHECK_WORDS = frozenset({"verify", "drift", "rehearse", "check", "drill"})
#: The commands that solve a problem, if the finding has no hint.
_REMEDIES: Mapping[str, str] = {
    "backup-due": "dbctl backup create",
    "verification-due": "dbctl backup verify",
    "drill-due": "dbctl backup drill",
    "backup-incomplete": "dbctl backup prune",
    "backup-damaged": "dbctl backup verify",
    "manifest-unreadable": "dbctl backup verify",
    "migrations-pending": "dbctl migrate up",
    "ledger-missing": "dbctl migrate baseline",
    "migration-files-missing": "dbctl migrate verify",
    "cleanup-due": "dbctl sessions cleanup",
}


def collect_report(
    selections: Sequence[Selection], location: JournalLocation, *, timeout: float, since: timedelta
) -> OperationsReport:
    """Return the report about apps.

    Args:
        selections: the apps.
        location: the journal with runs and samples; without one, the report has neither.
        timeout: for locks, in seconds.
        since: the period of runs and samples.

    Raises:
        DbctlError: the only app cannot be opened.
    """
    created_at = now()
    begin = created_at - since
    status = collect_status(selections, timeout=timeout)
    names = {row.app for row in status.page.items}
    samples: Mapping[tuple[str, str], Sequence[Sample]] = {}
    runs: Sequence[Run] = ()
    if location.folder and location.config:
        with suppress(DbctlError):  # the status reports a journal that cannot be read
            samples = read_samples(location.folder, location.config, apps=sorted(names), since=begin)
            recorded = read_runs(location.folder, location.config, begin)
            runs = [
                run
                for run in recorded
                if run.started_at <= created_at and names.intersection(run.app.split(", "))
            ]
    samples = {key: series for key, recorded in samples.items() if (series := discard_wrong_times(recorded))}
    growth = measure_growth(samples, begin)
    sizes = {database.target: database for database in growth.databases}
    databases = [_report_database(row, sizes, samples) for row in status.page.items]
    failures = [run for run in runs if is_failure(run.result)]
    interval, activity = _count_runs(runs, begin, created_at)
    apps = [_report_app(name, databases, status, failures) for name in dict.fromkeys(_list_apps(databases))]
    backups = [database for app_backups in status.backups for database in app_backups.databases]
    return OperationsReport(
        created_at=created_at,
        since=begin,
        host=os.uname().nodename,
        version=__version__,
        totals=ReportTotals(
            apps=len(apps),
            databases=sum(database.status.database is not None for database in databases),
            bytes=sum(database.status.bytes or 0 for database in databases),
            bytes_per_day=_sum_known(database.bytes_per_day for database in growth.databases),
            errors=sum(app.errors for app in apps),
            warnings=sum(app.warnings for app in apps),
            runs=len(runs),
            failed_runs=len(failures),
            due_backups=sum(bool(database.due) for database in backups),
        ),
        apps=apps,
        databases=databases,
        findings=_report_findings(status)[:MAX_FINDINGS],
        tables=[table for table in growth.tables if table.rows_change][:MAX_TABLES],
        figures=list(_report_figures(samples)),
        activity=activity,
        activity_interval=interval,
        failures=[_report_run(run) for run in reversed(failures[-MAX_RUNS:])],
        backups=backups,
        migrations=_select_migrations(status.migrations, begin),
        changes=[_report_run(run) for run in reversed(runs) if _classify(run.command) == "change"][:MAX_RUNS],
    )


def _list_apps(databases: Sequence[ReportedDatabase]) -> Iterator[str]:
    """Yield the apps, worst first, with duplicates."""
    yield from (database.status.app for database in databases)


def _report_app(
    name: str, databases: Sequence[ReportedDatabase], status: StatusReport, failures: Sequence[Run]
) -> ReportedApp:
    own = [database for database in databases if database.status.app == name]
    known = [database.status for database in own if database.status.database]
    findings = Counter(
        finding.severity
        for finding in status.findings.findings
        if finding.target == name or finding.target.startswith(f"{name}/")
    )
    times = [row.backup_at for row in known if row.backup_at]
    return ReportedApp(
        app=name,
        health=min((database.status.health for database in own), key=HEALTHS.index),
        databases=len(known),
        bytes=_sum_known(row.bytes for row in known),
        bytes_per_day=_sum_known(database.growth.bytes_per_day for database in own if database.growth),
        users=_sum_known(database.points[-1].users for database in own if database.points),
        backup_at=min(times, default=None),
        pending=sum(row.pending or 0 for row in known),
        errors=findings["error"],
        warnings=findings["warning"],
        failed_runs=sum(name in run.app.split(", ") for run in failures),
    )


def _report_database(
    row: DatabaseStatus,
    growth: Mapping[str, DatabaseGrowth],
    samples: Mapping[tuple[str, str], Sequence[Sample]],
) -> ReportedDatabase:
    series = samples.get((row.app, row.database or ""), ())
    return ReportedDatabase(
        status=row,
        growth=growth.get(f"{row.app}/{row.database}"),
        points=[
            Point(at=sample.taken_at, bytes=sample.bytes, rows=sample.rows, users=sample.users)
            for sample in select_evenly(series, MAX_POINTS)
        ],
    )


def _report_findings(status: StatusReport) -> Sequence[ReportedFinding]:
    """Return the findings, errors first, with their remedies."""
    order = {"error": 0, "warning": 1, "info": 2}
    findings = sorted(status.findings.findings, key=lambda finding: order[finding.severity])
    return [
        ReportedFinding(
            target=finding.target,
            severity=finding.severity,
            code=finding.code,
            message=finding.message,
            remedy=finding.hint or _find_remedy(finding),
        )
        for finding in findings
    ]


def _find_remedy(finding: Finding) -> str:
    command = _REMEDIES.get(finding.code, "")
    return f"{command} --app {shlex.quote(finding.target.partition('/')[0])}" if command else ""


def _report_figures(samples: Mapping[tuple[str, str], Sequence[Sample]]) -> Iterator[ReportedFigure]:
    """Yield the figures of the last samples that have any."""
    for (app, database), recorded in samples.items():
        series = [sample.figures for sample in recorded if sample.figures]
        for name, value in series[-1].items() if series else ():
            first = next(figures[name] for figures in series if name in figures)
            change = value - first if len(series) > 1 else None
            yield ReportedFigure(target=f"{app}/{database}", name=name, value=value, change=change)


def _count_runs(runs: Sequence[Run], begin: datetime, end: datetime) -> tuple[timedelta, Sequence[Activity]]:
    """Return the runs of each interval of whole days, oldest first."""
    days = max((end.date() - begin.date()).days + 1, 1)
    interval = timedelta(days=ceil(days / MAX_BARS))
    first = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    counts = Counter(((run.started_at - first) // interval, is_failure(run.result)) for run in runs)
    return interval, [
        Activity(begin=first + index * interval, succeeded=counts[index, False], failed=counts[index, True])
        for index in range(ceil(days / interval.days))
    ]


def _report_run(run: Run) -> ReportedRun:
    return ReportedRun(
        id=run.id,
        started_at=run.started_at,
        app=run.app,
        command=run.command,
        arguments=shlex.join(run.arguments),
        kind=_classify(run.command),
        user=run.sudo_user or run.user,
        result=run.result,
        is_failure=is_failure(run.result),
        duration=run.duration,
        rows=run.rows,
        error=run.error.code if run.error else "",
        message=run.error.message if run.error else "",
    )


def _classify(command: str) -> RunKind:
    if command in _CHECKS or command.rsplit(maxsplit=1)[-1] in _CHECK_WORDS:
        return "check"
    return "backup" if command.startswith("backup ") else "change"


def _select_migrations(migrations: Sequence[Migration], begin: datetime) -> Sequence[Migration]:
    """Return the migrations that need attention, then those applied since a time, newest first."""
    applied = [row for row in migrations if row.state == "applied" and _time_of(row) >= begin]
    applied.sort(key=_time_of, reverse=True)
    unsettled = [row for row in migrations if row.state not in ("applied", "baseline", "retired")]
    return [*unsettled, *applied][:MAX_MIGRATIONS]


def _time_of(migration: Migration) -> datetime:
    """Return when a migration was applied; a ledger may lack the time or its zone."""
    time = migration.applied_at or datetime.min.replace(tzinfo=UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _sum_known(values: Iterable[int | None]) -> int | None:
    """Return the sum of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
