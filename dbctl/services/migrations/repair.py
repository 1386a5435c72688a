"""``migrate mark`` and ``migrate repair``: correct the ledger, with an audit record; no migration is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from dbctl.engines.contract import Readable, Writable
from dbctl.errors import LedgerMissingError, UsageError
from dbctl.model import ChangeResult, Plan, Struct
from dbctl.services.app import App, Change, PreparedChange, audit, require_row_count
from dbctl.services.migrations.execution import (
    create_missing_ledger,
    refuse_foreign,
    require_script_runner,
    resolve_name,
)
from dbctl.services.migrations.ledger import (
    DatabaseState,
    Ledger,
    Migration,
    MigrationTarget,
    State,
    StatementOutcome,
    journal,
    read_state,
)
from dbctl.services.migrations.status import find_targets, require_single_target

MarkedState = Literal["applied", "pending"]
#: By option of ``repair``: the states that it corrects, and the step for the plan.
REPAIRS: Mapping[str, tuple[frozenset[State], str]] = {
    "checksums": (frozenset({"changed"}), "record the checksum of the current file of {name}"),
    "failed": (frozenset({"failed"}), "remove the failed attempt of {name}"),
    "missing": (frozenset({"missing-file", "ahead"}), "remove {name}, which has no file"),
}


class LedgerRepair(Struct, frozen=True, kw_only=True):
    """One migration whose record in the ledger has changed."""

    app: str
    database: str
    version: str
    name: str
    was: State
    #: ``failed``: still partial, but its progress is known
    now: Literal["applied", "pending", "removed", "failed"]


class RepairResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``migrate mark`` and ``migrate repair``."""

    items: Sequence[LedgerRepair]

    def summary(self) -> Sequence[Mapping[str, object]]:
        return [
            {"database": repair.database, "name": repair.name, "was": repair.was, "now": repair.now}
            for repair in self.items
        ]


class _Step(Struct, frozen=True):
    """One row to write, with its description for the plan."""

    description: str
    repair: LedgerRepair
    write: Callable[[Writable, Ledger], int]  #: returns the number of written rows, which must be 1
    table: str = ""  #: that it writes; empty: the ledger


class LedgerChange(Change[RepairResult]):
    """A change of the ledger of one database; a missing ledger is created in the same transaction."""

    def __init__(
        self,
        app: App,
        target: MigrationTarget,
        purpose: str,
        steps: Callable[[DatabaseState], Sequence[_Step]],
    ) -> None:
        self._target, self._steps, self._app = target, steps, app
        super().__init__(app, target.database, f"migrate {purpose}", self._prepare_change)
        self._command = purpose

    def plan(self) -> Plan:
        db = self._app.reader(self._target.database, allow_empty=True)
        return self._prepare_change(db).plan

    def _transaction(self, database: Writable) -> AbstractContextManager[None]:
        return require_script_runner(database).schema_transaction()

    def _prepare_change(self, db: Readable) -> PreparedChange[RepairResult]:
        target = self._target
        refuse_foreign(target)
        state = read_state(target, db)
        steps = self._steps(state)
        table = target.ledger.table
        creation = [f"create the ledger {table}"] if steps and table not in db.tables() else []
        plan = Plan(
            title=f"Correct the ledger of {target.database}",
            target=target.name,
            steps=[*creation, *(step.description for step in steps)],
            rows=Counter(step.table or table for step in steps),
        )

        def work(db: Writable) -> RepairResult:
            ledger = (
                Ledger(target, db) if state.has_ledger or not steps else create_missing_ledger(target, db)
            )
            for step in steps:
                require_row_count(step.write(db, ledger), 1, db)
                details = {"database": target.database, "was": step.repair.was, "now": step.repair.now}
                audit.record(
                    self._app, db, f"migrate.{self._command}", "migrations", step.repair.name, details
                )
            return RepairResult(items=[step.repair for step in steps])

        return PreparedChange(plan, work)


def mark(
    app: App,
    names: Sequence[str],
    requested: MarkedState,
    database: str = "",
    folder: Path | None = None,
    *,
    variant: str = "",
) -> LedgerChange:
    """Return the change that records migrations as applied or pending without running them.

    Raises:
        UsageError: the database is ambiguous, or no migration was named.
        MigrationMissingError: neither folder nor ledger has a migration of that name.
    """
    configured = require_single_target(find_targets(app, database, folder, variant=variant))
    if not names:
        raise UsageError(detail="name the migrations to mark")

    def steps(state: DatabaseState) -> list[_Step]:
        target = state.target
        if requested == "pending" and not state.has_ledger:
            raise LedgerMissingError(target=target.name, table=target.ledger.table)
        migrations = {migration.name: migration for migration in state.migrations}
        selected = dict.fromkeys(resolve_name(target.folder, name, list(migrations)) for name in names)
        steps = (_create_mark_step(target, state, migrations[name], requested) for name in selected)
        return [step for step in steps if step]

    return LedgerChange(app, configured, "mark", steps)


def repair(
    app: App,
    options: Sequence[str],
    database: str = "",
    folder: Path | None = None,
    *,
    names: Sequence[str] = (),
    outcome: StatementOutcome | None = None,
    variant: str = "",
) -> LedgerChange:
    """Return the change that corrects the records of migrations.

    Args:
        app: the app.
        options: what to correct: keys of ``REPAIRS``.
        database: the database; required if several databases have migrations.
        folder: the folder of migrations, instead of the configured one.
        names: the migrations to correct; empty for all.
        outcome: whether the statement at which a run was killed has run.
        variant: the variant of the schema, if the migrations have several.

    Raises:
        UsageError: the database is ambiguous, or nothing to correct was selected.
        MigrationMissingError: neither folder nor ledger has a migration of a name.
    """
    configured = require_single_target(find_targets(app, database, folder, variant=variant))
    if not (options or outcome):
        known = ", ".join(f"--{word}" for word in (*REPAIRS, "statement"))
        raise UsageError(detail=f"choose what to repair: {known}")

    def steps(state: DatabaseState) -> list[_Step]:
        target = state.target
        if not (state.has_ledger or state.is_empty):
            raise LedgerMissingError(target=target.name, table=target.ledger.table)
        all_names = [migration.name for migration in state.migrations]
        selected = {resolve_name(target.folder, name, all_names) for name in names} or {*all_names}
        migrations = [migration for migration in state.migrations if migration.name in selected]
        repairs = list(_create_repair_steps(target, state, migrations, options))
        return repairs + [
            _create_outcome_step(target, state, migration, outcome)
            for migration in migrations
            if outcome and _has_unknown_step(state, migration)
        ]

    return LedgerChange(app, configured, "repair", steps)


def _create_mark_step(
    target: MigrationTarget, state: DatabaseState, migration: Migration, requested: MarkedState
) -> _Step | None:
    """Return the step that records the ``requested`` state, or None if the migration has it already."""
    if requested == "pending":
        if migration.state in ("pending", "out-of-order", "duplicate-version"):
            return None
        if migration.state == "baseline":
            raise UsageError(
                detail=f"{migration.name} is treated as applied because a later row implies it; the ledger has no row for it"
            )
        return _create_remove_step(target, state, migration, f"record {migration.name} as pending", "pending")
    if migration.state in ("applied", "baseline", "retired", "missing-file", "ahead"):
        return None
    if migration.state == "changed":
        raise UsageError(
            detail=f"{migration.name} is applied with another text; accept the current one with: dbctl migrate repair --checksums"
        )
    if migration.state == "duplicate-version":
        raise UsageError(
            detail=f"{migration.name} has the number of another migration: renumber its file first"
        )
    file = target.folder.files[migration.name]
    if migration.state == "failed" and migration.name not in state.partial:
        return _Step(
            f"record {migration.name}, which failed, as applied",
            _create_repair(target, migration, "applied"),
            lambda db, ledger: ledger.complete(db, file),
        )

    def insert(db: Writable, ledger: Ledger) -> int:
        journal.delete_steps(db, migration.name)
        if db.count(ledger.table.name, ledger.applied_conditions(file)):  # it was partly reverted
            return 1
        db.insert(ledger.table.name, ledger.create_row(file, 0))
        return 1

    return _Step(
        f"record {migration.name} as applied without running it",
        _create_repair(target, migration, "applied"),
        insert,
    )


def _has_unknown_step(state: DatabaseState, migration: Migration) -> bool:
    partial = state.partial.get(migration.name)
    return partial is not None and partial.unknown_step is not None


def _create_outcome_step(
    target: MigrationTarget, state: DatabaseState, migration: Migration, outcome: StatementOutcome
) -> _Step:
    """Return the step that records whether the statement at which a run was killed has run."""
    step = state.partial[migration.name].unknown_step
    number = step.number if step else 0

    def write(db: Writable, ledger: Ledger) -> int:  # noqa: ARG001 - the signature of a step
        journal.resolve_statement(db, migration.name, done=outcome is StatementOutcome.DONE)
        return 1

    result = "has run" if outcome is StatementOutcome.DONE else "has not run"
    return _Step(
        f"record that statement {number} of {migration.name} {result}",
        _create_repair(target, migration, "failed"),
        write,
        journal.TABLE,
    )


def _create_repair_steps(
    target: MigrationTarget, state: DatabaseState, migrations: Sequence[Migration], options: Sequence[str]
) -> Iterator[_Step]:
    for option in options:
        states, template = REPAIRS[option]
        for migration in migrations:
            if migration.state not in states:
                continue
            description = template.format(name=migration.name)
            if option == "checksums":
                yield _Step(
                    description,
                    _create_repair(target, migration, "applied"),
                    _create_checksum_writer(target, migration),
                )
            else:
                new_state: Literal["pending", "removed"] = "pending" if option == "failed" else "removed"
                yield _create_remove_step(target, state, migration, description, new_state)


def _create_checksum_writer(
    target: MigrationTarget, migration: Migration
) -> Callable[[Writable, Ledger], int]:
    file = target.folder.files[migration.name]

    def write(db: Writable, ledger: Ledger) -> int:
        column = ledger.table.column(ledger.checksum or "checksum")
        return db.update(ledger.table.name, {column: file.checksum}, ledger.applied_conditions(file))

    return write


def _create_remove_step(
    target: MigrationTarget,
    state: DatabaseState,
    migration: Migration,
    description: str,
    new_state: Literal["pending", "removed"],
) -> _Step:
    partial = state.partial.get(migration.name)

    def remove(db: Writable, ledger: Ledger) -> int:
        rows = (
            ledger.remove_rows(db, ledger.row_conditions(migration.version, migration.name))
            if not partial or partial.direction == "down"
            else 1
        )
        journal.delete_steps(db, migration.name)
        return rows

    if partial and partial.direction == "up":
        effects = f"; its effects remain ({migration.detail}), and up begins with its first statement"
        return _Step(
            description + effects, _create_repair(target, migration, new_state), remove, journal.TABLE
        )
    return _Step(description, _create_repair(target, migration, new_state), remove)


def _create_repair(
    target: MigrationTarget, migration: Migration, now: Literal["applied", "pending", "removed", "failed"]
) -> LedgerRepair:
    return LedgerRepair(
        app=target.app,
        database=target.database,
        version=migration.version,
        name=migration.name,
        was=migration.state,
        now=now,
    )
