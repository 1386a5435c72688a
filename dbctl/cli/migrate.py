"""``dbctl migrate``: schema migrations."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbctl.cli._support import parameters
from dbctl.cli._support.emit import emit, note, run_change, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.hooks import begin_action
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import (
    AllApps,
    DryRun,
    MigrationsFolder,
    NoBackup,
    RepositoryAddress,
    Steps,
    To,
    Variant,
    open_apps,
)
from dbctl.cli._support.session import Session
from dbctl.errors.base import Exit
from dbctl.errors.usage import UsageError
from dbctl.model import Findings, Page
from dbctl.render import tables
from dbctl.render.streams import Format
from dbctl.services.migrations import status as migration_status
from dbctl.services.migrations.ledger.journal import StatementOutcome
from dbctl.spec import EVERYWHERE, Example, Fleet, Write

if TYPE_CHECKING:
    from dbctl.services.app.app import App
    from dbctl.services.migrations.baseline import BaselineResult
    from dbctl.services.migrations.database_plan import MigrationsRun
    from dbctl.services.migrations.files.new import CreatedFile
    from dbctl.services.migrations.ledger.ledger import MigrationTarget
    from dbctl.services.migrations.ledger.state import Migration
    from dbctl.services.migrations.operations import PendingMigration
    from dbctl.services.migrations.rehearse import Rehearsal
    from dbctl.services.migrations.repair import RepairResult


GROUP = Group("migrate", section="Schema", position=2, help="Schema migrations.")
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


@Example("migrate status --check", on="samples")
@Example("migrate status --all-apps -o json")
@GROUP.command("status", answers=lambda: (Page[Migration],), fleet=Fleet(replaces={"all_apps": False}))
def status(
    session: Session,
    check: Annotated[bool, flag("--check", "Exit 3 if migrations are pending, 4 if a check fails.")] = False,
    all_apps: AllApps = False,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
) -> int:
    """Show applied and pending migrations; nothing is created, and no write access is required."""
    with open_apps(session, all_apps=all_apps) as (apps, errors):
        report = migration_status.collect_status(
            apps, session.options.db, migrations, variant=variant, unread=errors
        )
    for target in report.unrecorded:
        warn(session, f"{target} has tables but no ledger of applied migrations")
    for error in report.failed:
        warn(session, str(error))
    exit_status = report.check if check else report.status
    return emit(session, report.page, status=exit_status, target=", ".join(app.name for app in apps))


@Example("migrate plan", on=EVERYWHERE)
@Example("migrate plan --migrations db/migrations --to 004")
@GROUP.command("plan", answers=lambda: (Page[PendingMigration],))
def plan(session: Session, to: To = "", migrations: MigrationsFolder = None, variant: Variant = "") -> int:
    """Print the SQL that dbctl migrate up would run."""
    from dbctl.services.migrations.execution.plan import UpSelection
    from dbctl.services.migrations.operations import NOTHING_PENDING, MigrateUp, PendingMigration

    with open_targets(session, migrations, variant) as (app, targets):
        upgrade = MigrateUp(app, targets, UpSelection(to=to))
        pending = upgrade.list_pending()
    if session.options.output is Format.TABLE:
        tables.write_script("".join(migration.script for migration in pending), session.output_options)
        if not pending:
            note(session, NOTHING_PENDING)
        return Exit.OK
    page = Page(items=pending, total=len(pending), column_names=PendingMigration.__struct_fields__)
    return emit(session, page, target=upgrade.target)


@Example("migrate up --dry-run", on="flashpoint-web")
@Example("migrate up --to 004_add-notes --yes")
@GROUP.command(
    "up",
    answers=lambda: (MigrationsRun,),
    writes=Write(source="schema", facts=("ledger",), needs=MIGRATIONS),
    action="migrate",
    fleet=Fleet(resumes=True, canaries=1, max_failures=10),
)
def up(
    session: Session,
    to: To = "",
    steps: Steps = None,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    allow_data_loss: Annotated[
        list[str] | None,
        option(
            "--allow-data-loss",
            "NAME",
            "Allow this migration to delete rows that its file does not declare; repeatable.",
        ),
    ] = None,
    repository_address: RepositoryAddress = "",
    no_backup: NoBackup = False,
    dry_run: DryRun = False,
) -> int:
    """Run the pending migrations, each in one transaction with its row in the ledger.

    A migration that deletes rows without the line -- dbctl: allow-data-loss is rolled back. A safety backup is
    created before a migration that drops or deletes something.
    """
    from dbctl.services.migrations.execution.plan import UpSelection
    from dbctl.services.migrations.operations import MigrateUp, SafetyBackup

    selection = UpSelection(to=to, steps=steps or 0, allow_data_loss=allow_data_loss or ())
    with open_targets(session, migrations, variant) as (app, targets):
        safety_backup = SafetyBackup(app, repository=repository_address, enabled=not no_backup)
        upgrade = MigrateUp(app, targets, selection, safety_backup=safety_backup)
        return run_change(session, upgrade, dry_run=dry_run)


@Example("migrate down --steps 1 --dry-run")
@Example("migrate down --to 003 --yes", on="custom")
@GROUP.command(
    "down",
    answers=lambda: (MigrationsRun,),
    writes=Write(source="schema", facts=("ledger",), needs=MIGRATIONS),
    action="migrate",
)
def down(
    session: Session,
    to: Annotated[str, option("--to", "NAME", "Revert all migrations after this one (name or number).")] = "",
    steps: Steps = None,
    all_migrations: Annotated[
        bool, flag("--all", "Revert all migrations of every database; refused for a protected app.")
    ] = False,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    repository_address: RepositoryAddress = "",
    no_backup: NoBackup = False,
    dry_run: DryRun = False,
) -> int:
    """Revert the last migration with its down script, or several, newest first.

    Each is reverted in one transaction with its row in the ledger. A safety backup is created first; the plan
    lists the rows that are lost.
    """
    from dbctl.services.migrations.execution.plan import DownSelection
    from dbctl.services.migrations.operations import MigrateDown, SafetyBackup

    selection = DownSelection(steps=steps or 0, to=to, all_migrations=all_migrations)
    with open_targets(session, migrations, variant) as (app, targets):
        safety_backup = SafetyBackup(app, repository=repository_address, enabled=not no_backup)
        downgrade = MigrateDown(app, targets, selection, safety_backup=safety_backup)
        return run_change(session, downgrade, dry_run=dry_run)


@Example("migrate reset --dry-run", on="flashpoint-web")
@Example("migrate reset --db main --yes")
@GROUP.command(
    "reset",
    answers=lambda: (MigrationsRun,),
    writes=Write(source="schema", facts=("ledger",), needs=MIGRATIONS),
    action="migrate",
)
def reset(
    session: Session,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    repository_address: RepositoryAddress = "",
    no_backup: NoBackup = False,
    dry_run: DryRun = False,
) -> int:
    """Drop everything in a development database and run all migrations; refused for a protected app.

    A safety backup is created first; the plan lists the tables and rows that are dropped.
    """
    from dbctl.services.migrations.operations import ResetDatabase, SafetyBackup

    with open_targets(session, migrations, variant) as (app, targets):
        safety_backup = SafetyBackup(app, repository=repository_address, enabled=not no_backup)
        operation = ResetDatabase(app, targets, safety_backup=safety_backup)
        return run_change(session, operation, dry_run=dry_run)


@Example("migrate baseline --dry-run", on="flashpoint-web")
@Example("migrate baseline", on=EVERYWHERE)
@GROUP.command(
    "baseline",
    answers=lambda: (BaselineResult,),
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
    answers=lambda: (RepairResult,),
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
    answers=lambda: (RepairResult,),
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


@Example("migrate new email-required --alter users --not-null email --default \"role='viewer'\"")
@Example("migrate new add-notes --db {db}", on="flashpoint-web custom")
@GROUP.command("new", answers=lambda: (CreatedFile,), recorded=True)
def new(
    session: Session,
    name: Annotated[str, argument("NAME", "Short description, such as add-notes.")],
    alter: parameters.AlteredTable = "",
    renamed: parameters.RenamedColumns = None,
    dropped: parameters.DroppedColumns = None,
    types: parameters.ColumnTypes = None,
    not_null: parameters.NotNullColumns = None,
    nullable: parameters.NullableColumns = None,
    defaults: parameters.ColumnDefaults = None,
    added_keys: parameters.AddedForeignKeys = None,
    dropped_keys: parameters.DroppedForeignKeys = None,
    migrations: MigrationsFolder = None,
    dry_run: DryRun = False,
) -> int:
    """Create the file of a new migration with the next number and a header, and print its path.

    ALTER TABLE of SQLite can neither change nor constrain a column. With --alter, the file contains the statements
    that replace the table by a new one with the same rows, indexes, triggers and views; a file that would lose part
    of the schema is refused. Test it with: dbctl migrate rehearse
    """
    from dbctl.services.migrations.files.new import CreateMigration, parse_table_change

    change = parse_table_change(
        alter,
        renamed=renamed or (),
        dropped=dropped or (),
        types=types or (),
        not_null=not_null or (),
        nullable=nullable or (),
        defaults=defaults or (),
        added_keys=added_keys or (),
        dropped_keys=dropped_keys or (),
    )
    with open_targets(session, migrations) as (app, targets):
        operation = CreateMigration(app, targets, name, change if alter else None)
        return run_change(session, operation, dry_run=dry_run)


@Example("migrate verify", on=EVERYWHERE)
@Example("migrate verify --migrations db/migrations -o json")
@GROUP.command("verify", answers=lambda: (Findings,), recorded=True, findings=True, fleet=Fleet(resumes=True))
def verify(session: Session, migrations: MigrationsFolder = None, variant: Variant = "") -> int:
    """Compare the files with the ledger, and check the files; exit 4 on an error."""
    from dbctl.services.migrations import verify as migration_verify

    with open_targets(session, migrations, variant) as (app, targets):
        findings = migration_verify.verify(app, targets)
        return emit(session, findings, status=findings.status, target=app.name)


@Example("migrate drift", on=EVERYWHERE)
@Example("migrate drift --db main -o json")
@GROUP.command("drift", answers=lambda: (Findings,), recorded=True, findings=True, fleet=Fleet(resumes=True))
def drift(session: Session, migrations: MigrationsFolder = None, variant: Variant = "") -> int:
    """Compare the live schema with the schema that the applied migrations produce; exit 4 on an error.

    The migrations run in memory, so nothing is written. Differences that only affect speed, and additional
    objects, are at most warnings.
    """
    from dbctl.services.migrations import drift as migration_drift

    with open_targets(session, migrations, variant) as (app, targets):
        findings = migration_drift.drift(app, targets)
        return emit(session, findings, status=findings.status, target=app.name)


@Example("migrate lint", on=EVERYWHERE)
@Example("migrate lint --migrations db/migrations --strict -o json")
@GROUP.command("lint", answers=lambda: (Findings,), findings=True)
def lint(
    session: Session,
    migrations: MigrationsFolder = None,
    all_files: Annotated[
        bool, flag("--all", "Check every file, not only pending ones; no database is opened.")
    ] = False,
    strict: Annotated[bool, flag("--strict", "Report warnings as errors.")] = False,
) -> int:
    """Check pending migrations for statements that are risky on a database with rows and users; exit 4 on an
    error.

    With --migrations, every file of the folder is checked without a database; the URL selects the rules of the
    engine. A line "-- dbctl: allow CODE" above a statement, or at the top of a file, suppresses a finding.
    """
    from dbctl.services.migrations import lint as migration_lint

    all_files = all_files or migrations is not None
    with open_targets(session, migrations, may_connect=not all_files) as (app, targets):
        findings = migration_lint.lint(app, targets, all_files=all_files)
        if strict:
            findings = findings.raise_warnings()
        return emit(session, findings, status=findings.status, target=app.name)


@Example("migrate rehearse", on=EVERYWHERE)
@Example("migrate rehearse --to 004 --db main")
@GROUP.command("rehearse", answers=lambda: (Rehearsal,), recorded=True, findings=True)
def rehearse(
    session: Session, to: To = "", migrations: MigrationsFolder = None, variant: Variant = ""
) -> int:
    """Run the pending migrations on a copy, and report their duration and the changes of rows and schema.

    The database itself remains unchanged, and the copy is deleted. Exit 1 if a migration fails, 4 on an error.
    """
    from dbctl.services.migrations import rehearse as migration_rehearsal
    from dbctl.services.migrations.execution.plan import UpSelection

    with open_targets(session, migrations, variant) as (app, targets):
        rehearsal = migration_rehearsal.rehearse(app, targets, UpSelection(to=to))
        if not rehearsal.migrations:
            from dbctl.services.migrations.operations import NOTHING_PENDING

            note(session, NOTHING_PENDING)
        findings = Findings(checked=len(rehearsal.migrations), findings=rehearsal.findings)
        return emit(session, rehearsal, status=rehearsal.status, target=app.name, findings=findings)
