"""``migrate mark`` and ``migrate repair``: correct the ledger, with an audit record; no migration is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.migrations import LedgerMissingError
from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Effect, Plan, Struct
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change, PreparedChange, require_row_count
from dbctl.services.migrations.execution.executor import create_missing_ledger
from dbctl.services.migrations.execution.plan import refuse_foreign, resolve_name
from dbctl.services.migrations.files.loader import MigrationFile
from dbctl.services.migrations.ledger import journal
from dbctl.services.migrations.ledger.journal import StatementOutcome
from dbctl.services.migrations.ledger.ledger import Ledger, MigrationTarget
from dbctl.services.migrations.ledger.state import DatabaseState, Migration, NamedMigration, State, read_state
from dbctl.services.migrations.status import require_single_target

MarkedState: TypeAlias = Literal["applied", "pending"]
#: ``failed``: still partial, but its progress is known
NewState: TypeAlias = Literal["applied", "pending", "removed", "failed"]


class _Repair(NamedTuple):
    """One option of ``migrate repair``."""

    states: frozenset[State]  #: that it corrects
    now: NewState
    description: str


REPAIRS: Mapping[str, _Repair] = {
    "checksums": _Repair(
        frozenset({"changed"}), "applied", "record the checksum of the current file of {name}"
    ),
    "failed": _Repair(frozenset({"failed"}), "pending", "remove the failed attempt of {name}"),
    "missing": _Repair(frozenset({"missing-file", "ahead"}), "removed", "remove {name}, which has no file"),
}
#: By state that ``migrate mark`` is to record: the states of migrations that have it already.
MARKED_STATES: Mapping[MarkedState, frozenset[State]] = {
    "applied": frozenset({"applied", "baseline", "retired", "missing-file", "ahead"}),
    "pending": frozenset({"pending", "out-of-order", "duplicate-version"}),
}
#: By such a state: why migrations in other states cannot get it.
MARK_REFUSALS: Mapping[MarkedState, Mapping[State, str]] = {
    "applied": {
        "changed": "{name} is applied with another text; migrate repair --checksums accepts the current one",
        "duplicate-version": "{name} has the number of another migration: renumber its file first",
    },
    "pending": {
        "baseline": "{name} is treated as applied because a later row implies it; the ledger has no row for it"
    },
}


class LedgerRepair(NamedMigration, frozen=True, kw_only=True):
    """One migration whose record in the ledger has changed."""

    was: State
    now: NewState


class RepairResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``migrate mark`` and ``migrate repair``."""

    items: Sequence[LedgerRepair]

    @property
    def effect(self) -> Effect | None:
        return (
            Effect("changed", "record", count=len(self.items), place="of migrations") if self.items else None
        )

    def summary(self) -> Sequence[Mapping[str, object]]:
        return [
            {"database": repair.database, "name": repair.name, "was": repair.was, "now": repair.now}
            for repair in self.items
        ]


class _Step(Struct, frozen=True):
    """One row to write, with its description for the plan."""

    migration: Migration
    now: NewState
    description: str
    write: Callable[[Writable, Ledger], int]  #: returns the number of written rows, which must be 1
    table: str = ""  #: that it writes; empty: the ledger


class LedgerChange(Change[RepairResult]):
    """A change of the ledger of one database; a missing ledger is created in the same transaction."""

    def __init__(
        self,
        app: App,
        target: MigrationTarget,
        action: str,
        list_steps: Callable[[DatabaseState], Sequence[_Step]],
    ) -> None:
        self._target, self._action, self._list_steps = target, action, list_steps
        super().__init__(app, target.database, self._prepare_change)

    def plan(self) -> Plan:
        return self._prepare_change(self._app.reader(self._target.database, allow_empty=True)).plan

    def _prepare_change(self, db: Readable) -> PreparedChange[RepairResult]:
        target = self._target
        refuse_foreign(target)
        state = read_state(target, db)
        steps = self._list_steps(state)
        table = target.ledger.table
        creation = [f"create the ledger {table}"] if steps and table not in db.tables() else []
        plan = Plan(
            title=f"Correct the ledger of {target.database}",
            target=target.name,
            steps=[*creation, *(step.description for step in steps)],
            rows=Counter(step.table or table for step in steps),
        )

        def work(db: Writable) -> RepairResult:
            is_missing = steps and not state.has_ledger
            ledger = create_missing_ledger(target, db) if is_missing else Ledger(target, db)
            return RepairResult(items=[self._apply_step(step, db, ledger) for step in steps])

        return PreparedChange(plan, work)

    def _apply_step(self, step: _Step, db: Writable, ledger: Ledger) -> LedgerRepair:
        require_row_count(step.write(db, ledger), 1, db)
        migration = step.migration
        details = {"database": migration.database, "was": migration.state, "now": step.now}
        audit.record(self._app, db, self._action, "migrations", migration.name, details)
        return LedgerRepair(
            app=migration.app,
            database=migration.database,
            version=migration.version,
            name=migration.name,
            was=migration.state,
            now=step.now,
        )


def mark(
    app: App, targets: Sequence[MigrationTarget], names: Sequence[str], requested: MarkedState
) -> LedgerChange:
    """Return the change that records migrations as applied or pending without running them.

    Raises:
        UsageError: the database is ambiguous, or no migration was named.
        MigrationMissingError: neither folder nor ledger has a migration of that name.
    """
    target = require_single_target(targets)
    if not names:
        raise UsageError(detail="name the migrations to mark")

    def list_steps(state: DatabaseState) -> list[_Step]:
        if requested == "pending" and not state.has_ledger:
            raise LedgerMissingError(target=target.name, table=target.ledger.table)
        migrations = {migration.name: migration for migration in state.migrations}
        selected = _resolve_names(state, names)
        steps = [_create_mark_step(state, migrations[name], requested) for name in selected]
        return [step for step in steps if step]

    return LedgerChange(app, target, "migrate.mark", list_steps)


def repair(
    app: App,
    targets: Sequence[MigrationTarget],
    options: Sequence[str],
    *,
    names: Sequence[str] = (),
    outcome: StatementOutcome | None = None,
) -> LedgerChange:
    """Return the change that corrects the records of migrations of one database: all, or those with ``names``.

    The ``options`` are keys of ``REPAIRS``; ``outcome`` is whether the statement at which a run was killed has run.

    Raises:
        UsageError: the database is ambiguous, nothing to correct was selected, or a missing file was only renamed.
        MigrationMissingError: neither folder nor ledger has a migration of a name.
    """
    target = require_single_target(targets)
    if not (options or outcome):
        known = ", ".join(f"--{word}" for word in (*REPAIRS, "statement"))
        raise UsageError(detail=f"choose what to repair: {known}")

    def list_steps(state: DatabaseState) -> list[_Step]:
        if not (state.has_ledger or state.is_empty):
            raise LedgerMissingError(target=target.name, table=target.ledger.table)
        selected_names = _resolve_names(state, names)
        selected = [
            migration for migration in state.migrations if not names or migration.name in selected_names
        ]
        if "missing" in options and not names:
            _refuse_renamed(state)
        steps = [
            step for option in options for step in _create_repair_steps(state, selected, REPAIRS[option])
        ]
        if outcome:
            steps += _create_outcome_steps(state, selected, outcome)
        return steps

    return LedgerChange(app, target, "migrate.repair", list_steps)


def _refuse_renamed(state: DatabaseState) -> None:
    """Refuse to remove migrations whose text a file has that has not run: ``up`` would run it again.

    Raises:
        UsageError: a file has the text of a missing migration.
    """
    for missing in state.migrations:
        if missing.state not in REPAIRS["missing"].states or not missing.checksum:
            continue
        for name in state.names_in(*MARKED_STATES["pending"]):
            if state.target.folder.files[name].matches_checksum(missing.checksum):
                detail = f"{name} has the text of {missing.name}, which would run again: rename its file back, or pass the names of the migrations to remove"
                raise UsageError(detail=detail)


def _resolve_names(state: DatabaseState, selectors: Sequence[str]) -> list[str]:
    """Return the names of migrations that were selected by name or number, each once."""
    names = [migration.name for migration in state.migrations]
    return list(dict.fromkeys(resolve_name(state.target.folder, selector, names) for selector in selectors))


def _create_mark_step(state: DatabaseState, migration: Migration, requested: MarkedState) -> _Step | None:
    """Return the step that records the ``requested`` state, or None if the migration has it already."""
    name = migration.name
    if migration.state in MARKED_STATES[requested]:
        return None
    if refusal := MARK_REFUSALS[requested].get(migration.state):
        raise UsageError(detail=refusal.format(name=name))
    if requested == "pending":
        return _create_remove_step(state, migration, "pending", f"record {name} as pending")
    file = state.target.folder.files[name]
    if migration.state == "failed" and name not in state.partial:
        description = f"record {name}, which failed, as applied"
        return _Step(migration, "applied", description, lambda db, ledger: ledger.complete(db, file))

    def insert(db: Writable, ledger: Ledger) -> int:
        journal.delete_steps(db, name)
        # otherwise it was partly reverted
        if not db.count(ledger.table.name, ledger.applied_conditions(file)):
            db.insert(ledger.table.name, ledger.create_row(file, 0))
        return 1

    return _Step(migration, "applied", f"record {name} as applied without running it", insert)


def _create_repair_steps(
    state: DatabaseState, migrations: Sequence[Migration], option: _Repair
) -> Iterator[_Step]:
    for migration in migrations:
        if migration.state not in option.states:
            continue
        description = option.description.format(name=migration.name)
        if option.now == "applied":
            file = state.target.folder.files[migration.name]
            yield _Step(migration, option.now, description, partial(_write_checksum, file))
        else:
            yield _create_remove_step(state, migration, option.now, description)


def _write_checksum(file: MigrationFile, db: Writable, ledger: Ledger) -> int:
    column = ledger.table.column(ledger.checksum or "checksum")
    return db.update(ledger.table.name, {column: file.checksum}, ledger.applied_conditions(file))


def _create_outcome_steps(
    state: DatabaseState, migrations: Sequence[Migration], outcome: StatementOutcome
) -> Iterator[_Step]:
    """Yield the steps that record whether the statement at which a run was killed has run."""
    is_done = outcome is StatementOutcome.DONE
    for migration in migrations:
        step = state.partial[migration.name].unknown_step if migration.name in state.partial else None
        if step:
            result = "has run" if is_done else "has not run"
            description = f"record that statement {step.number} of {migration.name} {result}"
            write = partial(_write_outcome, migration.name, is_done)
            yield _Step(migration, "failed", description, write, journal.TABLE)


def _write_outcome(name: str, is_done: bool, db: Writable, _ledger: Ledger) -> int:  # noqa: FBT001 - a step
    journal.resolve_statement(db, name, done=is_done)
    return 1


def _create_remove_step(state: DatabaseState, migration: Migration, now: NewState, description: str) -> _Step:
    """Return the step that removes a migration from the ledger, or a partial one from the journal."""
    progress = state.partial.get(migration.name)
    is_partly_applied = progress is not None and progress.direction == "up"
    if migration.name not in state.target.folder.files:
        now, description = "removed", REPAIRS["missing"].description.format(name=migration.name)

    def remove(db: Writable, ledger: Ledger) -> int:
        journal.delete_steps(db, migration.name)
        if is_partly_applied:
            return 1
        # a row without a file has its own version, and may have the number of another row
        exact = migration.state in REPAIRS["missing"].states
        return ledger.remove_rows(db, ledger.row_conditions(migration.version, migration.name, exact=exact))

    if is_partly_applied:
        description += f"; its effects remain ({migration.detail}), and up begins with its first statement"
        return _Step(migration, now, description, remove, journal.TABLE)
    return _Step(migration, now, description, remove)
