"""Execution of one migration, up or down: in one transaction with its ledger row, or statement by statement."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from dbctl.engines.contract import ScriptRunner, Writable, require_part
from dbctl.errors import (
    IN_DOUBT,
    BusyError,
    ConstraintError,
    DbctlError,
    MigrationFailedError,
    MigrationInDoubtError,
    MigrationPartialError,
    MigrationStatementUnknownError,
    MigrationStepsChangedError,
    QueryFailedError,
    RowsLostError,
    SchemaMismatchError,
    ValueInvalidError,
)
from dbctl.model import Struct
from dbctl.services.migrations import row_loss
from dbctl.services.migrations.files import MigrationFile, Steps
from dbctl.services.migrations.ledger import (
    Direction,
    Journal,
    Ledger,
    MigrationTarget,
    PartialMigration,
    journal,
)
from dbctl.services.migrations.row_loss import RowLoss
from dbctl.signals import Interrupted

#: Errors that a statement of the migration causes.
STATEMENT_ERRORS = (QueryFailedError, ConstraintError, ValueInvalidError, SchemaMismatchError)
#: The position at which a failure does not show whether the migration was committed.
COMMITTING = " during the commit"
#: Names that a message lists before it counts the others.
MAX_LISTED_NAMES = 5
#: Seconds between two attempts to get a lock, in which waiting sessions get it first.
LOCK_RETRY_PAUSE = 0.2
#: Characters of a statement that a message shows.
MAX_SQL_LENGTH = 80


class ExecutionResult(Struct, frozen=True, kw_only=True):
    """Result of running one migration."""

    duration: timedelta
    rows_lost: Mapping[str, int]  #: number of deleted rows by table, if they were counted


def require_script_runner(db: Writable) -> ScriptRunner:
    """Return the part of a database that runs scripts.

    Raises:
        NotSupportedError: the engine cannot run migrations.
    """
    return require_part(db, ScriptRunner, "running migrations", "Nothing was changed.")


def join_names(names: Sequence[str]) -> str:
    """Return the first names, separated by commas, and the number of the others."""
    suffix = f" and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else ""
    return ", ".join(names[:MAX_LISTED_NAMES]) + suffix


def refuse_unknown_progress(
    target: MigrationTarget, file: MigrationFile, steps: Steps, partial: PartialMigration
) -> None:
    """Refuse to continue a partial migration whose progress is unknown.

    Raises:
        MigrationStatementUnknownError: it is unknown whether its last statement has run.
        MigrationStepsChangedError: the file has changed since its first statements ran.
    """
    for step in partial.steps:
        current_sql = steps.statements[step.number - 1][1] if step.number <= len(steps.statements) else ""
        if step.ended and journal.hash_statement(current_sql) != step.sha256:
            raise MigrationStepsChangedError(target=target.name, name=file.name, number=step.number)
    if unknown_step := partial.unknown_step:
        number = unknown_step.number
        sql = steps.statements[number - 1][1] if number <= len(steps.statements) else ""
        text = (
            " ".join(sql.split())[:MAX_SQL_LENGTH]
            if journal.hash_statement(sql) == unknown_step.sha256
            else "the statement is no longer in the file"
        )
        raise MigrationStatementUnknownError(target=target.name, name=file.name, number=number, sql=text)


class MigrationExecutor:
    """Run of one migration in one direction."""

    def __init__(
        self,
        target: MigrationTarget,
        db: Writable,
        ledger: Ledger,
        file: MigrationFile,
        steps: Steps,
        *,
        direction: Direction = "up",
        guards_rows: bool = True,
        may_lose_rows: bool = False,
        uses_journal: bool = True,
        partial: PartialMigration | None = None,
        applied_names: Sequence[str] = (),
        pending_names: Sequence[str] = (),
    ) -> None:
        """Set the options.

        Args:
            target: the database and its migrations.
            db: the open database.
            ledger: the ledger that records the migration.
            file: the migration.
            steps: the statements to run.
            direction: the direction of the statements.
            guards_rows: whether the migration may delete rows only if its file allows it; down scripts always may.
            may_lose_rows: whether it may delete rows even if its file does not allow it.
            uses_journal: whether the journal records each statement that runs outside of a transaction.
            partial: the statements that an earlier run has completed.
            applied_names: names of the migrations that this run has applied, for messages.
            pending_names: names of the migrations that this run has not applied yet.
        """
        self._target, self._db, self._ledger, self._file = target, db, ledger, file
        self._scripts = require_script_runner(db)
        self._statements, self._steps, self._direction = steps.statements, steps, direction
        self._guards_rows = guards_rows and direction == "up"
        self._may_lose_rows = steps.section.allows_data_loss or may_lose_rows
        self._effects = steps.effects
        # Rows that a down script deletes are reported, not refused.
        counts = self._guards_rows or direction == "down"
        self._counts_rows = counts and any(effect.may_delete_rows for effect in self._effects)
        self._journal = Journal(db, file.name, direction) if uses_journal else None
        self._partial = partial
        self._applied_names, self._pending_names = applied_names, pending_names
        self._is_stepwise = (
            not self._scripts.transactional_ddl or steps.section.outside_transaction or partial is not None
        )
        self._position = ""  #: for messages: the statement or phase in which an error occurs
        #: number of statements that are committed already
        self._committed_count = partial.ended_count if partial else 0

    def run(self) -> ExecutionResult | None:
        """Run the migration and record it; return None if another process has applied it since the plan.

        Raises:
            MigrationFailedError: it failed and was rolled back.
            MigrationPartialError: it failed, and its first statements stay.
            MigrationInDoubtError: the commit was not confirmed; it is unknown whether the migration was applied.
            RowsLostError: it would delete rows, and its file does not allow that.
        """
        try:
            return self._run_stepwise() if self._is_stepwise else self._run_in_transaction()
        except RowsLostError:
            raise
        except DbctlError as error:
            self._raise_migration_error(error)
            raise
        except Interrupted as interruption:
            if self._committed_count:
                position = (
                    f"{self._committed_count} of {len(self._statements)} statements of {self._file.name}"
                )
                interruption.hint = f"The first {position} remain applied; the migration is not recorded. Show its progress with: dbctl migrate status"
            raise

    # In one transaction -----------------------------------------------------------------------------------------

    def _run_in_transaction(self) -> ExecutionResult | None:
        start = time.monotonic()
        for attempt in range(self._scripts.lock_attempts, 0, -1):
            try:
                with self._scripts.schema_transaction(short_waits=True):
                    return self._run_statements()
            except BusyError as error:
                if attempt == 1:
                    waited = (
                        f"{max(time.monotonic() - start, 0):.1f}"
                        if self._scripts.lock_attempts > 1
                        else error.context["waited"]
                    )
                    raise BusyError(
                        target=self._db.target, holder=error.context["holder"], waited=waited
                    ) from error
            time.sleep(LOCK_RETRY_PAUSE)
        raise AssertionError  # the last attempt has returned or raised

    def _run_statements(self) -> ExecutionResult | None:
        if self._is_recorded():
            return None
        start = time.monotonic()
        before = self._count_rows()
        for number, (line, sql) in enumerate(self._statements, 1):
            self._position = f" in statement {number} (line {line})"
            self._scripts.run_statement(sql)
        losses = self._count_losses(before)
        if losses and self._guards_rows and not self._may_lose_rows:
            raise self._create_row_loss_error(losses, "It was rolled back.")
        return self._record(start, losses)

    def _record(self, start: float, losses: Sequence[RowLoss]) -> ExecutionResult:
        """Insert or remove the ledger row, as the last step of the transaction."""
        self._position = " while it was recorded"
        duration = time.monotonic() - start
        table = self._ledger.table.name
        if table not in self._db.tables():
            raise QueryFailedError(target=self._db.target, reason=f"it drops the ledger ({table})")
        journal.delete_steps(self._db, self._file.name)
        if self._direction == "up":
            self._db.insert(table, self._ledger.create_row(self._file, duration))
        else:
            self._ledger.remove_rows(self._db, self._ledger.applied_conditions(self._file))
        self._position = COMMITTING
        milliseconds = timedelta(milliseconds=round(duration * 1000))
        return ExecutionResult(duration=milliseconds, rows_lost={loss.table: loss.rows for loss in losses})

    # Statement by statement -------------------------------------------------------------------------------------

    def _run_stepwise(self) -> ExecutionResult | None:
        start = time.monotonic()
        with self._scripts.outside_transaction():
            if self._is_recorded():
                return None
            self._refuse_row_loss()
            before = self._count_rows()
            if self._journal:
                self._journal.open(reset=self._partial is None)
            for number, (line, sql) in enumerate(self._statements, 1):
                self._position = f" in statement {number} (line {line})"
                if self._partial is None or number > self._partial.ended_count:
                    self._run_step(number, sql)
                elif self._effects[number - 1].session_only:
                    self._scripts.run_statement(sql)  # its effect ended with the session
            losses = self._count_losses(before)
            with self._db.transaction():
                return self._record(start, losses)

    def _run_step(self, number: int, sql: str) -> None:
        again = self._partial is not None and any(
            step.failed and step.number == number for step in self._partial.steps
        )
        for cleanup in self._scripts.cleanup_statements(sql) if again else ():
            self._scripts.run_statement(cleanup)
        if self._journal:
            self._journal.begin(number, sql, again=again)
        try:
            self._scripts.run_statement(sql)
        except (*STATEMENT_ERRORS, BusyError):  # the server reported the error, so the statement did nothing
            if self._journal:
                self._journal.fail(number)
            raise
        self._committed_count = number
        if self._journal:
            self._journal.end(number)

    def _refuse_row_loss(self) -> None:
        """Refuse statements that would delete rows; the statements are examined, not run."""
        if not self._guards_rows or self._may_lose_rows:
            return
        if losses := row_loss.find_rows_at_risk(self._db, self._effects[self._committed_count :]):
            raise self._create_row_loss_error(
                losses, "None of its statements was run." if not self._committed_count else "Nothing was run."
            )

    # Rows, errors -------------------------------------------------------------------------------------------------------

    def _is_recorded(self) -> bool:
        """Return whether the ledger already has the final state."""
        recorded = bool(self._db.count(self._ledger.table.name, self._ledger.applied_conditions(self._file)))
        return recorded == (self._direction == "up")

    def _count_rows(self) -> Mapping[str, int]:
        return row_loss.count_rows(self._db, self._target.ledger_tables) if self._counts_rows else {}

    def _count_losses(self, before: Mapping[str, int]) -> Sequence[RowLoss]:
        if not before:
            return ()
        losses = row_loss.find_losses(before, self._count_rows())
        if self._is_stepwise:  # each statement was one transaction
            return losses
        return [loss for loss in losses if loss.after is None or self._scripts.may_have_deleted(loss.table)]

    def _create_row_loss_error(self, losses: Sequence[RowLoss], undone: str) -> RowsLostError:
        return RowsLostError(
            target=self._db.target,
            name=self._file.name,
            losses=row_loss.describe_losses(losses),
            place="",
            reason=f"it deletes rows: {row_loss.describe_losses(losses)}",
            undone=undone,
            applied=join_names(self._applied_names) or "none",
            pending=join_names(self._pending_names) or "none",
        )

    def _raise_migration_error(self, error: DbctlError) -> None:
        """Raise the error as an error of the migration, if the migration has caused it."""
        is_statement_error = isinstance(error, STATEMENT_ERRORS)
        is_in_doubt = isinstance(error, IN_DOUBT) and self._position == COMMITTING
        if not (is_statement_error or is_in_doubt or self._applied_names or self._committed_count):
            return
        reason = (
            error.context.get("reason", error)
            if is_statement_error
            else str(error).removeprefix(f"{self._db.target}: ")
        )
        context: dict[str, object] = {
            "target": self._db.target,
            "name": self._file.name,
            "place": self._position,
            "reason": reason,
            "known": self._ledger.remedy(str(error.context.get("reason", error))),
            "applied": join_names(self._applied_names) or "none",
            "pending": join_names(self._pending_names) or "none",
        }
        if is_in_doubt:
            raise MigrationInDoubtError(**context) from error
        leftovers = self._describe_leftovers() if is_statement_error else ""
        if self._committed_count or leftovers:
            statement_count = len(self._statements)
            done = f"statement{'s 1–' if self._committed_count > 1 else ' '}{self._committed_count} of {statement_count} ran"
            progress = (
                done if self._committed_count else f"none of its {statement_count} statements completed"
            )
            raise MigrationPartialError(
                done=progress, direction=self._direction, leftovers=leftovers, **context
            ) from error
        raise MigrationFailedError(**context) from error

    def _describe_leftovers(self) -> str:
        """Return the cleanup for a failed statement, as text; delete the journal if no statement has had an effect."""
        number = self._committed_count + 1
        if not (self._journal and self._is_stepwise) or number > len(self._statements):
            return ""
        if journal.TABLE not in self._db.tables():
            return ""
        cleanup = self._scripts.cleanup_statements(self._statements[number - 1][1])
        if not (self._committed_count or cleanup):
            with self._db.transaction():
                journal.delete_steps(self._db, self._file.name)
        return f" Remains of the failed statement are removed first: {' '.join(cleanup)}" if cleanup else ""
