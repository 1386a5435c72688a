"""The content of an operations report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from dbctl.model import Row, Struct
from dbctl.services.backup.status import DatabaseBackups
from dbctl.services.fleet.status import ReportedApp, ReportedFinding
from dbctl.services.history import DatabaseGrowth, TableGrowth
from dbctl.services.migrations.ledger.state import Migration
from dbctl.services.status import DatabaseStatus

#: The kind of work of a run.
RunKind: TypeAlias = Literal["change", "check", "backup"]


class Point(Struct, frozen=True, kw_only=True):
    """A sample in a chart."""

    at: datetime
    bytes: int | None
    rows: int | None
    users: int | None


class ReportedDatabase(Struct, frozen=True, kw_only=True):
    """One database: its state, its growth, and the samples of its charts."""

    status: DatabaseStatus
    growth: DatabaseGrowth | None  #: None: there are no samples
    points: Sequence[Point] = ()  #: in the order of time

    @property
    def target(self) -> str:
        """Its app and name."""
        return f"{self.status.app}/{self.status.database}" if self.status.database else self.status.app


class ReportedMigration(Migration, frozen=True, kw_only=True):
    """A migration in one state."""

    instances: int = 0  #: of a fleet, with it in this state; 0: the app is no fleet

    def summary(self) -> Row:
        return {**super().summary(), "instances": self.instances} if self.instances else super().summary()


class Activity(Struct, frozen=True, kw_only=True):
    """The runs of a period."""

    begin: datetime
    succeeded: int
    failed: int


class ReportedRun(Struct, frozen=True, kw_only=True):
    """A run of a command, without secrets."""

    id: int
    started_at: datetime
    app: str
    command: str
    arguments: str
    kind: RunKind
    user: str
    result: str
    is_failure: bool
    duration: float | None
    rows: int | None
    error: str  #: its code
    message: str

    listed = ("id", "started_at", "app", "command", "arguments", "user", "result", "error")


class ReportedFigure(Struct, frozen=True, kw_only=True):
    """A figure of a profile in the last sample."""

    target: str
    name: str
    value: float
    change: float | None  #: since the first sample of the period


class ReportTotals(Struct, frozen=True, kw_only=True):
    """The figures at the top."""

    apps: int
    databases: int
    bytes: int
    bytes_per_day: int | None
    errors: int
    warnings: int
    runs: int
    failed_runs: int
    backups: int  #: databases whose backups are configured
    due_backups: int  #: those whose backup, verification or drill is due


class OperationsReport(Struct, frozen=True, kw_only=True):
    """Result of ``report``."""

    created_at: datetime
    since: datetime
    host: str
    version: str
    totals: ReportTotals
    apps: Sequence[ReportedApp]  #: those that need attention first
    instances: Sequence[ReportedApp]  #: of fleets, those that need attention; some of each fleet
    databases: Sequence[ReportedDatabase]
    findings: Sequence[ReportedFinding]
    tables: Sequence[TableGrowth]  #: those that grow fastest
    growing: Sequence[DatabaseGrowth]  #: databases of instances of fleets that grow fastest
    figures: Sequence[ReportedFigure]
    activity: Sequence[Activity]
    activity_interval: timedelta  #: of each entry
    failures: Sequence[ReportedRun]  #: newest first
    backups: Sequence[DatabaseBackups]
    migrations: Sequence[ReportedMigration]  #: pending ones, and those applied in the period
    changes: Sequence[ReportedRun]  #: newest first

    def summary(self) -> Row:
        period = {"created_at": self.created_at, "since": self.since, "host": self.host}
        return period | {title: rows for title, rows in self._list_tables().items() if rows}

    def _list_tables(self) -> Mapping[str, Sequence[object]]:
        return {
            "apps": [app.summary() for app in self.apps],
            "instances": [app.summary() for app in self.instances],
            "databases": [database.status.summary() for database in self.databases],
            "findings": [finding.summary() for finding in self.findings],
            "growth": [database.growth.summary() for database in self.databases if database.growth],
            "growing": [growth.summary() for growth in self.growing],
            "tables": [table.summary() for table in self.tables],
            "figures": self.figures,
            "failures": [run.summary() for run in self.failures],
            "backups": [_summarize_backups(backups) for backups in self.backups],
            "migrations": [migration.summary() for migration in self.migrations],
            "changes": [run.summary() for run in self.changes],
        }


def _summarize_backups(backups: DatabaseBackups) -> Row:
    names = ("app", "database", "backups", "created_at", "bytes", "verified_at", "drilled_at")
    due = "; ".join(backups.due.values()) or None
    return {name: getattr(backups, name) for name in names} | {"drill": backups.drill_duration, "due": due}
