"""Status of every database of the selected apps; reads only small amounts of data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from msgspec import structs

from dbctl.config import Selection
from dbctl.engines.contract import Advisor, DatabaseFiles, SizeMonitor
from dbctl.errors import DatabaseNotConfiguredError, DbctlError, Exit, ReadOnlyError, worst_status
from dbctl.files import read_volume
from dbctl.model import Closing, Finding, Findings, Page, Row, Struct, format_count
from dbctl.services import app as app_service
from dbctl.services.app import App
from dbctl.services.backup import AppBackups
from dbctl.services.backup import status as backup_status
from dbctl.services.checks import (
    check_replica,
    find_interrupted_restore,
    find_leftover_files,
)
from dbctl.services.events.location import locate_journal
from dbctl.services.events.monitor import find_problems
from dbctl.services.migrations import status as migration_status
from dbctl.services.migrations.ledger import Migration, SchemaState, read_state
from dbctl.services.sessions import CleanUp

#: Time limit per database for counting rows with an overdue cleanup.
CLEANUP_TIMEOUT = timedelta(seconds=0.3)


Health: TypeAlias = Literal["error", "due", "ok"]
#: Worst first.
HEALTHS: Sequence[Health] = ("error", "due", "ok")


class DatabaseStatus(Struct, frozen=True, kw_only=True):
    """Status of one database; unknown or inapplicable fields are None."""

    app: str
    database: str | None  #: None: the app could not be opened
    state: str  #: ``ok``, or the code of an error
    health: Health = (
        "ok"  #: ``due``: an action is due; ``error``: any other problem of the database or its app
    )
    bytes: int | None = None
    wal_bytes: int | None = None  #: size of the -wal
    migrations: SchemaState | None = None  #: ``unrecorded``: the ledger is missing
    pending: int | None = None  #: migrations
    #: rules of ``sessions cleanup`` that have been due for more than a day
    overdue: Sequence[str] | None = None
    backup_at: datetime | None = None  #: time of the newest verified backup of this database

    def summary(self) -> Row:
        row = {field: getattr(self, field) for field in ("app", "database", "state", "bytes", "wal_bytes")}
        row["state"] = self.health if self.state == "ok" else self.state
        row["migrations"] = f"{self.pending} pending" if self.migrations == "pending" else self.migrations
        row["cleanup"] = None if self.overdue is None else "overdue" if self.overdue else "done"
        return row | {"backup": self.backup_at}


class StatusPage(Page[DatabaseStatus], frozen=True, kw_only=True):
    """The databases, worst first."""

    @property
    def closing(self) -> Closing:
        healths = [database.health for database in self.items]
        apps = format_count(len({database.app for database in self.items}), "app")
        details = [f"{healths.count('due')} due", format_count(healths.count("error"), "error")]
        return Closing(f"{apps}, {format_count(len(self.items), 'database')}", details)


class StatusReport(Struct, frozen=True, kw_only=True):
    """Status of the selected apps."""

    page: StatusPage
    apps: Sequence[str]
    findings: Findings  #: the problems; an action that is due is a warning
    notes: Sequence[str]  #: checks that were skipped because of their duration
    check: Exit  #: exit code of ``--check``
    status: Exit  #: exit code without ``--check``: databases that could not be read
    backups: Sequence[AppBackups] = ()  #: of the apps with a repository that could be read
    migrations: Sequence[Migration] = ()
    unrecorded: str = ""  #: why the sizes and rows were not recorded

    @property
    def problems(self) -> Sequence[str]:
        """Messages about the problems."""
        return list(dict.fromkeys(_describe_problem(finding) for finding in self.findings.findings))


def collect_status(
    selections: Sequence[Selection], *, timeout: float, only: str = "", record: bool = False, fleets: int = 0
) -> StatusReport:
    """Return the status of the databases of apps.

    Args:
        selections: the apps.
        timeout: for locks, in seconds.
        only: restricts the report to one database.
        record: whether to count rows, and to record a sample of each database.
        fleets: further apps, which the caller reports.

    Raises:
        DbctlError: the only app cannot be opened. With several apps, the error is part of the report.
    """
    collector = _StatusCollector()
    for selection in selections:
        try:
            with app_service.open_app(selection, timeout=timeout, only=only, traceless=True) as app:
                collector.add_app(app, selection)
                if record:
                    collector.record_samples(app, selection)
        except DbctlError as error:
            if len(selections) + fleets == 1:
                raise
            collector.add_failure(error, selection.app)
            collector.rows.append(DatabaseStatus(app=selection.app, database=None, state=error.code))
    return collector.create_report()


def collect_app_status(app: App, selection: Selection) -> StatusReport:
    """Return the status of the databases of an open app."""
    collector = _StatusCollector()
    collector.add_app(app, selection)
    return collector.create_report()


class _StatusCollector:
    """Collector of the status of databases, app by app."""

    def __init__(self) -> None:
        self.rows: list[DatabaseStatus] = []
        self._apps: list[str] = []
        self._findings: list[Finding] = []
        self._notes: list[str] = []
        self._backups: list[AppBackups] = []
        self._migrations: list[Migration] = []
        self._unrecorded = ""
        self._failure_statuses: list[Exit] = []  #: of errors that prevented a check
        self._problem_statuses: list[Exit] = []  #: of problems that checks found
        self._statuses = defaultdict[str, set[Exit]](set)  #: both, by target

    def create_report(self) -> StatusReport:
        status = worst_status(self._failure_statuses)
        if self._failure_statuses and len(self._failure_statuses) < len(self.rows):
            status = Exit.PARTIAL
        return StatusReport(
            page=StatusPage(
                items=self._sort_rows(),
                total=len(self.rows),
                column_names=DatabaseStatus.__struct_fields__,
                empty_message="no databases are configured",
            ),
            apps=self._apps,
            findings=Findings(checked=len(self.rows), findings=list(dict.fromkeys(self._findings))),
            notes=self._notes,
            check=status or worst_status(self._problem_statuses),
            status=status,
            backups=self._backups,
            migrations=self._migrations,
            unrecorded=self._unrecorded,
        )

    def _sort_rows(self) -> list[DatabaseStatus]:
        """Return the rows with their health, worst first."""
        rows = []
        for row in self.rows:
            statuses = self._statuses[row.app] | self._statuses[f"{row.app}/{row.database}"]
            health: Health = "error" if statuses - {Exit.ACTION_NEEDED} else "due" if statuses else "ok"
            rows.append(structs.replace(row, health=health))
        return sorted(rows, key=lambda row: HEALTHS.index(row.health))

    def add_failure(self, error: DbctlError, target: str) -> None:
        self._failure_statuses.append(error.exit_status)
        self._statuses[target].add(error.exit_status)
        self._findings.append(Finding.from_error(target, error))

    def add_app(self, app: App, selection: Selection) -> None:
        self._apps.append(app.name)
        backups = self._read_backups(app)
        self._read_journal(app, selection)
        self._add_leftovers(find_interrupted_restore(app))
        for name, section in app.profile.databases.items():
            if app.only not in ("", name):
                continue
            try:
                database_files = app.engine(name).database_files(app.url(name))
            except DatabaseNotConfiguredError as error:
                if not section.optional:
                    self.add_failure(error, app.target(name))
                    self.rows.append(DatabaseStatus(app=app.name, database=name, state=error.code))
                continue
            self._add_leftovers(find_leftover_files(app, name))
            row = self._read_database(app, name, database_files)
            self.rows.append(structs.replace(row, backup_at=self._find_backup_time(name, backups)))

    def record_samples(self, app: App, selection: Selection) -> None:
        """Record the sizes and rows of the databases of an app; the first failure is part of the report."""
        from dbctl.services.history import SampleRecorder

        try:
            SampleRecorder(locate_journal(selection)).record_status(app)
        except DbctlError as error:
            self._unrecorded = self._unrecorded or str(error)

    def _read_database(self, app: App, name: str, database_files: DatabaseFiles | None) -> DatabaseStatus:
        row = DatabaseStatus(
            app=app.name,
            database=name,
            state="ok",
            bytes=_read_size(database_files),
            wal_bytes=database_files.pending_bytes if database_files else None,
        )
        try:
            db = app.reader(name)
            if database_files is None and (sizes := db.part(SizeMonitor)):
                row = structs.replace(row, bytes=sizes.measure_storage().bytes)
            if advisor := db.part(Advisor):
                for concern in advisor.find_abandoned():
                    message = f"{concern.message}. {concern.hint}"
                    finding = Finding(app.target(name), "warning", concern.code, message)
                    self._add_problem(Exit.ACTION_NEEDED, finding)
        except DbctlError as error:
            self.add_failure(error, app.target(name))
            return structs.replace(row, state=error.code)
        for finding in check_replica(app, name):
            if finding.severity == "error":
                self._add_problem(Exit.ACTION_NEEDED, finding)
        if app.database(name).mode == "read-write" and database_files and _is_read_only(database_files):
            finding = Finding(app.target(name), "error", ReadOnlyError.code, "its disk is read-only")
            self._add_problem(Exit.REFUSED, finding)
            row = structs.replace(row, state=ReadOnlyError.code)
        schema, pending = self._read_migrations(app, name)
        return structs.replace(row, migrations=schema, pending=pending, overdue=self._find_overdue(app, name))

    def _add_leftovers(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            message = _with_command(finding.message, finding.hint)
            self._add_problem(Exit.ACTION_NEEDED, structs.replace(finding, message=message))

    def _read_migrations(self, app: App, name: str) -> tuple[SchemaState | None, int | None]:
        if app.database(name).migrations is None:
            return None, None
        target = app.target(name)
        try:
            (migration_target,) = migration_status.find_targets(app, name, may_lack_folder=True)
            state = read_state(migration_target, app.reader(name))
        except DbctlError as error:
            self._add_problem(error.exit_status, Finding.from_error(target, error))
            return None, None
        self._migrations += state.migrations
        pending = state.names_in("pending")
        if state.schema == "none":
            return None, None
        if state.schema == "unrecorded":
            message = "the ledger is missing: applied migrations are unknown"
            self._add_problem(Exit.CHECK_FAILED, Finding(target, "error", "ledger-missing", message))
            return state.schema, None
        if state.schema == "inconsistent":
            message = "the ledger does not agree with the migrations (dbctl migrate verify)"
            self._add_problem(Exit.CHECK_FAILED, Finding(target, "error", "migrations-inconsistent", message))
        elif pending:
            message = f"{format_count(len(pending), 'migration')} pending"
            self._add_problem(Exit.ACTION_NEEDED, Finding(target, "warning", "migrations-pending", message))
        return state.schema, len(pending)

    def _find_overdue(self, app: App, name: str) -> Sequence[str] | None:
        if name not in {app.resolve_database(rule) for rule in app.profile.cleanup}:
            return None
        target = app.target(name)
        try:
            overdue = CleanUp(app).find_overdue(name, within=CLEANUP_TIMEOUT)
        except DbctlError as error:
            self._add_problem(error.exit_status, Finding.from_error(target, error))
            return None
        if overdue.rules:
            message = f"cleanup has been due for more than a day ({', '.join(overdue.rules)})"
            self._add_problem(Exit.ACTION_NEEDED, Finding(target, "warning", "cleanup-due", message))
        if overdue.unknown:
            rules = ", ".join(overdue.unknown)
            self._notes.append(
                f"{target}: not checked whether {rules} is overdue, because the query takes too long; run sessions cleanup --check"
            )
        return overdue.rules

    def _read_backups(self, app: App) -> AppBackups | None:
        try:
            app_backups = backup_status.read_status(app)
        except DbctlError as error:
            self._add_problem(error.exit_status, Finding.from_error(app.name, error))
            return None
        self._backups += [app_backups] if app_backups else []
        for code, message in app_backups.invalid_backups() if app_backups else ():
            self._add_problem(Exit.CHECK_FAILED, Finding(app.name, "error", code, message))
        for folder in app_backups.repository.interrupted if app_backups else ():
            message = backup_status.describe_interrupted(folder)
            self._add_problem(Exit.ACTION_NEEDED, Finding(app.name, "warning", "backup-incomplete", message))
        return app_backups

    def _read_journal(self, app: App, selection: Selection) -> None:
        problems = find_problems(locate_journal(selection), app.name, backup_config=app.configured.backup)
        for problem in problems:
            finding = Finding(
                app.name, "warning", f"run-{problem.kind}", _with_command(problem.message, problem.hint)
            )
            self._add_problem(problem.exit_status, finding)
        if app.configured.maintenance_mode:
            from dbctl.services.hooks import find_leftover

            for finding in find_leftover(app.configured):
                self._add_problem(Exit.ACTION_NEEDED, structs.replace(finding, severity="warning"))

    def _find_backup_time(self, name: str, backups: AppBackups | None) -> datetime | None:
        backup = backups.find_database(name) if backups else None
        for finding, _ in backup.find_warnings() if backup else ():
            self._add_problem(Exit.ACTION_NEEDED, finding)
        return backup.created_at if backup else None

    def _add_problem(self, status: Exit, finding: Finding) -> None:
        self._problem_statuses.append(status)
        self._statuses[finding.target].add(status)
        self._findings.append(finding)


def _with_command(message: str, command: str) -> str:
    """Return a message with the command that solves its problem, because warnings have no hint."""
    return f"{message} ({command})" if command else message


def _describe_problem(finding: Finding) -> str:
    return finding.message if finding.target in finding.message else f"{finding.target}: {finding.message}"


def _read_size(database_files: DatabaseFiles | None) -> int | None:
    try:
        return database_files.file.stat().st_size if database_files else None
    except OSError:
        return None


def _is_read_only(database_files: DatabaseFiles) -> bool:
    try:
        return read_volume(database_files.file.parent).read_only
    except OSError:
        return False
