"""``migrate up``: run the pending migrations in order, each with its row in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Self

from dbctl.engines.contract import Writable
from dbctl.errors import UsageError
from dbctl.model import Page, Plan, Row, Struct, format_count
from dbctl.services.app import App
from dbctl.services.migrations.execution import (
    CompletedMigration,
    ExecutionPlan,
    UpSelection,
    open_session,
    plan_up,
    run_plans,
)
from dbctl.services.migrations.ledger import MigrationTarget, read_state
from dbctl.services.migrations.safety_backup import SafetyBackup
from dbctl.services.migrations.status import (
    find_targets,
    load_state_or_empty,
    retry_after_running_migration,
)

NOTHING_PENDING = "nothing to do: no migration is pending"


class AppliedMigration(Struct, frozen=True, kw_only=True):
    """One migration that this run applied."""

    app: str
    database: str
    version: str
    name: str
    statements: int
    duration: timedelta
    rows_lost: Mapping[str, int] = {}  #: by table; only for migrations that may delete rows
    safety_backup: str | None = None  #: id of the backup of the previous state, if one was created

    @classmethod
    def create(
        cls, target: MigrationTarget, migration: CompletedMigration, safety_backup: str | None
    ) -> Self:
        """Return the record of a migration that has run."""
        file = migration.plan.file
        return cls(
            app=target.app,
            database=target.database,
            version=file.version,
            name=file.name,
            statements=len(migration.plan.steps.statements),
            duration=migration.result.duration,
            rows_lost=migration.result.rows_lost,
            safety_backup=safety_backup,
        )

    def summary(self) -> Row:
        fields = ("app", "database", "version", "name", "statements", "duration")
        row: dict[str, object] = {field: getattr(self, field) for field in fields}
        if self.rows_lost:
            row["rows_lost"] = ", ".join(f"{table}: {rows}" for table, rows in self.rows_lost.items())
        return row | ({"safety_backup": self.safety_backup} if self.safety_backup else {})


class PendingMigration(Struct, frozen=True, kw_only=True):
    """One migration that ``migrate up`` would run."""

    app: str
    database: str
    version: str
    name: str
    path: Path
    statements: int
    sql: str


class MigrateUp:
    """Run pending migrations, database by database, each under the write lock of dbctl."""

    def __init__(
        self,
        app: App,
        database: str = "",
        folder: Path | None = None,
        *,
        to: str = "",
        steps: int = 0,
        variant: str = "",
        allow_data_loss: Sequence[str] = (),
        safety_backup: SafetyBackup | None = None,
    ) -> None:
        """Read the folders.

        Args:
            app: the app.
            database: the database; empty for every database that has migrations.
            folder: the folder of migrations, instead of the configured one.
            to: the last migration to run, by name or number.
            steps: number of migrations to run in each database; 0: all.
            variant: the variant for an empty database, if the migrations have several.
            allow_data_loss: names or numbers of migrations that may delete rows although their files do not allow it.
            safety_backup: options of the safety backup; the default is the configuration.

        Raises:
            UsageError: both ``to`` and ``steps`` were given.
        """
        self.app, self.protected = app.name, app.protected
        if to and steps:
            raise UsageError(detail="use only one of --to and --steps")
        self._open_app = app
        self._selection = UpSelection(to=to, steps=steps, allow_data_loss=allow_data_loss)
        self._safety = safety_backup or SafetyBackup(app)
        self._targets = find_targets(app, database, folder, variant=variant)
        self.target = self._targets[0].name if len(self._targets) == 1 else app.name
        #: the plans before the lock, by database; None before they are computed
        self._plans: dict[str, list[ExecutionPlan]] | None = None

    def list_pending(self) -> list[PendingMigration]:
        """Return the migrations to run; raises the errors of ``apply``."""
        self._plans = {target.database: self._plan_target(target) for target in self._targets}
        return [
            PendingMigration(
                app=target.app,
                database=target.database,
                version=plan.file.version,
                name=plan.file.name,
                path=plan.file.path,
                statements=len(plan.steps.statements),
                sql=plan.steps.section.text.removeprefix("\ufeff").strip("\n"),
            )
            for target in self._targets
            for plan in self._plans[target.database]
        ]

    def plan(self) -> Plan:
        """Return the migrations to run; writes nothing and needs no write privilege."""
        pending, plans = self.list_pending(), self._plans or {}
        steps = [
            step
            for target in self._targets
            for step in self._safety.describe_steps(target, _list_destructive(plans[target.database]))
        ]
        has_several = len(self._targets) > 1
        steps += [
            f"run {f'{migration.database}/' if has_several else ''}{migration.name} ({format_count(migration.statements, 'statement')})"
            for migration in pending
        ]
        return Plan(
            title=f"Run {format_count(len(pending), 'migration')}", target=self.target, steps=steps, rows={}
        )

    def apply(self, confirmed: str | None = None) -> Page[AppliedMigration]:
        """Run the migrations.

        Raises:
            MigrationFailedError: a migration failed and was rolled back; the migrations before it stay.
            MigrationPartialError: a migration failed and could not be rolled back; its first statements stay.
        """
        del confirmed  # no confirmation: rows are deleted only if a file or an option allows it
        if self._plans is None:
            self.plan()  # a refusal must not leave a new, empty file
        done: list[AppliedMigration] = []
        for target in self._targets:
            plans = (self._plans or {})[target.database]
            if not plans:
                continue  # a scheduled job needs no write privilege while nothing is pending
            with (
                self._safety.protect(target, _list_destructive(plans)) as backup,
                self._open_app.writer(target.database, "migrate up", create=True) as db,
            ):
                names = [migration.name for migration in done]
                done += apply_all(target, db, self._selection, done_names=names, safety_backup=backup)
        return Page(
            items=done,
            total=len(done),
            column_names=AppliedMigration.__struct_fields__,
            empty_message=NOTHING_PENDING,
        )

    def _plan_target(self, target: MigrationTarget) -> list[ExecutionPlan]:
        """Return the plans before the lock."""

        def read() -> list[ExecutionPlan]:
            state, _ = load_state_or_empty(self._open_app, target)
            return plan_up(state, self._selection)

        return retry_after_running_migration(self._open_app, target, read)


def _list_destructive(plans: Sequence[ExecutionPlan]) -> list[str]:
    """Return the names of the migrations that require a safety backup."""
    return [plan.file.name for plan in plans if plan.needs_safety_backup]


def apply_all(
    target: MigrationTarget,
    db: Writable,
    selection: UpSelection = UpSelection(),  # noqa: B008 - immutable
    *,
    done_names: Sequence[str] = (),
    safety_backup: str | None = None,
) -> list[AppliedMigration]:
    """Run the pending migrations in an open database, each in one transaction with its row in the ledger.

    A missing ledger is created. The caller holds the write lock of dbctl. A migration that the app itself applies
    concurrently does not run twice.

    Args:
        target: the database and its migrations.
        db: the open database.
        selection: which pending migrations run.
        done_names: the migrations that this run has applied to other databases.
        safety_backup: id of the safety backup, for the result.

    Raises:
        DbctlError: as ``plan_up``; nothing was run.
        MigrationFailedError: as ``run_plans``.
    """
    state = read_state(target, db)
    plans = plan_up(state, selection)
    completed = run_plans(open_session(state.target, db), plans, done_names=done_names)
    return [AppliedMigration.create(state.target, migration, safety_backup) for migration in completed]
