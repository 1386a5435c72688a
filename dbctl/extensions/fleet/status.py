"""Collect the status of the instances of a fleet in parallel, and add it up."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from heapq import nsmallest
from shlex import quote

from msgspec import structs

from dbctl import progress, signals
from dbctl.config.resolver import FleetSelection
from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import FleetSelectedError
from dbctl.extensions.fleet.run import FleetRun, Kind, RunLimits
from dbctl.model import Finding, Severity, format_count
from dbctl.services.backup.due import Job
from dbctl.services.backup.status import DatabaseBackups
from dbctl.services.fleet.instances import Instance, Outcome, list_instances
from dbctl.services.fleet.status import (
    FleetStatus,
    InstanceTotals,
    ReportedApp,
    ReportedFinding,
    report_databases,
    sum_known,
)
from dbctl.services.migrations.ledger.state import Migration
from dbctl.services.observation import HEALTHS, AppObservation, Health, observe
from dbctl.services.status import DatabaseStatus, list_rows

#: Instances of a fleet that a report lists, and those that a line names.
MAX_INSTANCES, MAX_NAMES = 20, 5
#: States of the migrations of a database, worst first.
_SCHEMAS = ("inconsistent", "unrecorded", "pending", "current", "none")


def collect_fleet(
    selection: Selection, selected: FleetSelectedError, *, timeout: float, jobs: int | None = None
) -> FleetStatus:
    """Return the status of the selected instances of a fleet; see ``services.fleet.status.collect_status``."""
    fleets: Sequence[FleetSelection] = selected.context["selections"]  # type: ignore[assignment] # as raised
    (fleet,) = fleets
    instances = list_instances(fleets, timeout=timeout)
    jobs = jobs or fleet.app.instances.jobs or os.cpu_count() or 1
    collector = _FleetCollector(fleet.app.name, [instance.app for instance in instances])

    def perform(_kind: Kind, instance: Instance) -> Outcome:
        progress.detach()
        signals.reporters.clear()
        single = structs.replace(selection, app=instance.app, configured=instance.configure())
        try:
            observed = observe(single, timeout=timeout)
        except DbctlError as error:
            return Outcome.from_error(instance.app, error)
        return Outcome(app=instance.app, state="done", exit_code=0, data=observed)

    FleetRun(instances, RunLimits(jobs=min(jobs, len(instances))), collector.receive).run(perform)
    return collector.create_status()


class _FleetCollector:
    """Adds up the status of instances."""

    def __init__(self, app: str, instances: Sequence[str]) -> None:
        self._app, self._instances = app, instances
        self._migrations: list[Migration] = []
        self._rows = defaultdict[str, list[DatabaseStatus]](list)
        self._backups = defaultdict[str, list[DatabaseBackups]](list)
        self._findings = defaultdict[tuple[Severity, str, str], list[Finding]](list)
        self._healths = Counter[Health]()
        self._unhealthy: list[ReportedApp] = []

    def receive(self, outcome: Outcome) -> None:
        """Add an instance; one that could not be read has an error."""
        rows: Sequence[DatabaseStatus] = ()
        findings: Sequence[Finding] = ()
        if isinstance(outcome.data, AppObservation):
            observed = outcome.data
            self._migrations += observed.migrations
            rows, findings = list_rows(observed), observed.findings
            for backups in observed.backups.databases if observed.backups else ():
                self._backups[backups.database].append(backups)
        elif error := outcome.error:
            findings = [Finding(outcome.app, "error", error.code, error.message, error.hint)]
        for row in rows:
            if row.database:
                self._rows[row.database].append(row)
        for finding in findings:
            database = finding.target.removeprefix(outcome.app)
            self._findings[finding.severity, finding.code, database].append(finding)
        health: Health = min((row.health for row in rows), key=HEALTHS.index) if rows else "error"
        self._healths[health] += 1
        if health != "ok":
            self._unhealthy.append(report_databases(outcome.app, health, rows, findings))

    def create_status(self) -> FleetStatus:
        severities = Counter[str]()
        for (severity, _, _), findings in self._findings.items():
            severities[severity] += len(findings)
        return FleetStatus(
            app=self._app,
            instances=self._instances,
            totals=InstanceTotals(
                total=len(self._instances), error=self._healths["error"], due=self._healths["due"]
            ),
            databases=sum(map(len, self._rows.values())),
            errors=severities["error"],
            warnings=severities["warning"],
            rows=[self._add_up(database, rows) for database, rows in self._rows.items()],
            worst=nsmallest(
                MAX_INSTANCES,
                self._unhealthy,
                key=lambda app: (HEALTHS.index(app.health), -app.errors, -app.warnings, app.app),
            ),
            findings=[self._combine(*key, findings) for key, findings in self._findings.items()],
            backups=[self._add_up_backups(database, rows) for database, rows in self._backups.items()],
            backup_count=sum(map(len, self._backups.values())),
            due_backups=sum(bool(row.due) for rows in self._backups.values() for row in rows),
            migrations=self._migrations,
        )

    def _add_up(self, database: str, rows: Sequence[DatabaseStatus]) -> DatabaseStatus:
        worst = min(rows, key=lambda row: (HEALTHS.index(row.health), row.state == "ok"))
        schemas = {row.migrations for row in rows if row.migrations}
        overdue = [row.overdue for row in rows if row.overdue is not None]
        return DatabaseStatus(
            app=self._app,
            database=database,
            state=worst.state,
            health=worst.health,
            bytes=sum_known(row.bytes for row in rows),
            wal_bytes=sum_known(row.wal_bytes for row in rows),
            migrations=min(schemas, key=_SCHEMAS.index, default=None),
            pending=sum_known(row.pending for row in rows),
            overdue=sorted({rule for rules in overdue for rule in rules}) if overdue else None,
            backup_at=min((row.backup_at for row in rows if row.backup_at), default=None),
        )

    def _add_up_backups(self, database: str, rows: Sequence[DatabaseBackups]) -> DatabaseBackups:
        stored = sorted((row for row in rows if row.created_at), key=_get_time)
        oldest = stored[0] if stored else rows[0]
        due = defaultdict[Job, list[DatabaseBackups]](list)
        for row in rows:
            for job in row.due:
                due[job].append(row)
        return structs.replace(
            oldest,
            app=self._app,
            database=database,
            backups=sum(row.backups for row in rows),
            bytes=sum_known(row.bytes for row in rows),
            growth_bytes=sum_known(row.growth_bytes for row in rows),
            verified_at=_find_oldest([row.verified_at for row in stored]),
            drilled_at=_find_oldest([row.drilled_at for row in stored]),
            drilled_backup=None,
            others=sum((Counter(row.others) for row in rows), Counter()),
            drill_duration=max((row.drill_duration for row in stored if row.drill_duration), default=None),
            due={
                job: f"{self._name([row.app for row in due_rows])} of {len(rows):,}: {due_rows[0].due[job]}"
                for job, due_rows in due.items()
            },
        )

    def _name(self, apps: Sequence[str]) -> str:
        """Return the number of instances, and the names of the first."""
        names = [app.removeprefix(f"{self._app}/") for app in sorted(apps)[:MAX_NAMES]]
        more = ", …" if len(apps) > MAX_NAMES else ""
        return f"{format_count(len(apps), 'instance')} ({', '.join(names)}{more})"

    def _combine(
        self, severity: Severity, code: str, database: str, findings: Sequence[Finding]
    ) -> ReportedFinding:
        """Return one finding for all instances that have it; the message is that of the first."""
        first = min(findings, key=lambda finding: finding.target)
        apps = {finding.target.removesuffix(database) for finding in findings}
        names = sorted(app.removeprefix(f"{self._app}/") for app in apps)
        is_single = len(names) == 1
        hint = first.hint
        if not is_single:
            own = f"--app {quote(first.target.removesuffix(database))}"
            hint = hint.replace(own, f"--app {quote(self._app)}")
        return ReportedFinding(
            target=first.target if is_single else f"{self._app}{database}",
            severity=severity,
            code=code,
            message=first.message,
            remedy=hint,
            instances=len(names),
            examples=names[:MAX_NAMES],
        )


def _find_oldest(times: Sequence[datetime | None]) -> datetime | None:
    """Return the oldest time; None if one is missing."""
    known = [time for time in times if time]
    return min(known) if known and len(known) == len(times) else None


def _get_time(row: DatabaseBackups) -> datetime:
    return row.created_at or datetime.max.replace(tzinfo=UTC)
