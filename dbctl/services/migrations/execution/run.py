"""Run planned migrations in order, and report a failure together with the migrations before and after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from dbctl.engines.contract.database import Writable
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import IN_DOUBT, CommitUnconfirmedError, UnreachableError
from dbctl.errors.migrations import (
    MigrationFailedError,
    MigrationInDoubtError,
    MigrationPartialError,
    ReplayFailedError,
    ReplayRefusedError,
    RowsLostError,
)
from dbctl.services.migrations.execution.executor import (
    COMMITTING,
    STATEMENT_ERRORS,
    CompletedMigration,
    MigrationExecutor,
    MigrationSession,
    open_session,
)
from dbctl.services.migrations.execution.plan import (
    EXTERNAL_EFFECT,
    ExecutionPlan,
    find_side_effect,
    join_names,
)
from dbctl.services.migrations.files.loader import MigrationFile, order_key_of
from dbctl.services.migrations.ledger import journal
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.signals import Interrupted

_PROGRESS = Remedy(
    "The first {position} remain applied; the migration is not recorded. Show its progress with: `migrate status`"
)
CORRECT_FILE = "Correct the statements in its file that have not run, then"
CREATE_AGAIN = "Its temporary objects ended with the session: if a later statement uses {names}, create them again in its file before that. "
END_CAUSE = "Its file is not the cause; when that has ended,"  # such as a lock
_RESUME = {"up": Remedy("`migrate up`"), "down": Remedy("`migrate down`")}


def run_plans(
    session: MigrationSession, plans: Sequence[ExecutionPlan], *, done_names: Sequence[str] = ()
) -> list[CompletedMigration]:
    """Run migrations in order; one that another process has run since the plan is omitted.

    Messages name ``done_names``, the migrations that this run has completed in other databases.

    Raises:
        RowsLostError: a migration deletes rows, and its file does not allow that.
        MigrationFailedError: a migration failed and was rolled back; the migrations before it stay.
        MigrationPartialError: a migration failed and could not be rolled back; its first statements stay.
        MigrationInDoubtError: the commit was not confirmed; it is unknown whether the migration was applied.
    """
    completed, names, is_lost = list[CompletedMigration](), list(done_names), False
    try:
        for index, plan in enumerate(plans):
            if migration := _run_plan(session, plan, names, plans[index + 1 :]):
                completed.append(migration)
                names.append(plan.file.name)
    except DbctlError as error:
        is_lost = any(isinstance(failure, UnreachableError) for failure in (error, error.__cause__))
        raise
    finally:
        if not is_lost:
            # It is locked, or a failed rollback has closed the session: the next run drops it, and this result stays true.
            with suppress(DbctlError, RuntimeError):
                journal.drop_if_empty(session.db)
    return completed


def replay(
    target: MigrationTarget,
    files: Sequence[MigrationFile],
    db: Writable,
    checksums: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run migrations in an empty database, and yield the name of each after it has run.

    Args:
        target: the database and its migrations.
        files: the migrations to run.
        db: the empty database.
        checksums: by name, the checksum of a migration in the ledger. If the profile has SQL for an earlier text with
            that checksum, its result is reproduced, even if the app has removed the file since.

    Raises:
        MigrationInvalidError: a file cannot be run.
        ReplayRefusedError: a migration would change more than the empty database; nothing was run.
        ReplayFailedError: a migration failed in the empty database.
    """
    session = open_session(target, db)
    scripts = session.scripts
    texts = {name: target.section.earlier.get(checksum, "") for name, checksum in (checksums or {}).items()}
    by_name = {file.name: file for file in files}
    steps = {name: file.parse_up(scripts.script_dialect) for name, file in by_name.items()}
    if effect := find_side_effect(target.engine, steps.values(), [EXTERNAL_EFFECT]):
        number, finding = effect
        raise ReplayRefusedError(
            target=target.name, name=list(steps)[number], reason=finding.message, line=finding.line
        )
    removed = [name for name, sql in texts.items() if sql and name in target.section.retired]
    for name in sorted({*by_name, *removed}, key=order_key_of):
        if file := by_name.get(name):
            plan = ExecutionPlan(file=file, steps=steps[name], row_loss="ignore", records_steps=False)
            try:
                _run_plan(session, plan)
            except MigrationFailedError as error:
                context = {name: error.context[name] for name in ("target", "name", "place", "reason")}
                raise ReplayFailedError(**context) from error
        if sql := texts.get(name):
            with scripts.schema_transaction():
                for _, statement in scripts.script_dialect.split(sql):
                    scripts.run_statement(statement)
        yield name


def _run_plan(
    session: MigrationSession,
    plan: ExecutionPlan,
    done: Sequence[str] = (),
    pending: Sequence[ExecutionPlan] = (),
) -> CompletedMigration | None:
    """Run one migration; ``done`` and ``pending`` are those before and after it, for messages."""
    executor = MigrationExecutor(session, plan)
    try:
        return executor.run()
    except CommitUnconfirmedError:  # the migration is applied
        raise
    except DbctlError as error:
        pending_names = [later.file.name for later in pending]
        others = {"applied": join_names(done) or "none", "pending": join_names(pending_names) or "none"}
        if isinstance(error, RowsLostError):
            raise RowsLostError(**error.context | others) from error.__cause__
        is_in_doubt = isinstance(error, IN_DOUBT) and executor.place == COMMITTING
        # Other failures are not errors of the migration, unless it or an earlier one has changed the database.
        has_effect = executor.committed_count or executor.leftovers
        if not (isinstance(error, STATEMENT_ERRORS) or is_in_doubt or done or has_effect):
            raise
        reason, known = error.context.get("reason", error), session.target.section.failing
        context = {
            "target": session.db.target,
            "name": plan.file.name,
            "place": executor.place,
            "reason": reason
            if isinstance(error, STATEMENT_ERRORS)
            else str(error).removeprefix(f"{session.db.target}: "),
            "known": "".join(f" {hint}" for text, hint in known.items() if text in str(reason)),
            **others,
        }
        if is_in_doubt:
            raise MigrationInDoubtError(**context) from error
        correction = CORRECT_FILE if isinstance(error, STATEMENT_ERRORS) else END_CAUSE
        raise _create_failure(executor, plan, context, correction) from error
    except Interrupted as interruption:
        if executor.committed_count:
            position = (
                f"{executor.committed_count} of {len(plan.steps.statements)} statements of {plan.file.name}"
            )
            interruption.hint = _PROGRESS.write(facts={"position": position})
        raise


def _create_failure(
    executor: MigrationExecutor, plan: ExecutionPlan, context: Mapping[str, object], correction: str
) -> MigrationFailedError:
    """Return the error of a migration that was rolled back, or of which some statements remain."""
    count, total = executor.committed_count, len(plan.steps.statements)
    if not (count or executor.leftovers):
        return MigrationFailedError(**context)
    effects = plan.steps.effects[:count]
    names = dict.fromkeys(name for effect in effects for name in effect.temporary_names)
    again = CREATE_AGAIN.format(names=join_names(list(names))) if names else ""
    done = f"statement{'s 1–' if count > 1 else ' '}{count} of {total} ran"
    return MigrationPartialError(
        done=done if count else f"none of its {total} statements completed",
        resume=_RESUME[plan.direction],
        leftovers=executor.leftovers,
        correction=f"{again}{correction}",
        **context,
    )
