"""Metrics of apps in the format of Prometheus: their families, which never change, their values, and how they are written."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, get_args

from msgspec import structs

from dbctl import __version__
from dbctl.config import loader
from dbctl.config.model import BackupConfig
from dbctl.config.resolver import FleetSelection
from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import require_driver
from dbctl.files.atomic import write_atomically
from dbctl.model import ChangeResult, Effect, Page, Row, Severity, Struct, now
from dbctl.services.backup.due import DUE_CODES, find_max_age
from dbctl.services.backup.status import AppBackups, DatabaseBackups
from dbctl.services.events.runs import CommandHistory, is_failure, locate_journal
from dbctl.services.events.samples import read_samples
from dbctl.services.fleet.instances import list_instances
from dbctl.services.history import DEFAULT_PERIOD, measure_growth
from dbctl.services.observation import AppObservation, Want, observe, read_histories
from dbctl.units import parse_duration

PREFIX = "dbctl_"
_APP, _DATABASE, _COMMAND = ("app",), ("app", "database"), ("app", "command")


class Family(NamedTuple):
    """The metric of one name. All metrics are gauges; a value that is unknown or does not apply is absent."""

    name: str  #: without ``PREFIX``
    help: str
    labels: Sequence[str] = ()


FAMILIES = (
    Family("build_info", "1; the label is the version of dbctl.", ("version",)),
    Family("collected_timestamp_seconds", "Time at which the metrics were collected."),
    Family("collection_duration_seconds", "Duration of the collection."),
    Family("collection_errors", "Parts of an app that could not be read: app, users, journal.", _APP),
    Family("up", "1 if the app and all its configured databases can be read, otherwise 0.", _APP),
    Family("database_up", "1 if the database can be read, otherwise 0.", _DATABASE),
    Family("database_size_bytes", "Size of the database.", _DATABASE),
    Family("database_wal_bytes", "Size of the write-ahead log of a SQLite file.", _DATABASE),
    Family("database_free_bytes", "Free space of the file system of a database file.", _DATABASE),
    Family("database_growth_bytes_per_day", "Growth of the database in the last 30 days, from its samples.", _DATABASE),
    Family("database_disk_full_seconds", "Predicted time until the disk of the database is full.", _DATABASE),
    Family("migrations_pending", "Migrations that are not applied.", _DATABASE),
    Family(
        "cleanup_overdue_rules", "Cleanup rules whose rows have been due for more than a day.", _DATABASE
    ),
    Family("users", "Users of the app.", _APP),
    Family("findings", "Problems that status reports.", ("app", "severity")),
    Family("backups", "Complete backups that have the database.", _DATABASE),
    Family("backup_last_success_timestamp_seconds", "Time of the newest complete backup.", _DATABASE),
    Family("backup_age_seconds", "Age of the newest complete backup at the collection.", _DATABASE),
    Family("backup_max_age_seconds", "Configured maximum age of the newest backup (max_age).", _APP),
    Family("backup_database_max_age_seconds", "Maximum age of the newest backup of the database.", _DATABASE),
    Family(
        "backup_size_bytes",
        "Size of the database in the folder of the newest backup: of a difference, or 0 if an earlier one has its file.",
        _DATABASE,
    ),
    Family("backup_duration_seconds", "Duration of the last successful run of backup create.", _APP),
    Family(
        "backup_last_verification_timestamp_seconds",
        "Time of the last complete verification of the newest backup.",
        _DATABASE,
    ),
    Family("backup_last_drill_timestamp_seconds", "Time of the last test restore.", _DATABASE),
    Family("backup_drill_duration_seconds", "Duration of the last test restore.", _DATABASE),
    Family("backup_recoverable_since_timestamp_seconds", "First moment that can be recovered from copies and log.", _DATABASE),
    Family("backup_recoverable_until_timestamp_seconds", "Last moment that can be recovered from copies and log.", _DATABASE),
    Family("backup_due", "1 if the action (create, verify, drill, log) is overdue, otherwise 0.", (*_DATABASE, "action")),
    Family("backup_repository_size_bytes", "Size of all backups in the repository.", _APP),
    Family("backup_repository_free_bytes", "Free space of the repository.", _APP),
    Family("backup_invalid", "Backups that are damaged, or whose manifest cannot be read.", _APP),
    Family("run_last_start_timestamp_seconds", "Start of the last run.", _COMMAND),
    Family("run_last_duration_seconds", "Duration of the last run.", _COMMAND),
    Family("run_last_exit_code", "Exit code of the last run; absent while it runs or if it was killed.", _COMMAND),
    Family("run_last_success", "1 if the last run did its work, otherwise 0; absent while it runs.", _COMMAND),
    Family("run_last_success_timestamp_seconds", "End of the last successful run.", _COMMAND),
    Family("run_failures", "Failed runs in a row, up to the last run.", _COMMAND),
)  # fmt: skip


_LABELS = {family.name: family.labels for family in FAMILIES}
_BACKUP = "backup create"
_DAY_SECONDS = 86_400


class Sample(Struct, frozen=True, kw_only=True):
    """The value of a metric for one combination of labels."""

    name: str
    labels: Mapping[str, str]
    value: float  #: times are seconds since 1970-01-01 UTC

    def summary(self) -> Row:
        labels = ", ".join(f"{name}={value}" for name, value in self.labels.items())
        return {"name": self.name, "labels": labels, "value": self.value}


class Metrics(Struct, frozen=True, kw_only=True):
    """The metrics of apps, and the apps and databases that could not be read."""

    page: Page[Sample]
    apps: int
    problems: Sequence[str] = ()


def collect_metrics(selection: Selection, *, timeout: float) -> Metrics:
    """Return the metrics of the selected app, or of every configured one; an app that cannot be read has ``dbctl_up`` 0.

    Raises:
        ConfigMissingError, ConfigInvalidError: there is no valid configuration, or it has no app.
        AppMissingError: the selected app is not configured.
    """
    begin = time.monotonic()
    collector = _Collector(timeout)
    for selected in _list_selections(selection):
        collector.collect(selected)
    collector.add("build_info", 1, __version__)
    collector.add("collected_timestamp_seconds", now())
    collector.add("collection_duration_seconds", round(time.monotonic() - begin, 3))
    samples = collector.samples
    return Metrics(
        page=Page(items=samples, total=len(samples), column_names=Sample.__struct_fields__),
        apps=collector.apps,
        problems=collector.problems,
    )


def _list_selections(selection: Selection) -> list[Selection]:
    """Return one selection per app; an app whose section has an error does not affect the others."""
    if selection.app or selection.profile or selection.urls or selection.configured:
        return [selection]
    sections = loader.load_sections(selection)
    if not sections.apps:
        raise loader.no_app_error(sections.files[0].path)
    return [structs.replace(selection, app=name) for name in sections.apps]


class _Collector:
    """The metrics of apps, app by app."""

    def __init__(self, timeout: float) -> None:
        self.samples: list[Sample] = []
        self.problems: list[str] = []
        self.apps = 0
        self._timeout = timeout
        self._errors = 0  #: of the current app

    def add(self, name: str, value: float | datetime | None, *labels: str) -> None:
        """Add a value; None: it is unknown."""
        if value is not None:
            number = value.timestamp() if isinstance(value, datetime) else value
            named_labels = dict(zip(_LABELS[name], labels, strict=True))
            self.samples.append(Sample(name=PREFIX + name, labels=named_labels, value=number))

    def collect(self, selection: Selection) -> None:
        """Add the metrics of an app, or of the instances of a fleet."""
        name = selection.app
        try:
            configured = loader.find_app(selection, allow_fleet=True)
            name = configured.name
            if configured.is_fleet:
                instances = list_instances([FleetSelection(configured)], timeout=self._timeout)
                for instance in instances:
                    self._collect_app(
                        structs.replace(selection, app=instance.app, configured=instance.configure()),
                        instance.app,
                    )
                return
        except DbctlError as error:
            if selection.app == "" or error.code == "app-missing":
                raise
            self._add_failure(selection, name, error)
            return
        self._collect_app(selection, name)

    def _collect_app(self, selection: Selection, name: str) -> None:
        self._errors = 0
        try:
            observed = observe(selection, timeout=self._timeout, want=Want.USERS)
        except DbctlError as error:
            self._add_failure(selection, name, error)
            return
        self.apps += 1
        self._add_runs(selection, name)
        self._add_databases(observed)
        self.add("collection_errors", self._errors + len(observed.unread), name)
        if observed.backups:
            self._add_backups(name, observed.backups, observed.backup_config)

    def _add_failure(self, selection: Selection, name: str, error: DbctlError) -> None:
        self.apps += 1
        self.problems.append(f"{name}: {error}")
        self.add("up", 0, name)
        self._errors = 1
        self._add_runs(selection, name)
        self.add("collection_errors", self._errors, name)

    def _add_databases(self, observed: AppObservation) -> None:
        name = observed.app
        self.add("up", int(all(database.is_readable for database in observed.databases)), name)
        self.add("users", observed.users, name)
        for database in observed.databases:
            sample = database.sample
            labels = (name, sample.database)
            if not database.is_readable:
                self.problems.append(f"{name}/{sample.database}: {database.state}")
            self.add("database_up", int(database.is_readable), *labels)
            self.add("database_size_bytes", sample.bytes, *labels)
            self.add("database_free_bytes", sample.free_bytes, *labels)
            self.add("database_wal_bytes", database.wal_bytes, *labels)
            self.add("migrations_pending", database.pending, *labels)
            if database.overdue is not None:
                self.add("cleanup_overdue_rules", len(database.overdue), *labels)
        counts = Counter(finding.severity for finding in observed.findings)
        for severity in get_args(Severity):
            self.add("findings", counts[severity], name, severity)

    def _add_runs(self, selection: Selection, app: str) -> None:
        location = locate_journal(selection)
        try:
            for history in read_histories(selection, app).values():
                self._add_command(app, history)
            if location.folder and location.config:
                self._add_growth(location.folder, location.config, app)
        except DbctlError:
            self._errors += 1

    def _add_growth(self, folder: Path, config: str, app: str) -> None:
        since = now() - DEFAULT_PERIOD
        samples = read_samples(folder, config, apps=[app], since=since)
        for growth in measure_growth(samples, since).databases:
            labels, days = (app, growth.target.rpartition("/")[2]), growth.days_until_full
            self.add("database_growth_bytes_per_day", growth.bytes_per_day, *labels)
            self.add("database_disk_full_seconds", days * _DAY_SECONDS if days is not None else None, *labels)

    def _add_command(self, app: str, history: CommandHistory) -> None:
        last, success, labels = history.last, history.last_success, (app, history.command)
        self.add("run_last_start_timestamp_seconds", last.started_at, *labels)
        self.add("run_last_duration_seconds", last.duration, *labels)
        self.add("run_last_exit_code", last.exit_code, *labels)
        if last.result != "running":
            self.add("run_last_success", int(not is_failure(last.result)), *labels)
        self.add("run_last_success_timestamp_seconds", success.ended_at if success else None, *labels)
        self.add("run_failures", history.failures, *labels)
        if history.command == _BACKUP and success:
            self.add("backup_duration_seconds", success.duration, app)

    def _add_backups(self, name: str, backups: AppBackups, configured: BackupConfig | None) -> None:
        repository = backups.repository
        self.add("backup_repository_size_bytes", repository.bytes, name)
        self.add("backup_repository_free_bytes", repository.free_bytes, name)
        self.add("backup_invalid", len(repository.unreadable) + len(repository.damaged), name)
        if configured and configured.max_age:
            self.add("backup_max_age_seconds", parse_duration(configured.max_age).total_seconds(), name)
        for database in backups.databases:
            labels = name, database.database
            self._add_database_backups(database, labels)
            if configured and (max_age := find_max_age(configured, database.database)):
                seconds = parse_duration(max_age).total_seconds()
                self.add("backup_database_max_age_seconds", seconds, *labels)

    def _add_database_backups(self, database: DatabaseBackups, labels: tuple[str, str]) -> None:
        self.add("backups", database.backups, *labels)
        self.add("backup_last_success_timestamp_seconds", database.created_at, *labels)
        self.add("backup_age_seconds", database.age.total_seconds() if database.age else None, *labels)
        self.add("backup_size_bytes", database.bytes, *labels)
        self.add("backup_last_verification_timestamp_seconds", database.verified_at, *labels)
        self.add("backup_last_drill_timestamp_seconds", database.drilled_at, *labels)
        duration = database.drill_duration
        self.add("backup_drill_duration_seconds", duration.total_seconds() if duration else None, *labels)
        moments = database.recoverable
        if moments:
            self.add("backup_recoverable_since_timestamp_seconds", moments.since, *labels)
            self.add("backup_recoverable_until_timestamp_seconds", moments.until, *labels)
        for action in DUE_CODES:
            if action != "log" or moments or action in database.due:
                self.add("backup_due", int(action in database.due), *labels, action)


#: The collector of node_exporter runs as another user.
FILE_MODE = 0o644


class MetricsWritten(ChangeResult, frozen=True, kw_only=True):
    """Result of ``metrics --write``."""

    file: str
    metrics: int
    apps: int

    @property
    def effect(self) -> Effect | None:
        return Effect(
            "wrote", "metric", count=self.metrics, place=f"to {self.file}", counts={"apps": self.apps}
        )


def format_metrics(samples: Sequence[Sample]) -> str:
    """Return the metrics in the text format of Prometheus; the values of labels are escaped.

    Raises:
        DriverMissingError: the library is not installed.
    """
    with require_driver("metrics", driver="prometheus-client", extra="metrics"):
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.core import GaugeMetricFamily
    families = list[GaugeMetricFamily]()
    for family in FAMILIES:
        metric = GaugeMetricFamily(PREFIX + family.name, family.help, labels=family.labels)
        for sample in samples:
            if sample.name == metric.name:
                metric.add_metric(list(sample.labels.values()), sample.value)
        families.append(metric)

    class StoredMetrics:
        def collect(self) -> Sequence[GaugeMetricFamily]:
            return [metric for metric in families if metric.samples]

    registry = CollectorRegistry()
    registry.register(StoredMetrics())
    return generate_latest(registry).decode()


def write_metrics(metrics: Metrics, path: Path) -> MetricsWritten:
    """Replace a file by the metrics; a reader sees the old file or the new one, also if the command fails.

    Raises:
        DriverMissingError: the library is not installed.
        FileFailedError: the path is not a regular file, or cannot be written.
    """
    text = format_metrics(metrics.page.items)
    if path.exists() and not path.is_file():
        raise FileFailedError(path=path, reason="it is not a regular file")
    with write_atomically(path, mode=FILE_MODE, replace=True) as file:
        file.write(text)
        os.fchmod(file.fileno(), FILE_MODE)
    return MetricsWritten(file=str(path), metrics=metrics.page.total, apps=metrics.apps)
