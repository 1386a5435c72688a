"""One reading of an app: what status, report, metrics and notifications say about its databases at one time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import Flag, auto
from typing import Literal, TypeAlias

from msgspec import structs

from dbctl.config.model import BackupConfig
from dbctl.config.sections import Selection
from dbctl.engines.contract.checks import DatabaseFiles
from dbctl.engines.contract.database import Readable
from dbctl.errors.base import DbctlError, Exit, Remedy
from dbctl.errors.connection import ReadOnlyError, UnreachableError
from dbctl.errors.usage import DatabaseNotConfiguredError
from dbctl.files.mounts import read_volume
from dbctl.model import Finding, Struct, format_count, join_hint, now
from dbctl.services.app.app import App
from dbctl.services.app.session import open_app
from dbctl.services.app.user_table import open_users
from dbctl.services.backup import status as backup_status
from dbctl.services.backup.status import AppBackups, DatabaseBackups
from dbctl.services.checks.deployment import check_replica, find_interrupted_restore, find_leftover_files
from dbctl.services.events.history import find_problems, read_history
from dbctl.services.events.runs import CommandHistory, locate_journal
from dbctl.services.events.samples import Sample
from dbctl.services.history import measure_database, measure_storage, measure_tables
from dbctl.services.migrations import status as migration_status
from dbctl.services.migrations.ledger.state import Migration, SchemaState, read_state
from dbctl.services.sessions.cleanup import CleanUp

#: Time limit per database for counting rows with an overdue cleanup.
CLEANUP_TIMEOUT = timedelta(seconds=0.3)

Health: TypeAlias = Literal["error", "due", "ok"]
#: Worst first.
HEALTHS: Sequence[Health] = ("error", "due", "ok")


class Want(Flag):
    """What is read besides the state of the databases, and costs more."""

    STATE = 0
    USERS = auto()  #: one count
    ROWS = auto()  #: rows and bytes of every table, and the figures of the profile


class Problem(Struct, frozen=True):
    """A finding, and what it means for the exit code."""

    finding: Finding
    status: Exit  #: of a command that checks
    #: whether something could not be read, which also concerns commands that do not check
    is_failure: bool = False
    shows_hint: bool = False  #: whether a warning about it, which has no hint, names the command of the hint


class Observation(Struct, frozen=True, kw_only=True):
    """One database at one time; unknown or inapplicable fields are None."""

    sample: Sample  #: with tables, users and figures if ``is_counted``
    state: str = "ok"  #: ``ok``, or the code of an error
    is_counted: bool = False
    wal_bytes: int | None = None  #: size of the -wal
    migrations: SchemaState | None = None  #: ``unrecorded``: the ledger is missing
    pending: int | None = None  #: migrations
    #: rules of ``sessions cleanup`` that have been due for more than a day
    overdue: Sequence[str] | None = None
    backup: DatabaseBackups | None = None

    @property
    def is_readable(self) -> bool:
        return self.state in ("ok", ReadOnlyError.code)


class AppObservation(Struct, frozen=True, kw_only=True):
    """An app and its databases at one time."""

    app: str
    error: str = ""  #: the code of the error that prevented opening the app
    databases: Sequence[Observation] = ()
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()  #: checks that were skipped because of their duration
    backups: AppBackups | None = None  #: None: there is no repository, or it cannot be read
    backup_config: BackupConfig | None = None
    migrations: Sequence[Migration] = ()
    users: int | None = None  #: None: the app has none, they cannot be read, or were not requested
    unread: Sequence[str] = ()  #: what was requested and cannot be read: ``users``

    @property
    def findings(self) -> Sequence[Finding]:
        """The problems, each once."""
        return list(dict.fromkeys(problem.finding for problem in self.problems))

    @property
    def messages(self) -> Sequence[str]:
        """Messages about the problems, each once."""
        return list(dict.fromkeys(map(_describe_problem, self.problems)))

    def find_health(self, database: str | None = None) -> Health:
        """Return the health of the app and one of its databases; ``due``: only actions are due."""
        targets = (self.app, f"{self.app}/{database}")
        statuses = {problem.status for problem in self.problems if problem.finding.target in targets}
        return "error" if statuses - {Exit.ACTION_NEEDED} else "due" if statuses else "ok"


def observe(
    selection: Selection, *, timeout: float, only: str = "", want: Want = Want.STATE
) -> AppObservation:
    """Return the state of an app and its databases; what cannot be read is a problem.

    ``only`` is the only database that is read; ``want`` is what is read besides.

    Raises:
        DbctlError: the app cannot be opened.
    """
    with open_app(selection, timeout=timeout, only=only, traceless=True) as app:
        return _Observer(app, selection, want).observe()


def observe_apps(
    selections: Sequence[Selection],
    *,
    timeout: float,
    only: str = "",
    want: Want = Want.STATE,
    has_others: bool = False,
) -> Sequence[AppObservation]:
    """Return the state of several apps as ``observe``; an app that cannot be opened has an error and no databases.

    ``has_others``: the caller reports further apps.

    Raises:
        DbctlError: the only app cannot be opened.
    """
    observed = []
    for selection in selections:
        try:
            observed.append(observe(selection, timeout=timeout, only=only, want=want))
        except DbctlError as error:
            if len(selections) == 1 and not has_others:
                raise
            problem = Problem(Finding.from_error(selection.app, error), error.exit_status, is_failure=True)
            observed.append(AppObservation(app=selection.app, error=error.code, problems=[problem]))
    return observed


def read_histories(selection: Selection, app: str) -> Mapping[str, CommandHistory]:
    """Return the history of each command that ran for an app; without a configuration none, because nothing identifies the app.

    Raises:
        JournalUnavailableError, JournalCorruptError: the journal cannot be read.
    """
    location = locate_journal(selection)
    if location.folder is None or not location.config:
        return {}
    return {history.command: history for history in read_history(location.folder, location.config, app)}


class _Observer:
    """Reads one app; each problem is added where it is found."""

    def __init__(self, app: App, selection: Selection, want: Want) -> None:
        self._app, self._selection, self._want = app, selection, want
        self._problems: list[Problem] = []
        self._notes: list[str] = []
        self._migrations: list[Migration] = []
        self._unread: list[str] = []

    def observe(self) -> AppObservation:
        app = self._app
        backups = self._read_backups()
        self._check_runs()
        self._add_leftovers(find_interrupted_restore(app))
        databases = list(self._observe_databases(backups))
        return AppObservation(
            app=app.name,
            databases=databases,
            problems=self._problems,
            notes=self._notes,
            backups=backups,
            backup_config=app.configured.backup,
            migrations=self._migrations,
            users=self._count_users() if Want.USERS in self._want and app.profile.users else None,
            unread=self._unread,
        )

    def _observe_databases(self, backups: AppBackups | None) -> Iterator[Observation]:
        app = self._app
        for name, section in app.profile.databases.items():
            if app.only not in ("", name):
                continue
            try:
                files = app.engine(name).database_files(app.url(name))
            except DatabaseNotConfiguredError as error:
                if not section.optional:
                    self._add_failure(error, app.target(name))
                    sample = Sample(app=app.name, database=name, taken_at=now())
                    yield Observation(sample=sample, state=error.code)
                continue
            self._add_leftovers(find_leftover_files(app, name))
            observed = self._observe_database(name, files)
            backup = backups.find_database(name) if backups else None
            self._add_leftovers(backup.find_warnings() if backup else ())
            self._notes += (
                [f"{other.target}: {other.message}" for other in backup.find_others()] if backup else []
            )
            yield structs.replace(observed, backup=backup)

    def _observe_database(self, name: str, files: DatabaseFiles | None) -> Observation:
        app, target = self._app, self._app.target(name)
        observed = Observation(
            sample=measure_database(app, name), wal_bytes=files.pending_bytes if files else None
        )
        try:
            db = app.reader(name)
            observed = structs.replace(observed, sample=measure_storage(db, observed.sample))
            for concern in db.checks.find_abandoned() if db.checks else ():
                message = join_hint(concern.message, concern.hint)
                self._add(Exit.ACTION_NEEDED, Finding(target, "warning", concern.code, message))
        except DbctlError as error:
            self._add_failure(error, target)
            return structs.replace(observed, state=error.code)
        for finding in check_replica(app, name):
            if finding.severity == "error":
                self._add(Exit.ACTION_NEEDED, finding)
        if app.database(name).mode == "read-write" and files and _is_read_only(files):
            finding = Finding(target, "error", ReadOnlyError.code, "its disk is read-only")
            self._add(Exit.REFUSED, finding)
            observed = structs.replace(observed, state=ReadOnlyError.code)
        try:
            schema, pending = self._read_migrations(name, db)
            observed = structs.replace(observed, migrations=schema, pending=pending)
            observed = structs.replace(observed, overdue=self._find_overdue(name))
        except UnreachableError as error:  # the connection was lost
            self._add_failure(error, target)
            return structs.replace(observed, state=error.code)
        if Want.ROWS in self._want:
            try:
                sample = measure_tables(app, db, observed.sample)
                observed = structs.replace(observed, sample=sample, is_counted=True)
            except DbctlError as error:  # nothing is recorded
                self._add_failure(error, target)
        return observed

    def _read_migrations(self, name: str, db: Readable) -> tuple[SchemaState | None, int | None]:
        """Return the state of the ledger, and the number of pending migrations.

        Raises:
            UnreachableError: the connection was lost.
        """
        app, target = self._app, self._app.target(name)
        if app.database(name).migrations is None:
            return None, None
        try:
            (migration_target,) = migration_status.find_targets(app, name, may_lack_folder=True)
            state = read_state(migration_target, db)
        except UnreachableError:
            raise
        except DbctlError as error:
            self._add(error.exit_status, Finding.from_error(target, error))
            return None, None
        self._migrations += state.migrations
        pending = state.names_in("pending")
        if state.schema == "none":
            return None, None
        if state.schema == "unrecorded":
            message = "the ledger is missing: applied migrations are unknown"
            hint = Remedy("`migrate baseline`").write(app.name)
            self._add(Exit.CHECK_FAILED, Finding(target, "error", "ledger-missing", message, hint))
            return state.schema, None
        if state.schema == "inconsistent":
            message = "the ledger does not agree with the migrations"
            hint = Remedy("`migrate verify`").write(app.name)
            finding = Finding(target, "error", "migrations-inconsistent", message, hint)
            self._add(Exit.CHECK_FAILED, finding, shows_hint=True)
        elif pending:
            message = f"{format_count(len(pending), 'migration')} pending"
            self._add(
                Exit.ACTION_NEEDED,
                Finding(
                    target, "warning", "migrations-pending", message, Remedy("`migrate up`").write(app.name)
                ),
            )
        return state.schema, len(pending)

    def _find_overdue(self, name: str) -> Sequence[str] | None:
        """Return the overdue rules of cleanup; raises as ``_read_migrations``."""
        app, target = self._app, self._app.target(name)
        if name not in {app.resolve_database(rule) for rule in app.profile.cleanup}:
            return None
        try:
            overdue = CleanUp(app).find_overdue(name, within=CLEANUP_TIMEOUT)
        except UnreachableError:
            raise
        except DbctlError as error:
            self._add(error.exit_status, Finding.from_error(target, error))
            return None
        if overdue.rules:
            message = f"cleanup has been due for more than a day ({', '.join(overdue.rules)})"
            self._add(
                Exit.ACTION_NEEDED,
                Finding(
                    target, "warning", "cleanup-due", message, Remedy("`sessions cleanup`").write(app.name)
                ),
            )
        if overdue.unknown:
            rules = ", ".join(overdue.unknown)
            self._notes.append(
                f"{target}: not checked whether {rules} is overdue, because the query takes too long; run sessions cleanup --check"
            )
        return overdue.rules

    def _read_backups(self) -> AppBackups | None:
        name = self._app.name
        try:
            backups = backup_status.read_status(self._app)
        except DbctlError as error:
            self._add_failure(error, name)
            return None
        for finding in backups.find_broken() if backups else ():
            if finding.code != "backup-from-future":
                is_error = finding.severity == "error"
                self._add(Exit.CHECK_FAILED if is_error else Exit.ACTION_NEEDED, finding)
        return backups

    def _check_runs(self) -> None:
        app = self._app
        location = locate_journal(self._selection)
        for problem in find_problems(location, app.name, backup_config=app.configured.backup):
            finding = Finding(app.name, "warning", f"run-{problem.kind}", problem.message, problem.hint)
            self._add(problem.exit_status, finding, shows_hint=True)
        if app.configured.maintenance_mode:
            from dbctl.services.hooks.maintenance_mode import find_leftover

            for finding in find_leftover(app.configured):
                self._add(Exit.ACTION_NEEDED, structs.replace(finding, severity="warning"))

    def _count_users(self) -> int | None:
        try:
            users = open_users(self._app)
            return users.db.count(users.live.name, users.only)
        except DbctlError:
            self._unread.append("users")
            return None

    def _add_leftovers(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._add(Exit.ACTION_NEEDED, finding, shows_hint=True)

    def _add(self, status: Exit, finding: Finding, *, shows_hint: bool = False) -> None:
        self._problems.append(Problem(finding, status, shows_hint=shows_hint))

    def _add_failure(self, error: DbctlError, target: str) -> None:
        problem = Problem(Finding.from_error(target, error), error.exit_status, is_failure=True)
        self._problems.append(problem)


def _describe_problem(problem: Problem) -> str:
    finding = problem.finding
    if finding.target not in finding.message:
        finding = structs.replace(finding, message=f"{finding.target}: {finding.message}")
    return backup_status.describe_finding(finding) if problem.shows_hint else finding.message


def _is_read_only(files: DatabaseFiles) -> bool:
    try:
        return read_volume(files.file.parent).read_only
    except OSError:
        return False
