"""``migrate down``: revert migrations with their own down scripts, newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from dbctl.engines.contract import Readable
from dbctl.errors import DownAllRefusedError, PlanChangedError, UsageError
from dbctl.model import Page, Plan, Struct, format_count
from dbctl.services.app import App
from dbctl.services.migrations.execution import (
    DownSelection,
    ExecutionPlan,
    MigrationSession,
    find_rows_at_risk,
    plan_down,
    run_plans,
)
from dbctl.services.migrations.ledger import Ledger, MigrationTarget, read_state
from dbctl.services.migrations.safety_backup import SafetyBackup
from dbctl.services.migrations.status import find_targets, retry_after_running_migration
from dbctl.services.migrations.up import AppliedMigration

NOTHING_APPLIED = "nothing to do: no migration is applied"


class RevertedMigration(AppliedMigration, frozen=True, kw_only=True):
    """One migration that this run reverted."""


class _DatabasePlan(Struct, frozen=True, kw_only=True):
    """The migrations to revert in one database."""

    target: MigrationTarget  #: with the folder of the database's variant
    plans: Sequence[ExecutionPlan]
    rows: Mapping[str, int]  #: rows that the statements would delete, by table, if they were counted

    @property
    def names(self) -> list[str]:
        """The names of the migrations."""
        return [plan.file.name for plan in self.plans]


class MigrateDown:
    """Revert migrations, database by database, each under the write lock of dbctl."""

    def __init__(
        self,
        app: App,
        selection: DownSelection,
        database: str = "",
        folder: Path | None = None,
        *,
        variant: str = "",
        safety_backup: SafetyBackup | None = None,
    ) -> None:
        """Read the folders.

        Args:
            app: the app.
            selection: the migrations to revert.
            database: the database; empty for every database that has migrations.
            folder: the folder of migrations, instead of the configured one.
            variant: the variant of the schema, if the migrations have several.
            safety_backup: options of the safety backup; the default is the configuration.

        Raises:
            UsageError: the number of migrations or the database is ambiguous.
            DownAllRefusedError: the app is protected and all migrations would be reverted.
        """
        self.app, self.protected = app.name, app.protected
        if (selection.steps > 0) + bool(selection.to) + selection.all_migrations > 1:
            raise UsageError(detail="use only one of --steps, --to and --all")
        if selection.all_migrations and app.protected:
            raise DownAllRefusedError(app=app.name)
        self._open_app, self._selection = app, selection
        self._targets = find_targets(app, database, folder, variant=variant)
        if len(self._targets) > 1 and not selection.all_migrations:
            names = ", ".join(target.database for target in self._targets)
            raise UsageError(detail=f"choose the database: --db {names}, or --all")
        self._safety = safety_backup or SafetyBackup(app)
        self.target = self._targets[0].name if len(self._targets) == 1 else app.name
        self._planned: Sequence[_DatabasePlan] | None = None  #: the plans before the lock
        self._digest = ""  #: of the plan; empty before it is computed

    def plan(self) -> Plan:
        """Return the migrations to revert and the rows at risk; raises the errors of ``apply``."""
        self._planned = self._plan_before_lock(counts_rows=True)
        steps: list[str] = []
        rows: dict[str, int] = {}
        for planned in self._planned:
            rows |= {table: rows.get(table, 0) + count for table, count in planned.rows.items()}
            steps += self._safety.describe_steps(planned.target, planned.names)
            where = f"{planned.target.database}/" if len(self._targets) > 1 else ""
            steps += [
                f"revert {where}{plan.file.name} ({format_count(len(plan.steps.statements), 'statement')})"
                for plan in planned.plans
            ]
        title = f"Revert {format_count(sum(len(planned.plans) for planned in self._planned), 'migration')}"
        plan = Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=True)
        self._digest = plan.digest
        return plan

    def apply(self, confirmed: str | None = None) -> Page[RevertedMigration]:
        """Revert each migration in one transaction with its row in the ledger.

        Raises:
            PlanChangedError: the plan under the lock differs from the ``confirmed`` plan, or, without one, in its
                migrations; nothing was changed.
            MigrationFailedError: a migration failed and was rolled back; the migrations before it stay reverted.
            MigrationPartialError: a migration failed and could not be rolled back; its first statements stay.
        """
        if confirmed is not None and (self._digest or self.plan().digest) != confirmed:
            raise PlanChangedError(target=self.target)
        if self._planned is None:
            self._planned = self._plan_before_lock(counts_rows=False)
        done: list[RevertedMigration] = []
        for target, planned in zip(self._targets, self._planned, strict=True):
            if not planned.plans:
                continue
            with (
                self._safety.protect(target, planned.names) as backup,
                self._open_app.writer(target.database, "migrate down", create=True) as db,
            ):
                current = self._plan_target(target, db, counts_rows=confirmed is not None)
                if current.names != planned.names or (confirmed is not None and current.rows != planned.rows):
                    raise PlanChangedError(target=target.name)
                session = MigrationSession(current.target, db, Ledger(current.target, db))
                names = [migration.name for migration in done]
                done += [
                    RevertedMigration.create(current.target, migration, backup)
                    for migration in run_plans(session, current.plans, done_names=names)
                ]
        field_names = RevertedMigration.__struct_fields__
        return Page(items=done, total=len(done), column_names=field_names, empty_message=NOTHING_APPLIED)

    def _plan_before_lock(self, *, counts_rows: bool) -> list[_DatabasePlan]:
        def read(target: MigrationTarget) -> _DatabasePlan:
            engine, url = self._open_app.engine(target.database), self._open_app.url(target.database)
            with closing(engine.open_for_reading(url, target.name, timeout=self._open_app.timeout)) as db:
                return self._plan_target(target, db, counts_rows=counts_rows)

        return [
            retry_after_running_migration(self._open_app, target, partial(read, target))
            for target in self._targets
        ]

    def _plan_target(self, target: MigrationTarget, db: Readable, *, counts_rows: bool) -> _DatabasePlan:
        """Return the plan of one database, before the lock or under it."""
        state = read_state(target, db)
        plans = plan_down(state, self._selection)
        effects = [effect for plan in plans for effect in plan.steps.effects] if counts_rows else []
        rows = {loss.table: loss.before for loss in find_rows_at_risk(db, effects)}
        return _DatabasePlan(target=state.target, plans=plans, rows=rows)
