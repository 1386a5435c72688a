"""The status of a fleet: that of its instances, added up; and of an app or instance, in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from dbctl.config.sections import Selection
from dbctl.errors.usage import FleetSelectedError
from dbctl.model import Finding, Row, Severity, Struct, format_count
from dbctl.services.backup.status import DatabaseBackups
from dbctl.services.fleet.instances import load_function
from dbctl.services.migrations.ledger.state import Migration
from dbctl.services.observation import Health
from dbctl.services.status import DatabaseStatus


class InstanceTotals(Struct, frozen=True, kw_only=True):
    """The instances of a fleet, and those that need attention."""

    total: int
    error: int
    due: int


class ReportedApp(Struct, frozen=True, kw_only=True):
    """One app, fleet or instance on the board; the figures of a fleet are the sums of its instances."""

    app: str
    health: Health
    instances: InstanceTotals | None = None  #: None: it is no fleet
    databases: int
    bytes: int | None
    bytes_per_day: int | None = None
    users: int | None = None  #: in the last sample
    backup_at: datetime | None = None  #: the oldest of the newest backups of its databases
    pending: int = 0  #: migrations
    errors: int = 0  #: findings
    warnings: int = 0
    failed_runs: int = 0

    def summary(self) -> Row:
        row = {name: getattr(self, name) for name in self.__struct_fields__ if name != "instances"}
        if self.instances:
            row["app"] = f"{self.app} ({format_count(self.instances.total, 'instance')})"
        return row


class ReportedFinding(Struct, frozen=True, kw_only=True):
    """A problem with the command that solves it."""

    target: str
    severity: Severity
    code: str
    message: str
    remedy: str  #: empty: unknown
    instances: int = 0  #: of a fleet that have it; 0: the app is no fleet
    examples: Sequence[str] = ()  #: the first of these instances

    def summary(self) -> Row:
        row = {name: getattr(self, name) for name in ("target", "severity", "code", "message", "remedy")}
        if others := self.describe_others():
            row["message"] = f"{self.message} ({others})"
        return row

    def describe_others(self) -> str:
        """Return the instances that have it; empty for less than two."""
        if self.instances <= 1:
            return ""
        more = ", …" if self.instances > len(self.examples) else ""
        return f"{format_count(self.instances, 'instance')}: {', '.join(self.examples)}{more}"


class FleetStatus(Struct, frozen=True, kw_only=True):
    """The status of the instances of a fleet."""

    app: str
    instances: Sequence[str]  #: ``APP/INSTANCE``
    totals: InstanceTotals
    databases: int
    errors: int  #: findings
    warnings: int
    rows: Sequence[DatabaseStatus]  #: one for each database of an instance; its figures are sums
    worst: Sequence[ReportedApp]  #: the instances that need attention, the worst first
    findings: Sequence[ReportedFinding]  #: one for all instances that have it
    backups: Sequence[DatabaseBackups]  #: one for each database; the times are the oldest of all instances
    backup_count: int  #: databases of instances whose backups are configured
    due_backups: int  #: those whose backup, verification or drill is due
    migrations: Sequence[Migration]  #: of all instances

    @property
    def health(self) -> Health:
        """The worst of the instances."""
        return "error" if self.totals.error else "due" if self.totals.due else "ok"

    def list_findings(self) -> Sequence[Finding]:
        """Return one finding for all instances that have it; its target and code do not depend on their number."""
        findings = []
        for finding in self.findings:
            instances = finding.describe_others() or finding.examples[0]
            message = f"{finding.message} ({instances})"
            target = finding.target.replace(f"{self.app}/{finding.examples[0]}", self.app, 1)
            findings.append(Finding(target, finding.severity, finding.code, message, finding.remedy))
        return findings


def collect_status(
    selection: Selection, selected: FleetSelectedError, *, timeout: float, jobs: int | None = None
) -> FleetStatus:
    """Return the status of the selected instances of one fleet.

    ``jobs`` is the number of instances that are read at the same time; default: as configured, otherwise the number of processors.

    Raises:
        FleetEmptyError, InstanceListingError: the fleet has no instances, or they cannot be listed.
        NotSupportedError: as ``load_function``.
    """
    status: FleetStatus = load_function("fleet_status", selected)(
        selection, selected, timeout=timeout, jobs=jobs
    )
    return status


def report_databases(
    app: str, health: Health, rows: Sequence[DatabaseStatus], findings: Sequence[Finding]
) -> ReportedApp:
    """Return an app or an instance with these databases for the board; its samples and runs are added later."""
    severities = Counter(finding.severity for finding in findings)
    return ReportedApp(
        app=app,
        health=health,
        databases=sum(row.database is not None for row in rows),
        bytes=sum_known(row.bytes for row in rows),
        backup_at=min((row.backup_at for row in rows if row.backup_at), default=None),
        pending=sum(row.pending or 0 for row in rows),
        errors=severities["error"],
        warnings=severities["warning"],
    )


def sum_known(values: Iterable[int | None]) -> int | None:
    """Return the sum of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
