"""One open database while migrations run in it: its scripts, its ledger and its rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from dbctl.engines.contract import ScriptRunner, Writable, require_part
from dbctl.errors import QueryFailedError
from dbctl.model import Struct
from dbctl.services.migrations.execution import row_loss
from dbctl.services.migrations.execution.plan import ExecutionPlan
from dbctl.services.migrations.execution.row_loss import RowLoss
from dbctl.services.migrations.ledger import Ledger, MigrationTarget, journal


class ExecutionResult(Struct, frozen=True, kw_only=True):
    """Result of running one migration."""

    duration: timedelta
    rows_lost: Mapping[str, int]  #: number of deleted rows by table, if they were counted


class MigrationSession:
    """One database that is open for migrations; the caller holds the write lock of dbctl."""

    def __init__(self, target: MigrationTarget, db: Writable, ledger: Ledger) -> None:
        self.target, self.db, self.ledger = target, db, ledger
        self.scripts = require_script_runner(db)

    def is_recorded(self, plan: ExecutionPlan) -> bool:
        """Return whether the ledger already has the final state, because another process ran the migration."""
        conditions = self.ledger.applied_conditions(plan.file)
        return bool(self.db.count(self.ledger.table.name, conditions)) == (plan.direction == "up")

    def count_rows(self, plan: ExecutionPlan) -> Mapping[str, int]:
        """Return the number of rows by table; empty if the plan does not count them."""
        return row_loss.count_rows(self.db, self.target.ledger_tables) if plan.counts_rows else {}

    def find_losses(self, before: Mapping[str, int]) -> Sequence[RowLoss]:
        """Return the tables that have fewer rows than before; none if they were not counted."""
        if not before:
            return ()
        return row_loss.find_losses(before, row_loss.count_rows(self.db, self.target.ledger_tables))

    def record(self, plan: ExecutionPlan, start: float, losses: Sequence[RowLoss]) -> ExecutionResult:
        """Insert or remove the row of the ledger, as the last step of the transaction.

        Args:
            plan: the migration.
            start: the time at which it began, from ``time.monotonic``.
            losses: the tables that lost rows.

        Raises:
            QueryFailedError: the migration has dropped the ledger.
        """
        duration = time.monotonic() - start
        table = self.ledger.table.name
        if table not in self.db.tables():
            raise QueryFailedError(target=self.db.target, reason=f"it drops the ledger ({table})")
        journal.delete_steps(self.db, plan.file.name)
        if plan.direction == "up":
            self.db.insert(table, self.ledger.create_row(plan.file, duration))
        else:
            self.ledger.remove_rows(self.db, self.ledger.applied_conditions(plan.file))
        milliseconds = timedelta(milliseconds=round(duration * 1000))
        return ExecutionResult(duration=milliseconds, rows_lost={loss.table: loss.rows for loss in losses})


def require_script_runner(db: Writable) -> ScriptRunner:
    """Return the part of a database that runs scripts.

    Raises:
        NotSupportedError: the engine cannot run migrations.
    """
    return require_part(db, ScriptRunner, "running migrations", "Nothing was changed.")


def create_missing_ledger(target: MigrationTarget, db: Writable) -> Ledger:
    """Return the ledger; create it if it is missing, inside the ``schema_transaction`` of the caller."""
    if target.ledger.table not in db.tables():
        scripts, script = require_script_runner(db), target.ledger.create
        for _, sql in scripts.script_dialect.split(
            script if isinstance(script, str) else script[target.engine]
        ):
            scripts.run_statement(sql)
    ledger = Ledger(target, db)
    ledger.refuse_unknown_columns()
    return ledger


def open_session(target: MigrationTarget, db: Writable) -> MigrationSession:
    """Return the session of a database; create its ledger in one transaction if it is missing.

    Raises:
        NotSupportedError: the engine cannot run migrations.
        SchemaMismatchError: the ledger has a required column that the profile does not fill.
    """
    if target.ledger.table in db.tables():
        return MigrationSession(target, db, create_missing_ledger(target, db))
    with require_script_runner(db).schema_transaction():
        ledger = create_missing_ledger(target, db)
    return MigrationSession(target, db, ledger)
