"""Plan the migrations of one database, and run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from msgspec import structs

from dbctl.engines.contract.database import Readable, Writable
from dbctl.model import NOTHING_TO_DO, Closing, Page, Row, Struct, format_count, format_counts
from dbctl.services.migrations.execution.executor import MigrationSession, find_rows_at_risk, open_session
from dbctl.services.migrations.execution.plan import (
    DownSelection,
    ExecutionPlan,
    UpSelection,
    plan_down,
    plan_up,
)
from dbctl.services.migrations.execution.run import run_plans
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.ledger.state import (
    DatabaseState,
    NamedMigration,
    create_empty_state,
    read_state,
)


class RehearsedMigration(NamedMigration, frozen=True, kw_only=True):
    """One migration that was run, on the database or on a copy."""

    statements: int
    duration: timedelta


class AppliedMigration(RehearsedMigration, frozen=True, kw_only=True):
    """One migration that this run applied."""

    rows_lost: Mapping[str, int] = {}  #: by table; only for migrations that may delete rows
    safety_backup: str | None = None  #: id of the backup of the previous state, if one was created

    def summary(self) -> Row:
        fields = ("app", "database", "version", "name", "statements", "duration")
        row: dict[str, object] = {field: getattr(self, field) for field in fields}
        if self.rows_lost:
            row["rows_lost"] = ", ".join(f"{table}: {rows}" for table, rows in self.rows_lost.items())
        return row | ({"safety_backup": self.safety_backup} if self.safety_backup else {})


class RevertedMigration(AppliedMigration, frozen=True, kw_only=True):
    """One migration that this run reverted."""


class MigrationsRun(Page[AppliedMigration], frozen=True, kw_only=True):
    """The migrations that this run applied or reverted."""

    @property
    def closing(self) -> Closing:
        if not self.items:
            return NOTHING_TO_DO
        verb = "Reverted" if isinstance(self.items[0], RevertedMigration) else "Applied"
        targets = dict.fromkeys(f"{migration.app}/{migration.database}" for migration in self.items)
        lost = sum(sum(migration.rows_lost.values()) for migration in self.items)
        text = f"{verb} {format_count(len(self.items), 'migration')} to {', '.join(targets)}"
        return Closing(text, format_counts({"rows deleted": lost}), is_timed=True)


class DatabasePlan(Struct, frozen=True, kw_only=True):
    """The migrations to run in one database."""

    state: DatabaseState  #: its target has the folder of the database's variant
    plans: Sequence[ExecutionPlan]
    rows: Mapping[str, int] = {}  #: rows that the statements would delete, by table, if they were counted
    #: number of statements that block all servers of a cluster, by name
    blocking_statements: Mapping[str, int] = {}

    @property
    def names(self) -> list[str]:
        return [plan.file.name for plan in self.plans]

    @property
    def destructive_names(self) -> list[str]:
        """The names of the migrations that require a safety backup."""
        return [plan.file.name for plan in self.plans if plan.needs_safety_backup]

    def run(
        self,
        session: MigrationSession,
        result: type[AppliedMigration],
        done: Sequence[AppliedMigration],
        backup: str | None,
    ) -> list[AppliedMigration]:
        """Run the migrations; ``done`` are those of this run in other databases, ``backup`` is the safety backup."""
        return [
            result(
                app=session.target.app,
                database=session.target.database,
                version=migration.plan.file.version,
                name=migration.plan.file.name,
                statements=len(migration.plan.steps.statements),
                duration=migration.duration,
                rows_lost=migration.rows_lost,
                safety_backup=backup,
            )
            for migration in run_plans(session, self.plans, done_names=[other.name for other in done])
        ]


def plan_database(
    target: MigrationTarget,
    db: Readable | None,
    selection: UpSelection | DownSelection,
    *,
    counts_rows: bool = False,
) -> DatabasePlan:
    """Plan one database, before the lock or under it; ``db`` is None if it does not exist.

    ``counts_rows``: the plan has how many rows the migrations would delete.

    Raises:
        DbctlError: as ``plan_up`` and ``plan_down``; nothing was run.
    """
    state = read_state(target, db) if db else create_empty_state(target)
    plans = plan_down(state, selection) if isinstance(selection, DownSelection) else plan_up(state, selection)
    planned = DatabasePlan(state=state, plans=plans, blocking_statements=_count_blocking(db, plans))
    if db is None or not counts_rows:
        return planned
    effects = [effect for plan in plans for effect in plan.steps.effects]
    rows = {loss.table: loss.before for loss in find_rows_at_risk(db, effects)}
    return structs.replace(planned, rows=rows)


def _count_blocking(db: Readable | None, plans: Sequence[ExecutionPlan]) -> Mapping[str, int]:
    """Return the number of statements of each migration during which no server of the cluster can write."""
    server = db.server if db else None
    if server is None:
        return {}
    return {
        plan.file.name: sum(server.blocks_all_servers(sql) for _, sql in plan.steps.statements)
        for plan in plans
    }


def apply_all(
    target: MigrationTarget,
    db: Writable,
    selection: UpSelection = UpSelection(),  # noqa: B008 - immutable
    *,
    safety_backup: str | None = None,
) -> list[AppliedMigration]:
    """Run the pending migrations in an open database, each in one transaction with its row in the ledger.

    A missing ledger is created. The caller holds the write lock of dbctl. A migration that the app itself applies
    concurrently does not run twice.

    Raises:
        DbctlError: as ``plan_up``; nothing was run.
        MigrationFailedError: as ``run_plans``.
    """
    plan = plan_database(target, db, selection)
    return plan.run(open_session(plan.state.target, db), AppliedMigration, (), safety_backup)
