"""Maintenance of databases: statements that change no current rows, run outside transactions, and can be interrupted; and the cancellation of sessions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TypeAlias

from dbctl import progress, signals
from dbctl.engines.contract.database import Readable, require_supported
from dbctl.engines.contract.monitoring import MaintenanceKind, MaintenanceTask, ServerMonitor, Session
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.errors.databases import TableMissingError
from dbctl.errors.usage import (
    DatabaseNotConfiguredError,
    DriverMissingError,
    NotSupportedError,
    SessionMissingError,
    UsageError,
)
from dbctl.model import ChangeResult, Effect, Plan, Row, Struct, format_count
from dbctl.services.app import clock
from dbctl.services.app.app import App
from dbctl.services.app.change import Operation
from dbctl.services.app.results import selected_databases
from dbctl.services.stats.connections import NO_SERVER_HINT, require_sessions

#: Kind of maintenance; equals the command name, except for ``rollback-journal`` (``wal --off``).
TaskKind: TypeAlias = MaintenanceKind

TITLES: dict[TaskKind, str] = {
    "vacuum": "Remove dead rows and free pages",
    "analyze": "Update the statistics of tables",
    "optimize": "Run the maintenance that is due",
    "reindex": "Rebuild the indexes",
    "checkpoint": "Write the log into the database file",
    "wal": "Switch to a write-ahead log",
    "rollback-journal": "Switch to a rollback journal",
}
#: Seconds between two checks whether the statements have ended.
POLL_SECONDS = 0.05


class VersionedSize(Struct, frozen=True, kw_only=True):
    """Size of a table with versions."""

    fragments: int
    versions: int
    bytes: int


class TaskResult(Struct, frozen=True, kw_only=True):
    """One statement, and its result."""

    target: str
    table: str | None  #: None: the whole database
    statement: str
    seconds: float
    error: str | None  #: the code of the error
    before: VersionedSize | None = None  #: only of tables with versions
    after: VersionedSize | None = None


class MaintenanceResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``maintain``."""

    is_timed = True

    tasks: Sequence[TaskResult]
    failed: Sequence[str]  #: error messages
    leftovers: Sequence[str]  #: objects of interrupted statements, with the statement that removes them

    @property
    def effect(self) -> Effect | None:
        done = sum(task.error is None for task in self.tasks)
        if not (done or self.failed):
            return None
        return Effect("ran", "statement", count=done, counts={"failed": len(self.failed)})

    @property
    def remarks(self) -> Sequence[str]:
        return [*self.failed, *self.leftovers]

    @property
    def exit_status(self) -> int:
        return Exit.PARTIAL if self.failed else Exit.OK

    def summary(self) -> Sequence[Row]:
        fields = ("target", "statement", "seconds", "error")
        return [{field: getattr(task, field) for field in fields} for task in self.tasks]


class RunMaintenance(Operation):
    """Run one kind of maintenance on the selected databases or tables."""

    def __init__(
        self, app: App, kind: TaskKind, tables: Sequence[str] = (), *, older_than: timedelta | None = None
    ) -> None:
        """Select the databases.

        Without ``tables``, all are maintained. ``older_than`` is for ``vacuum`` of engines with versions: the age of the versions to delete.

        Raises:
            ReadOnlyError: dbctl may not write the only selected database.
            DatabaseNotConfiguredError: no database is configured.
        """
        self._kind, self._tables, self._older_than = kind, tables, older_than
        self._skipped: list[DbctlError] = []  #: errors of databases that could not be opened
        databases = list(selected_databases(app))
        self._databases = [name for name in databases if app.database(name).mode == "read-write"]
        if not self._databases:
            app.require_writable((databases or [app.main_database])[0])
            raise DatabaseNotConfiguredError(app=app.name, name=app.main_database)
        super().__init__(app, app.target(self._databases[0]) if len(self._databases) == 1 else "")
        self.total = 0.0  #: number of statements; 0 until ``apply`` begins

    def plan(self) -> Plan:
        """Return the plan for the current databases."""
        tasks_by_database = self._draft_tasks()
        self._check_clock(tasks_by_database)
        has_multiple = len(self._databases) > 1
        steps = [
            f"{name}: {task.statement}" if has_multiple else task.statement
            for name, tasks in tasks_by_database.items()
            for task in tasks
        ]
        steps += [f"skipped: {error}" for error in self._skipped]
        return self._create_plan(TITLES[self._kind], steps)

    def apply(self, confirmed: str | None = None) -> MaintenanceResult:
        """Run the statements one by one; a failure does not prevent the others.

        Raises:
            DbctlError: all statements failed; the error of the first.
            PlanChangedError: the plan differs from the confirmed one.
            ClockImplausibleError: versions would be deleted by age, but the clock contradicts recorded times.
        """
        self._require_confirmed(confirmed)
        tasks_by_database = self._draft_tasks()
        self._check_clock(tasks_by_database)
        self.total = float(sum(map(len, tasks_by_database.values())))
        results, errors, leftovers = list[TaskResult](), list[DbctlError](), list[str]()
        for name, tasks in tasks_by_database.items():
            if not tasks:
                continue
            with self._app.writer(name) as db:
                for task in tasks:
                    result, error = _run_task(db, task)
                    results.append(result)
                    errors += [error] if error else []
                    progress.advance(1)
                leftovers += [
                    f"{leftover.message}; {leftover.hint}" for leftover in db.storage.find_leftovers()
                ]
        if errors and len(errors) == len(results):
            errors[0].details = leftovers
            raise errors[0]
        failed = [str(error) for error in (*errors, *self._skipped)]
        return MaintenanceResult(tasks=results, failed=failed, leftovers=leftovers)

    def _draft_tasks(self) -> dict[str, Sequence[MaintenanceTask]]:
        """Return the statements for each database that supports this maintenance.

        Raises:
            TableMissingError: no database has the table.
            NotSupportedError: no database supports this maintenance.
        """
        tasks_by_database: dict[str, Sequence[MaintenanceTask]] = {}
        refusals: list[DbctlError] = []
        self._skipped, known_tables = [], set[str]()
        for name in self._databases:
            try:
                db = self._app.reader(name)
            except DriverMissingError as error:  # other databases may have their drivers
                self._skipped.append(error)
                continue
            known_tables |= db.tables().keys()
            tables = [table for table in self._tables if table in db.tables()]
            if self._tables and not tables:
                continue
            try:
                tasks_by_database[name] = self._list_tasks(db, tables)
            except NotSupportedError as error:
                refusals.append(error)
        if self._skipped and not (tasks_by_database or refusals):
            raise self._skipped[0]
        if missing := [table for table in self._tables if table not in known_tables]:
            raise TableMissingError(name=missing[0], target=self.target, candidates=known_tables)
        if refusals and not tasks_by_database:
            raise refusals[0]
        return tasks_by_database

    def _check_clock(self, tasks_by_database: Mapping[str, Sequence[MaintenanceTask]]) -> None:
        if any(task.older_than is not None for tasks in tasks_by_database.values() for task in tasks):
            clock.check(self._app)

    def _list_tasks(self, db: Readable, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        if self._older_than is None:
            tasks = db.storage.maintenance_tasks(self._kind, tables)
            return require_supported(db, tasks, "maintenance", "Its engine needs no maintenance.")
        tasks = db.storage.prune_tasks(tables, self._older_than)
        return require_supported(db, tasks, "--older-than", "Its engine has no versions.")


def _run_task(db: Readable, task: MaintenanceTask) -> tuple[TaskResult, DbctlError | None]:
    before, start, failure = _measure(db, task), time.monotonic(), None
    try:
        db.storage.maintain(task)
    except DbctlError as error:
        failure = error
    result = TaskResult(
        target=db.target,
        table=task.table or None,
        statement=task.statement,
        seconds=round(time.monotonic() - start, 3),
        error=failure.code if failure else None,
        before=before,
        after=before and _measure(db, task),
    )
    return result, failure


def _measure(db: Readable, task: MaintenanceTask) -> VersionedSize | None:
    # Other engines have no versions, and measuring could wait for the lock that blocks the task.
    if not (task.table and db.storage.has_versions):
        return None
    for size in db.storage.measure_tables(exact=False, table=task.table):
        if size.fragments is not None and size.versions is not None:
            return VersionedSize(fragments=size.fragments, versions=size.versions, bytes=size.bytes or 0)
    return None


class CancelledSession(Struct, frozen=True, kw_only=True):
    """A session whose statement was cancelled."""

    pid: int
    user: str
    application: str
    query: str
    ended: bool  #: whether it ended before the timeout


class CancelResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``maintain cancel``."""

    sessions: Sequence[CancelledSession]

    @property
    def effect(self) -> Effect | None:
        if not self.sessions:
            return None
        counts = {"still running": sum(not session.ended for session in self.sessions)}
        return Effect("cancelled", "session", count=len(self.sessions), counts=counts)

    @property
    def remarks(self) -> Sequence[str]:
        running = [str(session.pid) for session in self.sessions if not session.ended]
        return [f"still running: {', '.join(running)}; --terminate ends the session"] if running else []

    def summary(self) -> Sequence[Row]:
        return [
            {field: getattr(session, field) for field in session.__struct_fields__}
            for session in self.sessions
        ]


class CancelSessions(Operation):
    """Cancel the statements of sessions, selected by PID or by duration."""

    def __init__(
        self,
        app: App,
        pids: Sequence[int] = (),
        *,
        older_than: timedelta | None = None,
        terminate: bool = False,
    ) -> None:
        """Validate the selection.

        Args:
            app: the app.
            pids: the sessions.
            older_than: instead of ``pids``, sessions whose statement has been running for longer; with ``terminate``, also
                idle sessions whose transaction has been open for longer.
            terminate: whether to end the sessions too.

        Raises:
            UsageError: no selection, or both.
            ReadOnlyError: dbctl may not write the database.
            NotSupportedError: no database of the app is on a server.
        """
        if bool(pids) == (older_than is not None):
            raise UsageError(detail="either PIDs or --older-than are required, not both")
        self._name = _select_database(app)
        super().__init__(app, app.target(self._name))
        self._pids, self._older_than, self._terminate = pids, older_than, terminate
        self._confirmed: set[tuple[int, str]] | None = None  #: PID and statement of the sessions of the plan

    def plan(self) -> Plan:
        sessions = self._select_sessions()
        self._confirmed = {(session.pid, session.statement_id) for session in sessions}
        noun = "session" if self._terminate else "statement"
        steps = [_describe_session(session) for session in sessions]
        return self._create_plan(f"Cancel {format_count(len(sessions), noun)}", steps, destructive=True)

    def apply(self, confirmed: str | None = None) -> CancelResult:
        """Cancel the statements, and wait until they end; after a ``confirmed`` plan, not those that began later.

        Raises:
            PrivilegeMissingError: a session belongs to another user.
        """
        sessions = self._select_sessions()
        if confirmed is not None and self._confirmed is not None:
            sessions = [
                session for session in sessions if (session.pid, session.statement_id) in self._confirmed
            ]
        db = self._open_server()
        cancelled = [session for session in sessions if db.cancel(session.pid, terminate=self._terminate)]
        still_running = self._wait_until_ended(db, cancelled)
        return CancelResult(
            sessions=[
                CancelledSession(
                    pid=session.pid,
                    user=session.user,
                    application=session.application,
                    query=session.query,
                    ended=session.pid not in still_running,
                )
                for session in cancelled
            ]
        )

    def _open_server(self) -> ServerMonitor:
        return require_sessions(self._app, self._name, "cancelling statements")

    def _select_sessions(self) -> list[Session]:
        sessions = {session.pid: session for session in self._open_server().list_sessions()}
        if self._older_than is not None:
            return [
                session
                for session in sessions.values()
                if session.can_cancel and self._is_old(session, self._older_than)
            ]
        missing = [pid for pid in self._pids if pid not in sessions]
        if missing:
            raise SessionMissingError(pids=", ".join(map(str, missing)), target=self.target)
        not_permitted = [pid for pid in self._pids if not sessions[pid].can_cancel]
        if not_permitted:
            raise PrivilegeMissingError(
                target=self.target,
                reason=f"this role may not cancel sessions {', '.join(map(str, not_permitted))} ",
                hint="Nothing was cancelled. As a superuser: GRANT pg_signal_backend TO the role of dbctl; only superusers cancel sessions of superusers.",
            )
        return [sessions[pid] for pid in dict.fromkeys(self._pids)]

    def _is_old(self, session: Session, age: timedelta) -> bool:
        seconds = session.query_seconds
        if seconds is None and self._terminate:
            seconds = session.transaction_seconds
        return seconds is not None and seconds >= age.total_seconds()

    def _wait_until_ended(self, server: ServerMonitor, cancelled: Sequence[Session]) -> set[int]:
        """Return the PIDs of statements that did not end before the timeout."""
        deadline = time.monotonic() + self._app.timeout
        while True:
            current = {session.pid: session for session in server.list_sessions()}
            still_running = {
                session.pid
                for session in cancelled
                if session.pid in current
                and (self._terminate or _is_same_statement(current[session.pid], session))
            }
            if not still_running or time.monotonic() >= deadline:
                return still_running
            signals.raise_if_interrupted()
            time.sleep(POLL_SECONDS)


def _select_database(app: App) -> str:
    """Return the first configured database on a server."""
    for name in selected_databases(app):
        if app.only or app.database(name).mode == "read-write":
            app.require_writable(name)
            if app.reader(name).server:
                return name
    raise NotSupportedError(feature="cancelling statements", subject=app.name, hint=NO_SERVER_HINT)


def _is_same_statement(current: Session, previous: Session) -> bool:
    return current.statement_id == previous.statement_id and current.query_seconds is not None


def _describe_session(session: Session) -> str:
    origin = f"{session.application} of {session.user}" + (
        f" from {session.client}" if session.client else ""
    )
    seconds = session.query_seconds if session.query_seconds is not None else session.transaction_seconds
    duration = "" if seconds is None else f" for {seconds:.0f} s"
    return f"{session.pid}, {origin}, {session.state or 'unknown'}{duration}: {session.query or 'nothing'}"
