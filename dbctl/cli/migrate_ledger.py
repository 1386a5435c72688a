"""Commands of ``dbctl migrate`` that change the ledger without running migrations."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbctl.cli._support.emit import run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.hooks import begin_action
from dbctl.cli._support.options import argument, flag
from dbctl.cli._support.parameters import DryRun, MigrationsFolder, Variant
from dbctl.cli._support.session import Session
from dbctl.errors.usage import UsageError
from dbctl.model import DryRunResult
from dbctl.services.migrations.ledger.journal import StatementOutcome
from dbctl.spec import EVERYWHERE, Example, Fleet, Write

if TYPE_CHECKING:
    from dbctl.services.app.app import App
    from dbctl.services.migrations.baseline import BaselineResult
    from dbctl.services.migrations.ledger.ledger import MigrationTarget
    from dbctl.services.migrations.repair import RepairResult


GROUP = Group("migrate")
#: What a command that changes the ledger needs of the machine on which it was started.
MIGRATIONS = "the folder of migrations"


@contextmanager
def open_targets(
    session: Session, migrations: Path | None, variant: str = "", *, may_connect: bool = True
) -> "Iterator[tuple[App, Sequence[MigrationTarget]]]":
    """Yield the app of the options, and its selected databases with their migrations."""
    from dbctl.services.migrations.status import find_targets

    with session.open_app() as app, begin_action(session, app) if session.spec.action else nullcontext():
        database = session.options.db
        yield app, find_targets(app, database, migrations, variant=variant, may_connect=may_connect)


@Example("migrate baseline --dry-run", on="flashpoint-web")
@Example("migrate baseline", on=EVERYWHERE)
@GROUP.command(
    "baseline",
    answers=lambda: (BaselineResult, DryRunResult),
    writes=Write(source="schema", facts=("ledger",), needs=MIGRATIONS),
    fleet=Fleet(resumes=True),
)
def baseline(
    session: Session, migrations: MigrationsFolder = None, variant: Variant = "", dry_run: DryRun = False
) -> int:
    """Create the ledger of a database that has none: record the migrations that its schema already contains,
    without running them.

    Each migration is applied to a temporary database, and the result is compared with the schema.
    """
    from dbctl.services.migrations.baseline import Baseline

    with open_targets(session, migrations, variant) as (app, targets):
        return run_change(session, Baseline(app, targets), dry_run=dry_run)


@Example("migrate mark {migration} --applied --db {db}", on=EVERYWHERE)
@Example("migrate mark {migration} --pending --dry-run", on="flashpoint-web")
@GROUP.command(
    "mark",
    answers=lambda: (RepairResult, DryRunResult),
    writes=Write(source="schema", facts=("ledger", "audit"), needs=MIGRATIONS),
)
def mark(
    session: Session,
    names: Annotated[list[str], argument("NAME...", "Names or numbers of migrations.")],
    applied: Annotated[bool, flag("--applied", "Record them as applied.")] = False,
    pending: Annotated[bool, flag("--pending", "Record them as pending.")] = False,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    dry_run: DryRun = False,
) -> int:
    """Record migrations as applied or pending without running them, after a manual change."""
    if applied == pending:
        raise UsageError(detail="pass either --applied or --pending")
    from dbctl.services.migrations import repair as migration_repair

    with open_targets(session, migrations, variant) as (app, targets):
        operation = migration_repair.mark(app, targets, names, "applied" if applied else "pending")
        return run_change(session, operation, dry_run=dry_run)


@Example("migrate repair --checksums --failed --db {db}", on=EVERYWHERE)
@Example("migrate repair {migration} --statement undone --dry-run", on="flashpoint-web")
@GROUP.command(
    "repair",
    answers=lambda: (RepairResult, DryRunResult),
    writes=Write(source="schema", facts=("ledger", "audit"), needs=MIGRATIONS),
)
def repair(
    session: Session,
    names: Annotated[
        list[str] | None, argument("[NAME]...", "Names or numbers of migrations; default: all.")
    ] = None,
    checksums: Annotated[bool, flag("--checksums", "Accept the current files as the applied ones.")] = False,
    failed: Annotated[
        bool, flag("--failed", "Remove failed migrations from the ledger, after you reverted their changes.")
    ] = False,
    missing: Annotated[bool, flag("--missing", "Remove migrations without a file from the ledger.")] = False,
    statement: Annotated[
        StatementOutcome | None,
        typer.Option("--statement", help="Record whether the statement ran at which a run was killed."),
    ] = None,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    dry_run: DryRun = False,
) -> int:
    """Correct the ledger to match the files; no migration runs."""
    from dbctl.services.migrations import repair as migration_repair

    requested = {"checksums": checksums, "failed": failed, "missing": missing}
    repairs = [word for word, is_requested in requested.items() if is_requested]
    with open_targets(session, migrations, variant) as (app, targets):
        operation = migration_repair.repair(app, targets, repairs, names=names or (), outcome=statement)
        return run_change(session, operation, dry_run=dry_run)
