"""``dbctl migrate``: schema migrations, and the ledger of the applied ones."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._support.app import AllApps, open_app, read_selections
from dbctl.cli._support.emit import emit, note, run_change, warn
from dbctl.cli._support.options import DryRun, RepositoryAddress, Variant, read_options
from dbctl.errors import Exit, UsageError
from dbctl.model import Page
from dbctl.render import Format, escape, is_terminal, streams
from dbctl.services.app import App
from dbctl.services.app import app as app_service
from dbctl.services.migrations import (
    NOTHING_PENDING,
    MigrateUp,
    PendingMigration,
    SafetyBackup,
    StatementOutcome,
)
from dbctl.services.migrations import status as migration_status

app = typer.Typer(name="migrate", help="Schema migrations.", no_args_is_help=True, rich_markup_mode=None)

MigrationsFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--migrations", metavar="DIR", help="Use this folder of migrations instead of the configured one."
    ),
]
To: TypeAlias = Annotated[
    str, typer.Option("--to", metavar="NAME", help="Stop after this migration (name or number).")
]
Steps: TypeAlias = Annotated[
    int | None, typer.Option("--steps", min=1, metavar="N", help="Limit to N migrations per database.")
]
NoBackup: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-backup",
        help="Create no safety backup before data is deleted; deleted data cannot be restored.",
    ),
]


@app.command()
def status(
    ctx: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 3 if migrations are pending, 4 if a check fails.")
    ] = False,
    all_apps: AllApps = False,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
) -> int:
    """Show applied and pending migrations; nothing is created, and no write access is required.

    Example: dbctl migrate status --check
    """
    with _open_apps(ctx, all_apps=all_apps) as app:
        report = migration_status.collect_status(app, read_options(ctx).db, migrations, variant=variant)
    for target in report.unrecorded:
        warn(ctx, f"{target} has tables but no ledger of applied migrations")
    for error in report.failed:
        warn(ctx, str(error))
    exit_status = report.check if check else report.status
    return emit(ctx, report.page, status=exit_status, target=", ".join(app.name for app in app))


@app.command()
def plan(ctx: typer.Context, to: To = "", migrations: MigrationsFolder = None, variant: Variant = "") -> int:
    """Print the SQL that dbctl migrate up would run.

    Example: dbctl migrate plan --to 004
    """
    with open_app(ctx) as app:
        upgrade = MigrateUp(app, read_options(ctx).db, migrations, to=to, variant=variant)
        pending = upgrade.list_pending()
    if read_options(ctx).output is Format.TABLE:
        streams.write("".join(map(_render_script, pending)), utf8=True)
        if not pending:
            note(ctx, NOTHING_PENDING)
        return Exit.OK
    page = Page(items=pending, total=len(pending), column_names=PendingMigration.__struct_fields__)
    return emit(ctx, page, target=upgrade.target)


@app.command()
def up(
    ctx: typer.Context,
    to: To = "",
    steps: Steps = None,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    allow_data_loss: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-data-loss",
            metavar="NAME",
            help="Allow this migration to delete rows that its file does not declare; repeatable.",
        ),
    ] = None,
    repository: RepositoryAddress = "",
    no_backup: NoBackup = False,
    dry_run: DryRun = False,
) -> int:
    """Run the pending migrations, each in one transaction with its row in the ledger.

    A migration that deletes rows without the line -- dbctl: allow-data-loss is rolled back. A safety backup is
    created before a migration that drops or deletes something.

    Example: dbctl migrate up --dry-run
    """
    with open_app(ctx) as app:
        safety_backup = SafetyBackup(app, repository=repository, enabled=not no_backup)
        upgrade = MigrateUp(
            app,
            read_options(ctx).db,
            migrations,
            to=to,
            steps=steps or 0,
            variant=variant,
            allow_data_loss=allow_data_loss or (),
            safety_backup=safety_backup,
        )
        return run_change(ctx, upgrade, dry_run=dry_run)


@app.command()
def down(
    ctx: typer.Context,
    to: Annotated[
        str,
        typer.Option("--to", metavar="NAME", help="Revert all migrations after this one (name or number)."),
    ] = "",
    steps: Steps = None,
    all_migrations: Annotated[
        bool,
        typer.Option("--all", help="Revert all migrations of every database; refused for a protected app."),
    ] = False,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    repository: RepositoryAddress = "",
    no_backup: NoBackup = False,
    dry_run: DryRun = False,
) -> int:
    """Revert the last migration with its down script, or several, newest first.

    Each is reverted in one transaction with its row in the ledger. A safety backup is created first; the plan
    lists the rows that are lost.

    Example: dbctl migrate down --steps 1 --dry-run
    """
    from dbctl.services.migrations import DownSelection, MigrateDown

    with open_app(ctx) as app:
        safety_backup = SafetyBackup(app, repository=repository, enabled=not no_backup)
        down_selection = DownSelection(steps=steps or 0, to=to, all_migrations=all_migrations)
        downgrade = MigrateDown(
            app,
            down_selection,
            read_options(ctx).db,
            migrations,
            variant=variant,
            safety_backup=safety_backup,
        )
        return run_change(ctx, downgrade, dry_run=dry_run)


@app.command()
def reset(
    ctx: typer.Context,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    repository: RepositoryAddress = "",
    no_backup: NoBackup = False,
    dry_run: DryRun = False,
) -> int:
    """Drop everything in a development database and run all migrations; refused for a protected app.

    A safety backup is created first; the plan lists the tables and rows that are dropped.

    Example: dbctl migrate reset --dry-run
    """
    from dbctl.services.migrations import ResetDatabase

    with open_app(ctx) as app:
        safety_backup = SafetyBackup(app, repository=repository, enabled=not no_backup)
        operation = ResetDatabase(
            app, read_options(ctx).db, migrations, variant=variant, safety_backup=safety_backup
        )
        return run_change(ctx, operation, dry_run=dry_run)


@app.command()
def baseline(
    ctx: typer.Context, migrations: MigrationsFolder = None, variant: Variant = "", dry_run: DryRun = False
) -> int:
    """Create the ledger of a database that has none: record the migrations that its schema already contains,
    without running them.

    Each migration is applied to a temporary database, and the result is compared with the schema.

    Example: dbctl migrate baseline --dry-run
    """
    from dbctl.services.migrations import Baseline

    with open_app(ctx) as app:
        operation = Baseline(app, read_options(ctx).db, migrations, variant=variant)
        return run_change(ctx, operation, dry_run=dry_run)


@app.command()
def mark(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names or numbers of migrations.")],
    applied: Annotated[bool, typer.Option("--applied", help="Record them as applied.")] = False,
    pending: Annotated[bool, typer.Option("--pending", help="Record them as pending.")] = False,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    dry_run: DryRun = False,
) -> int:
    """Record migrations as applied or pending without running them, after a manual change.

    Example: dbctl migrate mark 004 --applied
    """
    from dbctl.services.migrations import repair as migration_repair

    if applied == pending:
        raise UsageError(detail="pass either --applied or --pending")
    with open_app(ctx) as app:
        state: migration_repair.MarkedState = "applied" if applied else "pending"
        operation = migration_repair.mark(
            app, names, state, read_options(ctx).db, migrations, variant=variant
        )
        return run_change(ctx, operation, dry_run=dry_run)


@app.command()
def repair(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names or numbers of migrations; default: all."),
    ] = None,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Accept the current files as the applied ones.")
    ] = False,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed", help="Remove failed migrations from the ledger, after you reverted their changes."
        ),
    ] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Remove migrations without a file from the ledger.")
    ] = False,
    statement: Annotated[
        StatementOutcome | None,
        typer.Option("--statement", help="Record whether the statement ran at which a run was killed."),
    ] = None,
    migrations: MigrationsFolder = None,
    variant: Variant = "",
    dry_run: DryRun = False,
) -> int:
    """Correct the ledger to match the files; no migration runs.

    Example: dbctl migrate repair --checksums --dry-run
    """
    from dbctl.services.migrations import repair as migration_repair

    requested = {"checksums": checksums, "failed": failed, "missing": missing}
    with open_app(ctx) as app:
        repairs = [word for word, is_requested in requested.items() if is_requested]
        operation = migration_repair.repair(
            app,
            repairs,
            read_options(ctx).db,
            migrations,
            names=names or (),
            outcome=statement,
            variant=variant,
        )
        return run_change(ctx, operation, dry_run=dry_run)


@app.command()
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Short description, such as add-notes.")],
    migrations: MigrationsFolder = None,
    dry_run: DryRun = False,
) -> int:
    """Create the file of a new migration with the next number and a header, and print its path.

    Example: dbctl migrate new add-notes
    """
    from dbctl.services.migrations.files import CreateMigration

    with open_app(ctx) as app:
        operation = CreateMigration(
            app, migration_status.find_targets(app, read_options(ctx).db, migrations), name
        )
        return run_change(ctx, operation, dry_run=dry_run)


@app.command()
def verify(ctx: typer.Context, migrations: MigrationsFolder = None, variant: Variant = "") -> int:
    """Compare the files with the ledger, and check the files; exit 4 on an error.

    Example: dbctl migrate verify
    """
    from dbctl.services.migrations import verify as migration_verify

    with open_app(ctx) as app:
        findings = migration_verify.verify(app, read_options(ctx).db, migrations, variant=variant)
        return emit(
            ctx, findings, status=Exit.CHECK_FAILED if findings.has_errors else Exit.OK, target=app.name
        )


@app.command()
def drift(ctx: typer.Context, migrations: MigrationsFolder = None, variant: Variant = "") -> int:
    """Compare the live schema with the schema that the applied migrations produce; exit 4 on an error.

    The migrations run in memory, so nothing is written. Differences that only affect speed, and additional
    objects, are at most warnings.

    Example: dbctl migrate drift
    """
    from dbctl.services.migrations import drift as migration_drift

    with open_app(ctx) as app:
        findings = migration_drift.drift(app, read_options(ctx).db, migrations, variant=variant)
        return emit(
            ctx, findings, status=Exit.CHECK_FAILED if findings.has_errors else Exit.OK, target=app.name
        )


@app.command()
def lint(
    ctx: typer.Context,
    migrations: MigrationsFolder = None,
    all_files: Annotated[
        bool, typer.Option("--all", help="Check every file, not only pending ones; no database is opened.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Also exit 4 on a warning.")] = False,
) -> int:
    """Check pending migrations for statements that are risky on a database with rows and users; exit 4 on an
    error.

    With --migrations, every file of the folder is checked without a database; the URL selects the rules of the
    engine. A line "-- dbctl: allow CODE" above a statement, or at the top of a file, suppresses a finding.

    Example: dbctl migrate lint --strict
    """
    from dbctl.services.migrations import lint as migration_lint

    with open_app(ctx) as app:
        findings = migration_lint.lint(app, read_options(ctx).db, migrations, all_files=all_files)
        return emit(
            ctx, findings, status=migration_lint.exit_status(findings, strict=strict), target=app.name
        )


@app.command()
def rehearse(
    ctx: typer.Context, to: To = "", migrations: MigrationsFolder = None, variant: Variant = ""
) -> int:
    """Run the pending migrations on a copy, and report their duration and the changes of rows and schema.

    The database itself remains unchanged, and the copy is deleted. Exit 1 if a migration fails, 4 on an error.

    Example: dbctl migrate rehearse
    """
    from dbctl.services.migrations import rehearse as migration_rehearsal

    with open_app(ctx) as app:
        rehearsal = migration_rehearsal.rehearse(
            app, read_options(ctx).db, migrations, to=to, variant=variant
        )
        if not rehearsal.migrations:
            note(ctx, NOTHING_PENDING)
        return emit(ctx, rehearsal, status=rehearsal.status, target=app.name)


@contextmanager
def _open_apps(ctx: typer.Context, *, all_apps: bool) -> Iterator[Sequence[App]]:
    """Yield the app of the options, or every configured app; their databases are closed at the end."""
    with ExitStack() as stack:
        app_selections = read_selections(ctx, all_apps=all_apps)
        yield [
            stack.enter_context(app_service.open_app(selection, timeout=read_options(ctx).timeout))
            for selection in app_selections
        ]


def _render_script(migration: PendingMigration) -> str:
    """Return the text of a migration file after a comment with its name."""
    heading = f"-- {migration.app}/{migration.database}: {migration.name} ({migration.path})"
    text = f"{heading}\n{migration.sql.rstrip()}\n\n"
    if not is_terminal():
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(escape, line.split("\t"))) for line in lines)
