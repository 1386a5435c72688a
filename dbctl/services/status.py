"""Status of every database of the selected apps; reads only small amounts of data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import structs

from dbctl.config import Selection
from dbctl.engines.contract import Advisor, DatabaseFiles, SizeMonitor
from dbctl.errors import DatabaseNotConfiguredError, DbctlError, Exit, ReadOnlyError, worst_status
from dbctl.files import read_volume
from dbctl.model import Page, Row, Struct, format_count
from dbctl.services.app import App
from dbctl.services.app import app as app_service
from dbctl.services.backup import AppBackups
from dbctl.services.backup import status as backup_status
from dbctl.services.integrity import check_replica
from dbctl.services.migrations import status as migration_status
from dbctl.services.migrations.ledger import SchemaState, read_state
from dbctl.services.sessions import CleanUp

#: Time limit per database for counting rows with an overdue cleanup.
CLEANUP_TIMEOUT = timedelta(seconds=0.3)


class DatabaseStatus(Struct, frozen=True, kw_only=True):
    """Status of one database; unknown or inapplicable fields are None."""

    app: str
    database: str | None  #: None: the app could not be opened
    state: str  #: ``ok``, or the code of an error
    bytes: int | None = None
    wal_bytes: int | None = None  #: size of the -wal
    migrations: SchemaState | None = None  #: ``unrecorded``: the ledger is missing
    pending: int | None = None  #: migrations
    #: rules of ``sessions cleanup`` that have been due for more than a day
    overdue: Sequence[str] | None = None
    backup_at: datetime | None = None  #: time of the newest verified backup of this database

    def summary(self) -> Row:
        row = {field: getattr(self, field) for field in ("app", "database", "state", "bytes", "wal_bytes")}
        row["migrations"] = f"{self.pending} pending" if self.migrations == "pending" else self.migrations
        row["cleanup"] = None if self.overdue is None else "overdue" if self.overdue else "done"
        return row | {"backup": self.backup_at}


class StatusReport(Struct, frozen=True, kw_only=True):
    """Status of the selected apps."""

    page: Page[DatabaseStatus]
    apps: Sequence[str]
    problems: Sequence[str]  #: messages
    notes: Sequence[str]  #: checks that were skipped because of their duration
    check: Exit  #: exit code of ``--check``


def collect_status(selections: Sequence[Selection], *, timeout: float, only: str = "") -> StatusReport:
    """Return the status of the databases of apps.

    Args:
        selections: the apps.
        timeout: for locks, in seconds.
        only: restricts the report to one database.

    Raises:
        DbctlError: the only app cannot be opened. With several apps, the error is part of the report.
    """
    collector = _StatusCollector()
    for selection in selections:
        try:
            with app_service.open_app(selection, timeout=timeout, only=only, traceless=True) as app:
                collector.add_app(app)
        except DbctlError as error:
            if len(selections) == 1:
                raise
            collector.add_failure(error, selection.app)
            collector.rows.append(DatabaseStatus(app=selection.app, database=None, state=error.code))
    return collector.create_report()


class _StatusCollector:
    """Collector of the status of databases, app by app."""

    def __init__(self) -> None:
        self.rows: list[DatabaseStatus] = []
        self._apps: list[str] = []
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._failure_statuses: list[Exit] = []  #: of errors that prevented a check
        self._problem_statuses: list[Exit] = []  #: of problems that checks found

    def create_report(self) -> StatusReport:
        status = worst_status(self._failure_statuses)
        if self._failure_statuses and len(self._failure_statuses) < len(self.rows):
            status = Exit.PARTIAL
        return StatusReport(
            page=Page(
                items=self.rows,
                total=len(self.rows),
                column_names=DatabaseStatus.__struct_fields__,
                empty_message="no databases are configured",
            ),
            apps=self._apps,
            problems=list(dict.fromkeys(self._problems)),
            notes=self._notes,
            check=status or worst_status(self._problem_statuses),
        )

    def add_failure(self, error: DbctlError, target: str) -> None:
        self._failure_statuses.append(error.exit_status)
        self._add_message(target, str(error))

    def add_app(self, app: App) -> None:
        self._apps.append(app.name)
        backups = self._read_backups(app)
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
            row = self._read_database(app, name, database_files)
            self.rows.append(structs.replace(row, backup_at=self._find_backup_time(app, name, backups)))

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
                    self._add_problem(
                        Exit.ACTION_NEEDED, app.target(name), f"{concern.message}. {concern.hint}"
                    )
        except DbctlError as error:
            self.add_failure(error, app.target(name))
            return structs.replace(row, state=error.code)
        for finding in check_replica(app, name):
            if finding.severity == "error":
                self._add_problem(Exit.ACTION_NEEDED, app.target(name), finding.message)
        if app.database(name).mode == "read-write" and database_files and _is_read_only(database_files):
            self._add_problem(Exit.REFUSED, app.target(name), "its disk is read-only")
            row = structs.replace(row, state=ReadOnlyError.code)
        schema, pending = self._read_migrations(app, name)
        return structs.replace(row, migrations=schema, pending=pending, overdue=self._find_overdue(app, name))

    def _read_migrations(self, app: App, name: str) -> tuple[SchemaState | None, int | None]:
        if app.database(name).migrations is None:
            return None, None
        target = app.target(name)
        try:
            (migration_target,) = migration_status.find_targets(app, name, may_lack_folder=True)
            state = read_state(migration_target, app.reader(name))
        except DbctlError as error:
            self._add_problem(error.exit_status, target, str(error))
            return None, None
        pending = state.names_in("pending")
        if state.schema == "none":
            return None, None
        if state.schema == "unrecorded":
            self._add_problem(
                Exit.CHECK_FAILED, target, "the ledger is missing: applied migrations are unknown"
            )
            return state.schema, None
        if state.schema == "inconsistent":
            self._add_problem(
                Exit.CHECK_FAILED,
                target,
                "the ledger does not agree with the migrations (dbctl migrate verify)",
            )
        elif pending:
            self._add_problem(
                Exit.ACTION_NEEDED, target, f"{format_count(len(pending), 'migration')} pending"
            )
        return state.schema, len(pending)

    def _find_overdue(self, app: App, name: str) -> Sequence[str] | None:
        if name not in {rule.database or app.main() for rule in app.profile.cleanup}:
            return None
        target = app.target(name)
        try:
            overdue = CleanUp(app).find_overdue(name, within=CLEANUP_TIMEOUT)
        except DbctlError as error:
            self._add_problem(error.exit_status, target, str(error))
            return None
        if overdue.rules:
            message = f"cleanup has been due for more than a day ({', '.join(overdue.rules)})"
            self._add_problem(Exit.ACTION_NEEDED, target, message)
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
            self._add_problem(error.exit_status, app.name, str(error))
            return None
        for _, message in app_backups.invalid_backups() if app_backups else ():
            self._add_problem(Exit.CHECK_FAILED, app.name, message)
        for folder in app_backups.repository.interrupted if app_backups else ():
            self._add_problem(Exit.ACTION_NEEDED, app.name, backup_status.describe_interrupted(folder))
        return app_backups

    def _find_backup_time(self, app: App, name: str, backups: AppBackups | None) -> datetime | None:
        backup = backups.find_database(name) if backups else None
        for message in backup.due.values() if backup else ():
            self._add_problem(Exit.ACTION_NEEDED, app.target(name), message)
        return backup.created_at if backup else None

    def _add_problem(self, status: Exit, target: str, message: str) -> None:
        self._problem_statuses.append(status)
        self._add_message(target, message)

    def _add_message(self, target: str, message: str) -> None:
        self._problems.append(message if target in message else f"{target}: {message}")


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
