"""Execution of one migration in an open database: in one transaction with its row in the ledger, or statement by statement."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from dbctl import progress
from dbctl.engines.contract.database import Readable, Writable, require_supported
from dbctl.engines.contract.schema import ScriptRunner, StatementEffect
from dbctl.errors.connection import (
    BusyError,
    ConcurrentChangeError,
    ConstraintError,
    PrivilegeMissingError,
    QueryFailedError,
)
from dbctl.errors.migrations import RowsLostError
from dbctl.errors.usage import SchemaMismatchError, ValueInvalidError
from dbctl.model import format_count
from dbctl.services.migrations.execution.plan import ExecutionPlan
from dbctl.services.migrations.ledger import journal
from dbctl.services.migrations.ledger.journal import Journal
from dbctl.services.migrations.ledger.ledger import Ledger, MigrationTarget

#: Errors that a statement of the migration causes.
STATEMENT_ERRORS = (QueryFailedError, ConstraintError, ValueInvalidError, SchemaMismatchError)
#: Errors that the server reports: the statement did nothing.
REPORTED_ERRORS = (*STATEMENT_ERRORS, BusyError, ConcurrentChangeError)
IN_STATEMENT = " in statement {number} (line {line})"
#: The places outside the statements at which a migration may fail; after the second, it may have been committed.
RECORDING, COMMITTING = " while it was recorded", " during the commit"
#: Seconds between two attempts to get a lock, in which waiting sessions get it first.
LOCK_RETRY_PAUSE = 0.2


class RowLoss(NamedTuple):
    """One table with fewer rows than before."""

    table: str
    before: int
    after: int | None  #: None: the table no longer exists
    is_estimate: bool = False  #: estimated from a statement; ``after`` is then a lower bound

    @property
    def rows(self) -> int:
        """The number of deleted rows."""
        return self.before - (self.after or 0)


def count_rows(db: Writable, excluded: Collection[str]) -> dict[str, int]:
    """Count the rows of every readable table except those in ``excluded``."""
    row_counts: dict[str, int] = {}
    for name, table in db.tables().items():
        if table.is_view or name in excluded:
            continue
        has_begun = False
        try:
            with db.transaction():  # a failure would abort the transaction of the caller
                has_begun = True
                row_counts[name] = db.count(name)
        except (QueryFailedError, PrivilegeMissingError):
            if not has_begun:  # the server lacks savepoints here, so the transaction of the caller has failed
                raise
            continue  # a virtual table without its module, or no privilege: then the migration cannot change its rows either
    return row_counts


def find_losses(before: Mapping[str, int], after: Mapping[str, int]) -> list[RowLoss]:
    """Return the tables that have fewer rows than before.

    A missing table is treated as renamed if a new table has the same number of rows.
    """
    losses = [
        RowLoss(table, rows, after[table]) for table, rows in before.items() if rows > after.get(table, rows)
    ]
    new = [rows for table, rows in after.items() if table not in before]
    for table, rows in before.items():
        if table in after or not rows:
            continue
        if rows in new:
            new.remove(rows)
        else:
            losses.append(RowLoss(table, rows, None))
    return losses


def find_rows_at_risk(db: Readable, effects: Sequence[StatementEffect]) -> list[RowLoss]:
    """Return the tables with rows that statements would drop or delete from; the statements are examined, not run."""
    live_names = {name.lower(): name for name, table in db.tables().items() if not table.is_view}
    names = dict.fromkeys(
        live_names.get(name.lower(), "")
        for effect in effects
        for name in (*effect.dropped_tables, *effect.emptied_tables)
    )
    dropped = {live_names.get(name.lower(), "") for effect in effects for name in effect.dropped_tables}
    return [
        RowLoss(name, rows, None if name in dropped else 0, is_estimate=True)
        for name in names
        if name and (rows := db.count(name))
    ]


def describe_losses(losses: Sequence[RowLoss]) -> str:
    """Return the losses as text: ``users (3 rows, 1 left), notes (5 rows, dropped), logs (7 rows, some deleted)``."""

    def describe_after(loss: RowLoss) -> str:
        if loss.after is None:
            return "dropped"
        return "some deleted" if loss.is_estimate else f"{loss.after} left"

    return ", ".join(
        f"{loss.table} ({format_count(loss.before, 'row')}, {describe_after(loss)})" for loss in losses
    )


class CompletedMigration(NamedTuple):
    """A migration that has run."""

    plan: ExecutionPlan
    duration: timedelta
    rows_lost: Mapping[str, int]  #: number of deleted rows by table, if they were counted


class MigrationSession:
    """One database that is open for migrations; the caller holds the write lock of dbctl."""

    def __init__(self, target: MigrationTarget, db: Writable, ledger: Ledger | None) -> None:
        """Set the ledger; None: it is missing, and the first migration creates it."""
        self.target, self.db, self.ledger = target, db, ledger
        self.scripts = require_script_runner(db)
        self.has_journal = journal.TABLE in db.tables()


class MigrationExecutor:
    """Runs one migration, and records how far it has come, for messages about its failure."""

    _ledger: Ledger

    def __init__(self, session: MigrationSession, plan: ExecutionPlan) -> None:
        self._session, self._plan = session, plan
        self._db, self._scripts = session.db, session.scripts
        self.place = ""  #: the statement or phase that runs
        self.committed_count = plan.completed_count  #: number of statements that are committed
        self.leftovers = ""  #: what the failed statement left, or the statements that remove it
        self._created_ledger = False

    def run(self) -> CompletedMigration | None:
        """Run the migration; return None if another process has run it since the plan.

        An engine that cannot roll back changes of the schema runs it statement by statement, each committed separately;
        the journal records each of them, and the next run continues after them.

        Raises:
            RowsLostError: it deletes rows, and its file does not allow that; nothing was changed.
            DbctlError: it failed. In one transaction, it was rolled back, unless the failed step is the commit;
                otherwise its first statements remain.
        """
        if self._plan.is_atomic and self._scripts.transactional_ddl:
            return self._run_atomic()
        try:
            return self._run_stepwise()
        except REPORTED_ERRORS:
            self._describe_leftovers()
            raise

    def _run_atomic(self) -> CompletedMigration | None:
        start, attempts = time.monotonic(), self._scripts.lock_attempts
        for attempt in range(attempts, 0, -1):
            try:
                with self._scripts.schema_transaction(short_waits=True):
                    return self._run_in_transaction()
            except ConcurrentChangeError:
                if attempt == 1:
                    raise
            except BusyError as error:
                if attempt == 1:
                    total = f"{max(time.monotonic() - start, 0):.1f}"
                    waited = total if attempts > 1 else error.context["waited"]
                    raise BusyError(
                        target=self._db.target, holder=error.context["holder"], waited=waited
                    ) from error
            time.sleep(LOCK_RETRY_PAUSE)
        raise AssertionError  # the last attempt has returned or raised

    def _run_in_transaction(self) -> CompletedMigration | None:
        if self._is_recorded():
            return None
        start, before = time.monotonic(), self._count_rows()
        for number, (line, sql) in enumerate(self._plan.steps.statements, 1):
            self._report_statement(number)
            self.place = IN_STATEMENT.format(number=number, line=line)
            self._scripts.run_statement(sql)
        self._scripts.restore_session()  # the tables whose rows are counted, and the ledger, may be in another schema
        losses = [
            loss
            for loss in self._find_losses(before)
            if loss.after is None or self._scripts.may_have_deleted(loss.table)
        ]
        if losses and self._plan.row_loss == "refuse":
            raise self._create_row_loss_error(losses, "It was rolled back.")
        return self._record(start, losses)

    def _run_stepwise(self) -> CompletedMigration | None:
        plan, start = self._plan, time.monotonic()
        with self._scripts.outside_transaction():
            if self._is_recorded():
                return None
            self._refuse_row_loss()
            before = self._count_rows()
            steps = Journal(self._db, plan.file.name, plan.direction) if plan.records_steps else None
            if steps:
                steps.open(reset=plan.resumes_from is None)
                self._session.has_journal = True
            for number, (line, sql) in enumerate(plan.steps.statements, 1):
                self._report_statement(number)
                self.place = IN_STATEMENT.format(number=number, line=line)
                if number > plan.completed_count:
                    self._run_step(steps, number, sql)
                elif plan.steps.effects[number - 1].session_only:
                    self._scripts.run_statement(sql)  # its effect ended with the session
            self._scripts.restore_session()  # as in one transaction
            losses = self._find_losses(before)
            with self._db.transaction():
                return self._record(start, losses)

    def _report_statement(self, number: int) -> None:
        progress.start_part(number, len(self._plan.steps.statements), "statement")
        progress.start_stage(self._plan.file.name)

    def _refuse_row_loss(self) -> None:
        """Refuse statements that would delete rows; the statements are examined, not run."""
        if self._plan.row_loss != "refuse":
            return
        remaining = self._plan.steps.effects[self._plan.completed_count :]
        if losses := find_rows_at_risk(self._db, remaining):
            undone = "Nothing was run." if self._plan.completed_count else "None of its statements was run."
            raise self._create_row_loss_error(losses, undone)

    def _run_step(self, steps: Journal | None, number: int, sql: str) -> None:
        partial = self._plan.resumes_from
        again = partial is not None and any(step.failed and step.number == number for step in partial.steps)
        for cleanup in self._scripts.cleanup_statements(sql) if again else ():
            self._scripts.run_statement(cleanup)
        if steps:
            steps.begin(number, sql, again=again)
        try:
            self._scripts.run_statement(sql)
        except REPORTED_ERRORS as error:
            has_written = isinstance(error, (ConstraintError, ValueInvalidError))
            if has_written and (tables := self._scripts.find_unreverted_tables(sql)):
                # Its step stays open, because it is unknown which of its rows were written.
                self.leftovers = f" Rows of the failed statement may remain in {', '.join(tables)}, which cannot roll back changes."
            elif steps:
                steps.end(number, failed=True)
            raise
        self.committed_count = number
        if steps:
            steps.end(number)

    def _describe_leftovers(self) -> None:
        """Describe the cleanup for the next statement, which failed; delete the steps, and a new ledger, if none has had an effect."""
        plan, number = self._plan, self.committed_count + 1
        statements = plan.steps.statements
        if (
            self.leftovers
            or not plan.records_steps
            or number > len(statements)
            or journal.TABLE not in self._db.tables()
        ):
            return
        if cleanup := self._scripts.cleanup_statements(statements[number - 1][1]):
            self.leftovers = f" Remains of the failed statement are removed first: {' '.join(cleanup)}"
        elif not self.committed_count:
            with self._db.transaction():
                journal.delete_steps(self._db, plan.file.name)
                if (
                    self._created_ledger
                    and self._db.staging
                    and not self._db.count(table := self._ledger.table.name)
                ):
                    self._db.staging.drop_table(table)  # no rollback has removed it

    def _is_recorded(self) -> bool:
        """Return whether the ledger already has the final state, because another process ran the migration."""
        # created in the transaction of the first migration, whose rollback leaves no empty ledger
        is_missing = self._session.target.ledger.table not in self._db.tables()
        self._ledger = ledger = self._session.ledger or create_missing_ledger(self._session.target, self._db)
        self._created_ledger = is_missing
        is_applied = self._db.count(ledger.table.name, ledger.applied_conditions(self._plan.file)) > 0
        return is_applied == (self._plan.direction == "up")

    def _count_rows(self) -> Mapping[str, int]:
        """Return the number of rows by table; empty if the plan does not count them."""
        if not self._plan.counts_rows:
            return {}
        row_counts = count_rows(self._db, {journal.TABLE, *self._session.target.ledger_tables})
        # Without a savepoint, which some servers lack after a change of the schema: dbctl has read this table before.
        if (ledger := self._ledger.table.name) in self._db.tables():
            row_counts[ledger] = self._db.count(ledger)
        return row_counts

    def _find_losses(self, before: Mapping[str, int]) -> Sequence[RowLoss]:
        """Return the tables that have fewer rows than before; none if they were not counted."""
        return find_losses(before, self._count_rows()) if before else ()

    def _record(self, start: float, losses: Sequence[RowLoss]) -> CompletedMigration:
        """Insert or remove the row of the ledger, as the last step of the transaction.

        Raises:
            QueryFailedError: the migration has dropped the ledger.
        """
        self.place = RECORDING
        duration = time.monotonic() - start
        file, ledger = self._plan.file, self._ledger
        table = ledger.table.name
        if self._session.has_journal:
            journal.delete_steps(self._db, file.name)
        try:
            if self._plan.direction == "up":
                self._scripts.insert(table, ledger.create_row(file, duration))
            else:
                ledger.remove_rows(self._db, ledger.applied_conditions(file))
        except SchemaMismatchError as error:
            if table in self._db.tables():
                raise
            reason = f"it drops the ledger ({table})"
            raise QueryFailedError(target=self._db.target, reason=reason) from error
        self.place = COMMITTING
        milliseconds = timedelta(milliseconds=round(duration * 1000))
        return CompletedMigration(self._plan, milliseconds, {loss.table: loss.rows for loss in losses})

    def _create_row_loss_error(self, losses: Sequence[RowLoss], undone: str) -> RowsLostError:
        described = describe_losses(losses)
        return RowsLostError(
            target=self._db.target,
            name=self._plan.file.name,
            losses=described,
            place="",
            reason=f"it deletes rows: {described}",
            undone=undone,
            applied="none",  # the run replaces both
            pending="none",
        )


def require_script_runner(db: Writable) -> ScriptRunner:
    """Return the part of a database that runs scripts.

    Raises:
        NotSupportedError: the engine cannot run migrations.
    """
    return require_supported(db, db.scripts, "running migrations", "Nothing was changed.")


def create_missing_ledger(target: MigrationTarget, db: Writable) -> Ledger:
    """Return the ledger; create it if it is missing, inside the ``schema_transaction`` or ``outside_transaction`` of the caller.

    Raises:
        SchemaMismatchError: the ledger has a required column that the profile does not fill.
    """
    if target.ledger.table not in db.tables():
        scripts, script = require_script_runner(db), target.ledger.create
        text = script if isinstance(script, str) else script[target.engine]
        for _, sql in scripts.script_dialect.split(text):
            scripts.run_statement(sql)
    ledger = Ledger(target, db)
    ledger.refuse_unknown_columns()
    return ledger


def open_session(target: MigrationTarget, db: Writable) -> MigrationSession:
    """Return the session of a database.

    Raises:
        NotSupportedError: the engine cannot run migrations.
        SchemaMismatchError: as ``create_missing_ledger``.
    """
    has_ledger = target.ledger.table in db.tables()
    return MigrationSession(target, db, create_missing_ledger(target, db) if has_ledger else None)
