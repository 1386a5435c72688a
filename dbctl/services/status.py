"""Status of every database of the selected apps; reads only small amounts of data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError, Exit, worst_status
from dbctl.errors.operations import JournalDisabledError
from dbctl.model import Closing, Findings, Page, Row, Struct, format_count
from dbctl.services.events.runs import locate_journal
from dbctl.services.migrations.ledger.state import SchemaState
from dbctl.services.observation import HEALTHS, AppObservation, Health, Observation, Want, observe_apps


class DatabaseStatus(Struct, frozen=True, kw_only=True):
    """Status of one database; unknown or inapplicable fields are None."""

    app: str
    database: str | None  #: None: the app could not be opened
    state: str  #: ``ok``, or the code of an error
    #: ``due``: an action is due; ``error``: any other problem of the database or its app
    health: Health = "ok"
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
    problems: Sequence[str]  #: messages about them
    notes: Sequence[str]  #: checks that were skipped because of their duration
    check: Exit  #: exit code of ``--check``
    status: Exit  #: exit code without ``--check``: databases and repositories that could not be read
    unrecorded: str = ""  #: why the sizes and rows were not recorded


def collect_status(
    selections: Sequence[Selection], *, timeout: float, only: str = "", record: bool = False
) -> StatusReport:
    """Return the status of the databases of apps.

    ``only`` restricts the report to one database; ``record`` counts rows, and records a sample of each database.

    Raises:
        DbctlError: the only app cannot be opened. With several apps, the error is part of the report.
    """
    want = Want.ROWS if record else Want.STATE
    observed = observe_apps(selections, timeout=timeout, only=only, want=want)
    problems = [problem for app in observed for problem in app.problems]
    failures = [problem.status for problem in problems if problem.is_failure]
    rows = [row for app in observed for row in list_rows(app)]
    status = worst_status(failures)
    failed = {problem.finding.target for problem in problems if problem.is_failure}
    readable = {
        f"{database.sample.app}/{database.sample.database}"
        for app in observed
        for database in app.databases
        if database.is_readable
    }
    if failed and readable - failed:  # others, or a repository, cannot be read
        status = Exit.PARTIAL
    return StatusReport(
        page=StatusPage(
            items=sorted(rows, key=lambda row: HEALTHS.index(row.health)),
            total=len(rows),
            column_names=DatabaseStatus.__struct_fields__,
            empty_message="no databases are configured",
        ),
        apps=[app.app for app in observed if not app.error],
        findings=Findings(checked=len(rows), findings=[item for app in observed for item in app.findings]),
        problems=[message for app in observed for message in app.messages],
        notes=[note for app in observed for note in app.notes],
        check=status or worst_status([problem.status for problem in problems if not problem.is_failure]),
        status=status,
        unrecorded=next(filter(None, map(_record, selections, observed)), "") if record else "",
    )


def _record(selection: Selection, observed: AppObservation) -> str:
    """Record the samples of an app; return why they are not recorded."""
    from dbctl.services.events.samples import save_samples

    location = locate_journal(selection)
    try:
        folder = location.require_folder()
        if not location.config:
            raise JournalDisabledError(reason="without a configuration, nothing identifies the app")
        samples = [database.sample for database in observed.databases if database.is_counted]
        save_samples(folder, location.config, samples)
    except DbctlError as error:
        return str(error)
    return ""


def list_rows(app: AppObservation) -> Sequence[DatabaseStatus]:
    """Return the status of the databases of an app; one row without a database if it could not be opened."""
    if app.error:
        return [DatabaseStatus(app=app.app, database=None, state=app.error, health=app.find_health())]
    return [_create_row(app, database) for database in app.databases]


def _create_row(app: AppObservation, observed: Observation) -> DatabaseStatus:
    return DatabaseStatus(
        app=app.app,
        database=observed.sample.database,
        state=observed.state,
        health=app.find_health(observed.sample.database),
        bytes=observed.sample.bytes,
        wal_bytes=observed.wal_bytes,
        migrations=observed.migrations,
        pending=observed.pending,
        overdue=observed.overdue,
        backup_at=observed.backup.created_at if observed.backup else None,
    )
