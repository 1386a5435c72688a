"""Execution of one migration: in one transaction with its row in the ledger, or statement by statement."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dbctl.errors import (
    BusyError,
    ConstraintError,
    QueryFailedError,
    RowsLostError,
    SchemaMismatchError,
    ValueInvalidError,
)
from dbctl.services.migrations.execution import row_loss
from dbctl.services.migrations.execution.plan import ExecutionPlan
from dbctl.services.migrations.execution.row_loss import RowLoss
from dbctl.services.migrations.execution.session import ExecutionResult, MigrationSession
from dbctl.services.migrations.ledger import Journal, journal

#: Errors that a statement of the migration causes.
STATEMENT_ERRORS = (QueryFailedError, ConstraintError, ValueInvalidError, SchemaMismatchError)
#: The places outside the statements at which a migration may fail; after the second, it may have been committed.
RECORDING, COMMITTING = " while it was recorded", " during the commit"
#: Seconds between two attempts to get a lock, in which waiting sessions get it first.
LOCK_RETRY_PAUSE = 0.2


class Progress:
    """How far a migration has come, for messages about its failure."""

    def __init__(self, plan: ExecutionPlan) -> None:
        self.place = ""  #: the statement or phase that runs
        self.committed_count = plan.completed_count  #: number of statements that are committed
        self.leftovers = ""  #: the statements that remove what the failed statement left

    def begin_statement(self, number: int, line: int) -> None:
        """Set the place to a statement."""
        self.place = f" in statement {number} (line {line})"


class AtomicExecutor:
    """Runs a migration in one transaction with its row in the ledger."""

    def __init__(self, session: MigrationSession, progress: Progress) -> None:
        self._session, self._progress = session, progress

    def run(self, plan: ExecutionPlan) -> ExecutionResult | None:
        """Run a migration; return None if another process has run it since the plan.

        Raises:
            RowsLostError: it deletes rows, and its file does not allow that; it was rolled back.
            DbctlError: it failed and was rolled back, unless the failed step is the commit.
        """
        start, scripts = time.monotonic(), self._session.scripts
        for attempt in range(scripts.lock_attempts, 0, -1):
            try:
                with scripts.schema_transaction(short_waits=True):
                    return self._run_in_transaction(plan)
            except BusyError as error:
                if attempt == 1:
                    waited = (
                        f"{max(time.monotonic() - start, 0):.1f}"
                        if scripts.lock_attempts > 1
                        else error.context["waited"]
                    )
                    target = self._session.db.target
                    raise BusyError(target=target, holder=error.context["holder"], waited=waited) from error
            time.sleep(LOCK_RETRY_PAUSE)
        raise AssertionError  # the last attempt has returned or raised

    def _run_in_transaction(self, plan: ExecutionPlan) -> ExecutionResult | None:
        session, progress = self._session, self._progress
        if session.is_recorded(plan):
            return None
        start, before = time.monotonic(), session.count_rows(plan)
        for number, (line, sql) in enumerate(plan.steps.statements, 1):
            progress.begin_statement(number, line)
            session.scripts.run_statement(sql)
        losses = [
            loss
            for loss in session.find_losses(before)
            if loss.after is None or session.scripts.may_have_deleted(loss.table)
        ]
        if losses and plan.row_loss == "refuse":
            raise _create_row_loss_error(session, plan, losses, "It was rolled back.")
        progress.place = RECORDING
        result = session.record(plan, start, losses)
        progress.place = COMMITTING
        return result


class StepwiseExecutor:
    """Runs a migration statement by statement, each committed separately; the journal records each of them."""

    def __init__(self, session: MigrationSession, progress: Progress) -> None:
        self._session, self._progress = session, progress

    def run(self, plan: ExecutionPlan) -> ExecutionResult | None:
        """Run a migration after its completed statements; return None if another process has run it since the plan.

        Raises:
            RowsLostError: it would delete rows, and its file does not allow that; nothing was run.
            DbctlError: it failed, and its first statements remain; the next run continues after them.
        """
        start, session, progress = time.monotonic(), self._session, self._progress
        with session.scripts.outside_transaction():
            if session.is_recorded(plan):
                return None
            self._refuse_row_loss(plan)
            before = session.count_rows(plan)
            journal = Journal(session.db, plan.file.name, plan.direction) if plan.records_steps else None
            if journal:
                journal.open(reset=plan.resumes_from is None)
            for number, (line, sql) in enumerate(plan.steps.statements, 1):
                progress.begin_statement(number, line)
                if number > plan.completed_count:
                    self._run_step(plan, journal, number, sql)
                elif plan.steps.effects[number - 1].session_only:
                    session.scripts.run_statement(sql)  # its effect ended with the session
            losses = session.find_losses(before)
            with session.db.transaction():
                progress.place = RECORDING
                result = session.record(plan, start, losses)
                progress.place = COMMITTING
                return result

    def _refuse_row_loss(self, plan: ExecutionPlan) -> None:
        """Refuse statements that would delete rows; the statements are examined, not run."""
        remaining = plan.steps.effects[plan.completed_count :]
        if plan.row_loss == "refuse" and (losses := row_loss.find_rows_at_risk(self._session.db, remaining)):
            undone = "Nothing was run." if plan.completed_count else "None of its statements was run."
            raise _create_row_loss_error(self._session, plan, losses, undone)

    def _run_step(self, plan: ExecutionPlan, journal: Journal | None, number: int, sql: str) -> None:
        scripts = self._session.scripts
        again = plan.resumes_from is not None and any(
            step.failed and step.number == number for step in plan.resumes_from.steps
        )
        for cleanup in scripts.cleanup_statements(sql) if again else ():
            scripts.run_statement(cleanup)
        if journal:
            journal.begin(number, sql, again=again)
        try:
            scripts.run_statement(sql)
        except (
            *STATEMENT_ERRORS,
            BusyError,
        ) as error:  # the server reported it, so the statement did nothing
            if journal:
                journal.fail(number)
                if isinstance(error, STATEMENT_ERRORS):
                    self._describe_leftovers(plan, sql)
            raise
        self._progress.committed_count = number
        if journal:
            journal.end(number)

    def _describe_leftovers(self, plan: ExecutionPlan, sql: str) -> None:
        """Describe the cleanup for a failed statement; delete the steps if no statement has had an effect."""
        cleanup = self._session.scripts.cleanup_statements(sql)
        if cleanup:
            self._progress.leftovers = (
                f" Remains of the failed statement are removed first: {' '.join(cleanup)}"
            )
        elif not self._progress.committed_count:
            with self._session.db.transaction():
                journal.delete_steps(self._session.db, plan.file.name)


def create_executor(
    session: MigrationSession, plan: ExecutionPlan, progress: Progress
) -> AtomicExecutor | StepwiseExecutor:
    """Return the executor of a plan; an engine that cannot roll back changes of the schema runs it stepwise."""
    is_atomic = plan.is_atomic and session.scripts.transactional_ddl
    return (AtomicExecutor if is_atomic else StepwiseExecutor)(session, progress)


def _create_row_loss_error(
    session: MigrationSession, plan: ExecutionPlan, losses: Sequence[RowLoss], undone: str
) -> RowsLostError:
    described = row_loss.describe_losses(losses)
    return RowsLostError(
        target=session.db.target,
        name=plan.file.name,
        losses=described,
        place="",
        reason=f"it deletes rows: {described}",
        undone=undone,
        applied="none",  # the run replaces both
        pending="none",
    )
