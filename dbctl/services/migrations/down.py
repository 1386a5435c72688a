"""``migrate down``: revert migrations with their own down scripts, newest first."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dbctl.engines import registry
from dbctl.errors import (
    DownAllRefusedError,
    LedgerForeignError,
    LedgerMissingError,
    MigrationBrokenError,
    MigrationChangedError,
    MigrationIrreversibleError,
    MigrationsOutOfOrderError,
    PlanChangedError,
    UsageError,
)
from dbctl.model import Page, Plan, Struct, format_count
from dbctl.services.app import App
from dbctl.services.migrations import row_loss
from dbctl.services.migrations.executor import (
    MigrationExecutor,
    join_names,
    refuse_unknown_progress,
)
from dbctl.services.migrations.files import MigrationFile, Steps, order_key_of
from dbctl.services.migrations.ledger import (
    DatabaseState,
    Ledger,
    Migration,
    MigrationTarget,
    journal,
    read_state,
)
from dbctl.services.migrations.safety_backup import SafetyBackup
from dbctl.services.migrations.status import find_targets
from dbctl.services.migrations.up import (
    AppliedMigration,
    refuse_mismatch,
    resolve_name,
    retry_after_running_migration,
)

NOTHING_APPLIED = "nothing to do: no migration is applied"


class RevertedMigration(AppliedMigration, frozen=True, kw_only=True):
    """One migration that this run reverted."""


class DownSelection(Struct, frozen=True, kw_only=True):
    """Which migrations are reverted; by default the last one."""

    steps: int = 0  #: number of migrations
    to: str = ""  #: revert all migrations after this one
    all_migrations: bool = False


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

    def plan(self) -> Plan:
        """Return the migrations to revert and the rows at risk; raises the errors of ``apply``."""
        steps: list[str] = []
        rows: dict[str, int] = {}
        count = 0
        for target in self._targets:
            self._select_names(target)
            url = self._open_app.url(target.database)
            with closing(
                registry.load_engine(url.engine).open_for_reading(
                    url, target.name, timeout=self._open_app.timeout
                )
            ) as db:
                selected = _select_applied(read_state(target, db), self._selection)
                effects = [loss for _, down_steps in selected for loss in down_steps.effects]
                at_risk = row_loss.find_rows_at_risk(db, effects)
            rows |= {loss.table: rows.get(loss.table, 0) + loss.before for loss in at_risk}
            steps += self._safety.describe_steps(target, [file.name for file, _ in selected])
            where = f"{target.database}/" if len(self._targets) > 1 else ""
            steps += [
                f"revert {where}{file.name} ({format_count(len(down_steps.statements), 'statement')})"
                for file, down_steps in selected
            ]
            count += len(selected)
        title = f"Revert {format_count(count, 'migration')}"
        return Plan(title=title, target=self.target, steps=steps, rows=rows, destructive=True)

    def apply(self, confirmed: str | None = None) -> Page[RevertedMigration]:
        """Revert each migration in one transaction with its row in the ledger.

        Raises:
            PlanChangedError: the plan differs from the ``confirmed`` plan; nothing was changed.
            MigrationFailedError: a migration failed and was rolled back; the migrations before it stay reverted.
            MigrationPartialError: a migration failed and could not be rolled back; its first statements stay.
        """
        if confirmed is not None and self.plan().digest != confirmed:
            raise PlanChangedError(target=self.target)
        done: list[RevertedMigration] = []
        for configured in self._targets:
            names = self._select_names(configured)
            if not names:
                continue
            with (
                self._safety.protect(configured, names) as backup,
                self._open_app.writer(configured.database, "migrate down", create=True) as db,
            ):
                state = read_state(configured, db)
                target = state.target
                selected = _select_applied(state, self._selection)
                if [file.name for file, _ in selected] != names:
                    raise PlanChangedError(target=configured.name)
                ledger = Ledger(target, db)
                try:
                    for index, (file, steps) in enumerate(selected):
                        executor = MigrationExecutor(
                            target,
                            db,
                            ledger,
                            file,
                            steps,
                            direction="down",
                            partial=state.partial.get(file.name),
                            applied_names=[migration.name for migration in done],
                            pending_names=names[index + 1 :],
                        )
                        if result := executor.run():
                            done.append(RevertedMigration.from_result(target, file, steps, result, backup))
                finally:
                    journal.drop_if_empty(db)
        field_names = RevertedMigration.__struct_fields__
        return Page(items=done, total=len(done), column_names=field_names, empty_message=NOTHING_APPLIED)

    def _select_names(self, target: MigrationTarget) -> list[str]:
        return retry_after_running_migration(self._open_app, target, lambda: self._read_names(target))

    def _read_names(self, target: MigrationTarget) -> list[str]:
        url = self._open_app.url(target.database)
        with closing(
            registry.load_engine(url.engine).open_for_reading(
                url, target.name, timeout=self._open_app.timeout
            )
        ) as db:
            return [file.name for file, _ in _select_applied(read_state(target, db), self._selection)]


def _select_applied(state: DatabaseState, selection: DownSelection) -> list[tuple[MigrationFile, Steps]]:
    """Return the migrations to revert, newest first; raises the errors of ``MigrateDown.apply``."""
    target = state.target
    _refuse_inconsistent_state(state)
    applied = [
        migration
        for migration in reversed(state.migrations)
        if migration.state in ("applied", "baseline", "retired") or migration.name in state.partial
    ]
    if selection.to:
        last = resolve_name(target.folder, selection.to, [migration.name for migration in reversed(applied)])
        applied = [migration for migration in applied if order_key_of(migration.name) > order_key_of(last)]
    elif not selection.all_migrations:
        applied = applied[: selection.steps or 1]
    return [_select_down_steps(state, migration) for migration in applied]


def _refuse_inconsistent_state(state: DatabaseState) -> None:
    """Refuse a database whose ledger does not clearly record the applied migrations."""
    target = state.target
    if target.foreign:
        raise LedgerForeignError(target=target.name, runner=target.foreign.runner)
    refuse_mismatch(target, state)
    if not state.has_ledger:
        raise LedgerMissingError(target=target.name, table=target.ledger.table)
    if broken := [name for name in state.names_in("failed") if name not in state.partial]:
        raise MigrationBrokenError(target=target.name, names=join_names(broken))
    if changed := state.names_in("changed"):
        raise MigrationChangedError(target=target.name, names=join_names(changed))
    if out_of_order := state.names_in("out-of-order"):
        newest = [name for name in state.names_in("applied") if name in target.folder.files][-1]
        raise MigrationsOutOfOrderError(target=target.name, names=join_names(out_of_order), newest=newest)


def _select_down_steps(state: DatabaseState, migration: Migration) -> tuple[MigrationFile, Steps]:
    """Return the file and the down script of a migration.

    Raises:
        MigrationIrreversibleError: it cannot be reverted.
        MigrationStatementUnknownError, MigrationStepsChangedError: it is partly reverted, and its progress is unknown.
    """
    target = state.target

    def refusal(reason: str) -> MigrationIrreversibleError:
        return MigrationIrreversibleError(target=target.name, name=migration.name, reason=reason)

    file, partial = target.folder.files.get(migration.name), state.partial.get(migration.name)
    if file is None or migration.state == "baseline":
        raise refusal("it has no file" if file is None else "the ledger has no row for it")
    if partial and partial.direction == "up":
        raise refusal(f"it is partly applied ({migration.detail}); complete it with dbctl migrate up")
    steps = file.parse_down(registry.load_engine(target.engine).script_dialect)
    if steps is None:
        raise refusal("it has no down script, or an empty one")
    ledger_tables = {name.lower() for name in target.ledger_tables if name}
    if any(name.lower() in ledger_tables for effect in steps.effects for name in effect.dropped_tables):
        raise refusal(f"its down script would drop the ledger ({target.ledger.table})")
    if partial:
        refuse_unknown_progress(target, file, steps, partial)
    return file, steps
