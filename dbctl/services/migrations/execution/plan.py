"""Plans of migrations: which run, and how each runs. They are computed before the lock, and again under it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from dbctl.engines import registry
from dbctl.engines.contract.schema import LintFinding, Script
from dbctl.errors.base import DbctlError
from dbctl.errors.migrations import (
    DuplicateMigrationNumberError,
    LedgerForeignError,
    LedgerMissingError,
    MigrationBrokenError,
    MigrationChangedError,
    MigrationFilesMissingError,
    MigrationIrreversibleError,
    MigrationMissingError,
    MigrationPartiallyRevertedError,
    MigrationsAheadError,
    MigrationsOutOfOrderError,
    MigrationStatementUnknownError,
    MigrationStepsChangedError,
)
from dbctl.model import Struct, join_first
from dbctl.services.migrations.files.loader import Folder, MigrationFile, Steps, order_key_of
from dbctl.services.migrations.ledger import journal
from dbctl.services.migrations.ledger.journal import Direction, PartialMigration
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.ledger.state import DatabaseState, Migration, NamedMigration

#: Names that a message lists before it counts the others.
MAX_LISTED_NAMES = 5
#: Characters of a statement that a message shows.
MAX_SQL_LENGTH = 80

#: Codes of the engine's linter: a statement about more than its database, and one that runs a text, which may be one.
EXTERNAL_EFFECT, RUNS_TEXT = "external-side-effect", "runs-text"

#: What happens if a migration deletes rows: nothing, they are counted for the result, or the migration is refused.
RowLossPolicy = Literal["ignore", "report", "refuse"]


class ExecutionPlan(Struct, frozen=True, kw_only=True):
    """How one migration runs in one direction."""

    file: MigrationFile
    steps: Steps
    direction: Direction = "up"
    row_loss: RowLossPolicy = "refuse"
    #: whether the journal records each statement that runs outside a transaction
    records_steps: bool = True
    resumes_from: PartialMigration | None = None  #: the statements that an earlier run has completed

    @property
    def is_atomic(self) -> bool:
        """Whether it runs in one transaction, if the engine can roll back changes of the schema."""
        return not (self.steps.section.outside_transaction or self.resumes_from)

    @property
    def counts_rows(self) -> bool:
        """Whether the rows of all tables are counted before and after it."""
        return self.row_loss != "ignore" and any(effect.may_delete_rows for effect in self.steps.effects)

    @property
    def needs_safety_backup(self) -> bool:
        """Whether it may delete existing rows, columns or tables."""
        return self.row_loss == "report" or (self.row_loss == "refuse" and self.steps.is_destructive)

    @property
    def completed_count(self) -> int:
        """The number of statements that an earlier run has completed; they are the first ones."""
        return self.resumes_from.ended_count if self.resumes_from else 0


def create_script(steps: Steps) -> Script:
    """Return the statements of one direction, as input for the engine's linter."""
    return Script(statements=steps.statements, outside_transaction=steps.section.outside_transaction)


def find_side_effect(
    engine: str, steps: Iterable[Steps], codes: Collection[str]
) -> tuple[int, LintFinding] | None:
    """Return the first finding with one of ``codes`` that the engine's linter has, and the number of its script.

    No directive of a file allows such a statement where it must not run.
    """
    language = registry.load_engine(engine).script_dialect
    findings = language.lint([create_script(script) for script in steps])
    return next(
        (
            (number, finding)
            for number, of_script in enumerate(findings)
            for finding in of_script
            if finding.code in codes
        ),
        None,
    )


class UpSelection(Struct, frozen=True, kw_only=True):
    """Which pending migrations run; by default all."""

    to: str = ""  #: the last one, by name or number
    steps: int = 0  #: number of migrations in each database; 0: all
    #: names or numbers of those that may delete rows without declaring it
    allow_data_loss: Sequence[str] = ()


class DownSelection(Struct, frozen=True, kw_only=True):
    """Which migrations are reverted; by default the last one."""

    steps: int = 0  #: number of migrations
    to: str = ""  #: revert all migrations after this one
    all_migrations: bool = False


def plan_up(state: DatabaseState, selection: UpSelection = UpSelection()) -> list[ExecutionPlan]:  # noqa: B008 - immutable
    """Return the plans of the pending migrations, in order.

    Raises:
        MigrationFilesMissingError, MigrationChangedError, MigrationsOutOfOrderError, LedgerMissingError: ledger and
            folder do not match.
        MigrationBrokenError: the app began a migration that did not end.
        MigrationInvalidError: a file cannot be run.
        MigrationMissingError: no migration has a selected name.
        MigrationStatementUnknownError, MigrationStepsChangedError: one is partly applied, and its progress is unknown.
    """
    target = state.target
    folder, files = target.folder, target.folder.files
    _refuse_inconsistent(state)
    for name, partial in state.partial.items():
        if name not in files:
            raise MigrationFilesMissingError(
                target=target.name, database=target.database, folder=folder.path, names=name
            )
        if partial.direction == "down":
            raise MigrationPartiallyRevertedError(target=target.name, name=name)
    if duplicates := state.names_in("duplicate-version"):
        raise DuplicateMigrationNumberError(target=target.name, names=join_names(duplicates))
    pending = [files[name] for name in state.names_in("pending", "failed") if name in files]
    if selection.to:
        last_file = files[resolve_name(folder, selection.to, list(files))]
        pending = [file for file in pending if file.order_key <= last_file.order_key]
    allowed = {resolve_name(folder, name, list(files)) for name in selection.allow_data_loss}
    language = registry.load_engine(target.engine).script_dialect
    plans = []
    for file in pending[: selection.steps or len(pending)]:
        steps, resumes_from = file.parse_up(language), state.partial.get(file.name)
        if resumes_from:
            _refuse_unknown_progress(target, file, steps, resumes_from)
        policy: RowLossPolicy = (
            "report" if steps.section.allows_data_loss or file.name in allowed else "refuse"
        )
        plans.append(
            ExecutionPlan(
                file=file,
                steps=steps,
                # rows that this run has inserted are not a loss
                row_loss="ignore" if state.is_empty else policy,
                resumes_from=resumes_from,
            )
        )
    return plans


def plan_down(state: DatabaseState, selection: DownSelection) -> list[ExecutionPlan]:
    """Return the plans of the migrations to revert, newest first.

    Raises:
        MigrationIrreversibleError: one cannot be reverted.
        DbctlError: ledger and folder do not match, as for ``plan_up``.
    """
    target = state.target
    _refuse_inconsistent(state)
    applied = [
        migration
        for migration in reversed(state.migrations)
        if migration.state in ("applied", "baseline", "retired") or migration.name in state.partial
    ]
    if selection.to:
        names = [migration.name for migration in reversed(applied)]
        last = resolve_name(target.folder, selection.to, names, kind="applied migration")
        applied = [migration for migration in applied if order_key_of(migration.name) > order_key_of(last)]
    elif not selection.all_migrations:
        applied = applied[: selection.steps or 1]
    return [_plan_revert(state, migration) for migration in applied]


def _plan_revert(state: DatabaseState, migration: Migration) -> ExecutionPlan:
    """Return the plan of one migration to revert; raises the errors of ``plan_down``."""
    target = state.target

    def refusal(reason: str) -> MigrationIrreversibleError:
        return MigrationIrreversibleError(target=target.name, name=migration.name, reason=reason)

    file, partial = target.folder.files.get(migration.name), state.partial.get(migration.name)
    if file is None or migration.state == "baseline":
        raise refusal("it has no file" if file is None else "the ledger has no row for it")
    if partial and partial.direction == "up":
        raise refusal(f"it is partly applied ({migration.detail}); complete it first")
    steps = file.parse_down(registry.load_engine(target.engine).script_dialect)
    if steps is None:
        raise refusal("it has no down script, or an empty one")
    ledger_tables = {name.lower() for name in target.ledger_tables if name}
    if any(name.lower() in ledger_tables for effect in steps.effects for name in effect.dropped_tables):
        raise refusal(f"its down script would drop the ledger ({target.ledger.table})")
    if partial:
        _refuse_unknown_progress(target, file, steps, partial)
    return ExecutionPlan(file=file, steps=steps, direction="down", row_loss="report", resumes_from=partial)


def refuse_mismatch(state: DatabaseState) -> None:
    """Refuse a database and a folder that do not belong together.

    Raises:
        MigrationsAheadError: the ledger names migrations that are later than every file.
        MigrationFilesMissingError: the ledger names migrations that the folder does not have.
        LedgerMissingError: the database has tables but no ledger.
    """
    target = state.target
    if ahead := state.names_in("ahead"):
        raise MigrationsAheadError(target=target.name, names=join_names(ahead), folder=target.folder.path)
    if missing := state.names_in("missing-file"):
        shipped = "" if target.folder.is_custom else " (shipped with dbctl, for another variant of this app)"
        folder = f"{target.folder.path}{shipped}"
        raise MigrationFilesMissingError(
            target=target.name, database=target.database, folder=folder, names=join_names(missing)
        )
    if not (state.has_ledger or state.is_empty):
        raise LedgerMissingError(target=target.name, table=target.ledger.table)


def refuse_foreign(target: MigrationTarget) -> None:
    """Refuse a database whose ledger another runner writes.

    Raises:
        LedgerForeignError: another runner writes it.
    """
    if target.foreign:
        raise LedgerForeignError(target=target.name, runner=target.foreign.runner)


def _refuse_inconsistent(state: DatabaseState) -> None:
    """Refuse a database whose ledger does not clearly record the applied migrations."""
    target, files = state.target, state.target.folder.files
    refuse_foreign(target)
    refuse_mismatch(state)
    if broken := [name for name in state.names_in("failed") if name not in state.partial]:
        raise MigrationBrokenError(target=target.name, database=target.database, names=join_names(broken))
    if changed := state.names_in("changed"):
        raise MigrationChangedError(target=target.name, database=target.database, names=join_names(changed))
    if out_of_order := state.names_in("out-of-order"):
        newest = [name for name in state.names_in("applied") if name in files][-1]
        raise MigrationsOutOfOrderError(target=target.name, names=join_names(out_of_order), newest=newest)


def _refuse_unknown_progress(
    target: MigrationTarget, file: MigrationFile, steps: Steps, partial: PartialMigration
) -> None:
    """Refuse to continue a partial migration whose progress is unknown.

    Raises:
        MigrationStatementUnknownError: it is unknown whether its last statement has run.
        MigrationStepsChangedError: the file has changed since its first statements ran.
    """
    statements = dict(enumerate((sql for _, sql in steps.statements), 1))
    for step in partial.steps:
        if step.ended and journal.hash_statement(statements.get(step.number, "")) != step.sha256:
            raise MigrationStepsChangedError(target=target.name, name=file.name, number=step.number)
    if unknown := partial.unknown_step:
        sql = statements.get(unknown.number, "")
        is_unchanged = journal.hash_statement(sql) == unknown.sha256
        text = " ".join(sql.split()) if is_unchanged else "the statement is no longer in the file"
        raise MigrationStatementUnknownError(
            target=target.name,
            database=target.database,
            name=file.name,
            number=unknown.number,
            sql=text[:MAX_SQL_LENGTH],
        )


def resolve_name(folder: Folder, selector: str, names: Sequence[str], kind: str = "migration") -> str:
    """Resolve a name, file name or number to one of ``names``, which are in order; of a shared number, to the last.

    ``kind`` is what the names are, for the message.

    Raises:
        MigrationMissingError: no name matches; the message suggests a similar one.
    """
    stem = selector.removesuffix(".sql")
    if stem in names:
        return stem
    if stem.isascii() and stem.isdigit():
        matches = [name for name in names if order_key_of(name)[0] == int(stem)]
        if matches:
            return matches[-1]
    raise MigrationMissingError(kind=kind, folder=folder.path, name=selector, candidates=names)


def join_names(names: Sequence[str]) -> str:
    """Return the first names, separated by commas, and the number of the others."""
    return join_first(names, MAX_LISTED_NAMES)


def state_done(error: DbctlError, target: MigrationTarget, done: Sequence[NamedMigration]) -> None:
    """Let an error that prevents the migrations of a database state those that this run has completed in others."""
    if done and "applied" not in error.context:
        names = join_names([f"{migration.database}/{migration.name}" for migration in done])
        hint = error.hint.removeprefix("Nothing was changed.")
        error.hint = f"{target.name} was not changed. Done by this run: {names}. {hint.strip()}".strip()
