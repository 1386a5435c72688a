"""Collect an operations report from the status, the samples and the journal."""

from __future__ import annotations

import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from math import ceil
from pathlib import Path

from msgspec import structs

from dbctl import __version__
from dbctl.config import loader
from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import FleetSelectedError
from dbctl.extensions.reports.result import (
    Activity,
    OperationsReport,
    Point,
    ReportedDatabase,
    ReportedFigure,
    ReportedMigration,
    ReportedRun,
    ReportTotals,
    RunKind,
)
from dbctl.extensions.reports.sums import SampleSum
from dbctl.model import Finding, Struct, format_count, now
from dbctl.services.events.history import read_runs
from dbctl.services.events.runs import JournalLocation, Run, is_failed_job
from dbctl.services.events.samples import DatabaseKey, Sample, discard_wrong_times, read_samples, read_series
from dbctl.services.fleet.status import (
    FleetStatus,
    ReportedApp,
    ReportedFinding,
    collect_status,
    report_databases,
    sum_known,
)
from dbctl.services.history import DatabaseGrowth, measure_database_growth, measure_growth, select_evenly
from dbctl.services.migrations.ledger.state import Migration
from dbctl.services.observation import HEALTHS, Health, observe_apps
from dbctl.services.status import DatabaseStatus, list_rows

#: Samples in a chart at most.
MAX_POINTS = 60
#: Samples that are this much older than the period count as those at its beginning.
_EARLIER = timedelta(days=8)


class ReportedSamples(Struct, frozen=True, kw_only=True):
    """The samples of apps and fleets, and the growth of instances."""

    series: Mapping[DatabaseKey, Sequence[Sample]]  #: in the order of time
    #: by app, the growth of each database of an instance, and its users in the last sample
    instances: Mapping[str, Sequence[tuple[DatabaseGrowth, int | None]]]

    def list_growing(self, count: int) -> Sequence[DatabaseGrowth]:
        """Return the databases of instances that grow fastest."""
        growing = (
            growth
            for databases in self.instances.values()
            for growth, _ in databases
            if (growth.bytes_per_day or 0) > 0
        )
        return nlargest(count, growing, key=lambda growth: growth.bytes_per_day or 0)


def read_reported_samples(
    folder: Path,
    config: str,
    *,
    apps: Sequence[str],
    fleets: Mapping[str, Sequence[str]],
    period: tuple[datetime, datetime],
) -> ReportedSamples:
    """Return the samples between both times of ``period``, of ``apps`` that are no fleets, and of ``fleets`` with their instances.

    They are in the journal of ``folder``; ``config`` is the path of the configuration.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    begin, end = period
    samples = read_samples(folder, config, apps=apps, since=begin) if apps else {}
    result = {key: series for key, recorded in samples.items() if (series := discard_wrong_times(recorded))}
    growth = dict[str, list[tuple[DatabaseGrowth, int | None]]]()
    times = _list_times(begin, end)
    for fleet, instances in fleets.items():
        sums = dict[str, SampleSum]()
        for recorded in read_series(folder, config, apps=instances, since=begin - _EARLIER):
            series = discard_wrong_times(recorded)
            if not series:
                continue
            last = series[-1]
            if last.database not in sums:
                sums[last.database] = SampleSum(fleet, last.database, times)
            sums[last.database].add(series)
            if recent := [sample for sample in series if sample.taken_at >= begin]:
                growth.setdefault(last.app, []).append((measure_database_growth(recent), last.users))
        result |= {(fleet, database): total.create_series() for database, total in sums.items()}
    return ReportedSamples(series=result, instances=growth)


def _list_times(begin: datetime, end: datetime) -> Sequence[datetime]:
    """Return the end of the period, and times before it in equal intervals of whole days, oldest first."""
    interval = timedelta(days=ceil(max((end - begin) / timedelta(days=1), 1) / (MAX_POINTS - 1)))
    return list(_step_back(end, begin, interval))[::-1]


def _step_back(end: datetime, begin: datetime, interval: timedelta) -> Iterator[datetime]:
    while end >= begin:
        yield end
        end -= interval


#: The longest lists of a report, so that its size has a limit.
MAX_TABLES, MAX_RUNS, MAX_MIGRATIONS, MAX_FINDINGS, MAX_BARS = 10, 20, 30, 100, 60
#: Groups of commands, and words of other groups, that only check or back up.
_CHECKS = frozenset({"doctor", "integrity check", "integrity cross-check", "apps check", "settings validate"})
_CHECK_WORDS = frozenset({"verify", "drift", "rehearse", "check", "drill"})
_SEVERITIES = ("error", "warning", "info")


def collect_report(
    selections: Sequence[Selection],
    location: JournalLocation,
    *,
    timeout: float,
    since: timedelta,
    jobs: int | None = None,
) -> OperationsReport:
    """Return the report about apps and fleets; ``since`` is the period of runs and samples.

    Without the journal of ``location``, it has neither. ``jobs`` is as in ``collect_status`` of a fleet.

    Raises:
        DbctlError: the only app cannot be opened, or the instances of the only fleet cannot be listed.
    """
    created_at = now()
    begin = created_at - since
    plain, fleet_selections = _split(selections)
    # First, because it forks processes, and connections belong to one.
    fleets, failures = _collect_fleets(fleet_selections, timeout, jobs, is_only=len(selections) == 1)
    observed = observe_apps(plain, timeout=timeout, has_others=bool(fleet_selections))
    rows = [row for app in observed for row in list_rows(app)]
    rows += [row for fleet in fleets for row in fleet.rows]
    plain_findings = [finding for app in observed for finding in app.findings]
    findings = [
        ReportedFinding(
            target=finding.target,
            severity=finding.severity,
            code=finding.code,
            message=finding.message,
            remedy=finding.hint,
        )
        for finding in (*plain_findings, *failures)
    ]
    findings += [finding for fleet in fleets for finding in fleet.findings]
    names = list(dict.fromkeys([*(row.app for row in rows), *(failure.target for failure in failures)]))
    samples, runs = _read_journal(location, names, fleets, (begin, created_at))
    growth = measure_growth(samples.series, begin)
    sizes = {database.target: database for database in growth.databases}
    databases = [_report_database(row, sizes, samples.series) for row in rows]
    failed_runs = [run for run in runs if is_failed_job(run)]
    interval, activity = _count_runs(runs, begin, created_at)
    apps = [_report_app(app.app, databases, plain_findings, failed_runs) for app in observed]
    apps += [_report_fleet(fleet, databases, failed_runs) for fleet in fleets]
    apps += [
        ReportedApp(app=failure.target, health="error", databases=0, bytes=None, errors=1)
        for failure in failures
    ]
    backups = [database for app in observed if app.backups for database in app.backups.databases]
    return OperationsReport(
        created_at=created_at,
        since=begin,
        host=os.uname().nodename,
        version=__version__,
        totals=ReportTotals(
            apps=len(apps),
            databases=sum(app.databases for app in apps),
            bytes=sum(app.bytes or 0 for app in apps),
            bytes_per_day=sum_known(database.bytes_per_day for database in growth.databases),
            errors=sum(app.errors for app in apps),
            warnings=sum(app.warnings for app in apps),
            runs=len(runs),
            failed_runs=len(failed_runs),
            backups=len(backups) + sum(fleet.backup_count for fleet in fleets),
            due_backups=sum(bool(database.due) for database in backups)
            + sum(fleet.due_backups for fleet in fleets),
        ),
        apps=sorted(apps, key=lambda app: HEALTHS.index(app.health)),
        instances=[
            _add_figures(app, samples.instances.get(app.app, ()), failed_runs)
            for fleet in fleets
            for app in fleet.worst
        ],
        databases=sorted(databases, key=lambda database: HEALTHS.index(database.status.health)),
        findings=sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))[:MAX_FINDINGS],
        tables=[table for table in growth.tables if table.rows_change][:MAX_TABLES],
        growing=samples.list_growing(MAX_TABLES),
        figures=list(_report_figures(samples.series)),
        activity=activity,
        activity_interval=interval,
        failures=[_report_run(run) for run in reversed(failed_runs[-MAX_RUNS:])],
        backups=[*backups, *(row for fleet in fleets for row in fleet.backups)],
        migrations=_select_migrations([row for app in observed for row in app.migrations], fleets, begin),
        changes=[_report_run(run) for run in reversed(runs) if _classify(run.command) == "change"][:MAX_RUNS],
    )


def _split(
    selections: Sequence[Selection],
) -> tuple[Sequence[Selection], Sequence[tuple[Selection, FleetSelectedError]]]:
    """Return the apps that are no fleets, and the fleets; what has an error is no fleet."""
    plain, fleets = list[Selection](), list[tuple[Selection, FleetSelectedError]]()
    for selection in selections:
        try:
            loader.find_app(selection)
            plain.append(selection)
        except FleetSelectedError as error:
            fleets.append((selection, error))
        except DbctlError:
            plain.append(selection)
    return plain, fleets


def _collect_fleets(
    fleets: Sequence[tuple[Selection, FleetSelectedError]], timeout: float, jobs: int | None, *, is_only: bool
) -> tuple[Sequence[FleetStatus], Sequence[Finding]]:
    """Return the status of each fleet, and the fleets whose instances cannot be listed."""
    collected, failures = list[FleetStatus](), list[Finding]()
    for selection, selected in fleets:
        try:
            collected.append(collect_status(selection, selected, timeout=timeout, jobs=jobs))
        except DbctlError as error:
            if is_only:
                raise
            failures.append(Finding.from_error(selection.app, error))
    return collected, failures


def _read_journal(
    location: JournalLocation,
    names: Sequence[str],
    fleets: Sequence[FleetStatus],
    period: tuple[datetime, datetime],
) -> tuple[ReportedSamples, Sequence[Run]]:
    """Return the samples and the runs of apps in a period; nothing without a readable journal, which the status reports."""
    begin, end = period
    samples, runs = ReportedSamples(series={}, instances={}), list[Run]()
    if location.folder and location.config:
        with suppress(DbctlError):
            instances = {fleet.app: fleet.instances for fleet in fleets}
            apps = sorted(set(names) - set(instances))
            samples = read_reported_samples(
                location.folder, location.config, apps=apps, fleets=instances, period=period
            )
            runs = [
                run
                for run in read_runs(location.folder, location.config, begin)
                if run.started_at <= end and any(_concerns(run, name) for name in names)
            ]
    return samples, runs


def _concerns(run: Run, name: str) -> bool:
    """Whether a run worked on an app, or on an instance of a fleet."""
    return any(app == name or app.startswith(f"{name}/") for app in run.app.split(", "))


def _report_app(
    name: str, databases: Sequence[ReportedDatabase], findings: Sequence[Finding], failures: Sequence[Run]
) -> ReportedApp:
    own = [database for database in databases if database.status.app == name]
    rows = [database.status for database in own]
    health: Health = min((row.health for row in rows), key=HEALTHS.index, default="ok")
    own_findings = [
        finding for finding in findings if finding.target == name or finding.target.startswith(f"{name}/")
    ]
    figures = [(entry.growth, entry.points[-1].users if entry.points else None) for entry in own]
    return _add_figures(report_databases(name, health, rows, own_findings), figures, failures)


def _report_fleet(
    fleet: FleetStatus, databases: Sequence[ReportedDatabase], failures: Sequence[Run]
) -> ReportedApp:
    return structs.replace(
        _report_app(fleet.app, databases, (), failures),
        health=fleet.health,
        instances=fleet.totals,
        databases=fleet.databases,
        errors=fleet.errors,
        warnings=fleet.warnings,
    )


def _add_figures(
    app: ReportedApp, databases: Sequence[tuple[DatabaseGrowth | None, int | None]], failures: Sequence[Run]
) -> ReportedApp:
    """Return an app or an instance with what the journal has about it."""
    return structs.replace(
        app,
        bytes_per_day=sum_known(growth.bytes_per_day for growth, _ in databases if growth),
        users=sum_known(users for _, users in databases),
        failed_runs=sum(_concerns(run, app.app) for run in failures),
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
    counts = Counter(((run.started_at - first) // interval, is_failed_job(run)) for run in runs)
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
        is_failure=is_failed_job(run),
        duration=run.duration,
        rows=run.rows,
        error=run.error.code if run.error else "",
        message=run.error.message if run.error else _describe_instances(run),
    )


def _describe_instances(run: Run) -> str:
    """Return how many instances of a fleet failed; empty: none."""
    counts = run.instances
    if counts is None or not counts.failed:
        return ""
    return f"{counts.failed:,} of {format_count(counts.done + counts.failed + counts.skipped, 'instance')} failed"


def _classify(command: str) -> RunKind:
    if command in _CHECKS or command.rsplit(maxsplit=1)[-1] in _CHECK_WORDS:
        return "check"
    return "backup" if command.startswith("backup ") else "change"


def _select_migrations(
    migrations: Sequence[Migration], fleets: Sequence[FleetStatus], begin: datetime
) -> Sequence[ReportedMigration]:
    """Return the migrations that need attention, then those applied since a time, newest first."""
    reported = [ReportedMigration(**structs.asdict(row)) for row in migrations if _is_reported(row, begin)]
    for fleet in fleets:
        groups = defaultdict[tuple[str, str, str], list[Migration]](list)
        for row in fleet.migrations:
            if _is_reported(row, begin):
                groups[row.database, row.name, row.state].append(row)
        for rows in groups.values():
            fields = structs.asdict(max(rows, key=_time_of)) | {"app": fleet.app}
            reported.append(ReportedMigration(**fields, instances=len(rows)))
    reported.sort(key=_time_of, reverse=True)
    reported.sort(key=lambda row: row.state == "applied")
    return reported[:MAX_MIGRATIONS]


def _is_reported(migration: Migration, begin: datetime) -> bool:
    if migration.state == "applied":
        return _time_of(migration) >= begin
    return migration.state not in ("baseline", "retired")


def _time_of(migration: Migration) -> datetime:
    """Return when a migration was applied; a ledger may lack the time or its zone."""
    time = migration.applied_at or datetime.min.replace(tzinfo=UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
