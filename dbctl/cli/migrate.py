"""``dbctl migrate``: the migrations of a schema, against the ledger that the app keeps of them."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._support.app import AllApps, opened, selections
from dbctl.cli._support.backups import RepositoryAt
from dbctl.cli._support.emit import change, emit, note, warn
from dbctl.cli._support.options import DryRun, Shape, call
from dbctl.errors import Exit, UsageError
from dbctl.model import Page
from dbctl.render import Format, escape, is_terminal, streams
from dbctl.services.app import App
from dbctl.services.app import app as apps
from dbctl.services.migrations import (
    NOTHING_PENDING,
    Adoption,
    Downgrade,
    Outcome,
    Pending,
    Reach,
    Safety,
    Upgrade,
)
from dbctl.services.migrations import drift as migration_drift
from dbctl.services.migrations import lint as migration_lint
from dbctl.services.migrations import rehearse as migration_rehearsal
from dbctl.services.migrations import repair as migration_mend
from dbctl.services.migrations import status as migrate
from dbctl.services.migrations import verify as migration_check
from dbctl.services.migrations.files import NewMigration

app = typer.Typer(
    name="migrate", help="Migrations of the schema.", no_args_is_help=True, rich_markup_mode=None
)

Folder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--migrations", metavar="DIR", help="Folder of the migrations, in place of the configured one."
    ),
]
To: TypeAlias = Annotated[
    str, typer.Option("--to", metavar="NAME", help="The last one to run, by name or number.")
]
Steps: TypeAlias = Annotated[
    int | None, typer.Option("--steps", min=1, metavar="N", help="So many of each database.")
]
NoBackup: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-backup",
        help="Make no safety backup before something is destroyed: what is lost then cannot be brought back.",
    ),
]


@app.command()
def status(
    ctx: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 3 where migrations are pending, 4 where something is wrong.")
    ] = False,
    all_apps: AllApps = False,
    migrations: Folder = None,
    shape: Shape = "",
) -> int:
    """Show which migrations are applied and which are pending; creates nothing, and needs no right to write."""
    with _meant(ctx, all_apps=all_apps) as found:
        survey = migrate.survey(found, call(ctx).db, migrations, shape=shape)
    for target in survey.unrecorded:
        warn(ctx, f"{target} holds tables but no ledger, so nothing tells which migrations it has had")
    for error in survey.failed:
        warn(ctx, str(error))
    told = survey.check if check else survey.status
    return emit(ctx, survey.page, status=told, target=", ".join(one.name for one in found))


@app.command()
def plan(ctx: typer.Context, to: To = "", migrations: Folder = None, shape: Shape = "") -> int:
    """Print the SQL that up would run."""
    with opened(ctx) as found:
        upgrade = Upgrade(found, call(ctx).db, migrations, to=to, shape=shape)
        pending = upgrade.pending()
    if call(ctx).output is Format.TABLE:
        streams.write("".join(map(_script, pending)), utf8=True)
        if not pending:
            note(ctx, NOTHING_PENDING)
        return Exit.OK
    answer = Page(items=pending, total=len(pending), names=Pending.__struct_fields__)
    return emit(ctx, answer, target=upgrade.target)


@app.command()
def up(
    ctx: typer.Context,
    to: To = "",
    steps: Steps = None,
    migrations: Folder = None,
    shape: Shape = "",
    loses_rows: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-data-loss",
            metavar="NAME",
            help="A migration that may take rows away although its file does not say so; repeatable.",
        ),
    ] = None,
    repository: RepositoryAt = "",
    no_backup: NoBackup = False,
    dry_run: DryRun = False,
) -> int:
    """Run the pending migrations, each in one transaction with its row in the app's ledger.

    One that takes rows away and does not say so (-- dbctl: allow-data-loss) is rolled back. Before one that drops or
    deletes something, a safety backup is made.
    """
    with opened(ctx) as found:
        safety = Safety(found, repository=repository, wanted=not no_backup)
        upgrade = Upgrade(
            found,
            call(ctx).db,
            migrations,
            to=to,
            steps=steps or 0,
            shape=shape,
            losing=loses_rows or (),
            safety=safety,
        )
        return change(ctx, upgrade, target=upgrade.target)


@app.command()
def down(
    ctx: typer.Context,
    to: Annotated[
        str, typer.Option("--to", metavar="NAME", help="All that came after this one, by name or number.")
    ] = "",
    steps: Steps = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every one of every database; never those of a protected app.")
    ] = False,
    migrations: Folder = None,
    shape: Shape = "",
    repository: RepositoryAt = "",
    no_backup: NoBackup = False,
    dry_run: DryRun = False,
) -> int:
    """Take the last migration back by its own way down, or more, the newest first.

    Each is one transaction with its row in the app's ledger. A safety backup is made first; the plan tells which rows
    are lost.
    """
    with opened(ctx) as found:
        safety = Safety(found, repository=repository, wanted=not no_backup)
        reach = Reach(steps=steps or 0, to=to, everything=everything)
        downgrade = Downgrade(found, reach, call(ctx).db, migrations, shape=shape, safety=safety)
        return change(ctx, downgrade, target=downgrade.target)


@app.command()
def reset(
    ctx: typer.Context,
    migrations: Folder = None,
    shape: Shape = "",
    repository: RepositoryAt = "",
    no_backup: NoBackup = False,
    dry_run: DryRun = False,
) -> int:
    """Empty a development database and run every migration again; never for a protected app.

    A safety backup is made first; the plan lists the tables and rows that are dropped.
    """
    from dbctl.services.migrations import Reset

    with opened(ctx) as found:
        safety = Safety(found, repository=repository, wanted=not no_backup)
        prepared = Reset(found, call(ctx).db, migrations, shape=shape, safety=safety)
        return change(ctx, prepared, target=prepared.target)


@app.command()
def baseline(
    ctx: typer.Context, migrations: Folder = None, shape: Shape = "", dry_run: DryRun = False
) -> int:
    """Give a database that was made without a ledger one that tells which migrations its schema shows; runs none.

    Each is tried in a scratch database, and what it makes compared with what is there.
    """
    with opened(ctx) as found:
        adoption = Adoption(found, call(ctx).db, migrations, shape=shape)
        return change(ctx, adoption, target=adoption.target)


@app.command()
def mark(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Migrations, by name or number.")],
    applied: Annotated[bool, typer.Option("--applied", help="They count as applied.")] = False,
    pending: Annotated[bool, typer.Option("--pending", help="They count as not applied.")] = False,
    migrations: Folder = None,
    shape: Shape = "",
    dry_run: DryRun = False,
) -> int:
    """Let migrations count as applied, or as pending, without running anything: for what was done by hand."""
    if applied == pending:
        raise UsageError(detail="say how they count: --applied or --pending")
    with opened(ctx) as found:
        wanted: migration_mend.Wanted = "applied" if applied else "pending"
        marking = migration_mend.mark(found, names, wanted, call(ctx).db, migrations, shape=shape)
        return change(ctx, marking, target=marking.target)


@app.command()
def repair(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Migrations, by name or number; else all.")
    ] = None,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Take the files as they are now for what was applied.")
    ] = False,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed", help="Let those that failed count as never tried: what they did, you took back."
        ),
    ] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Forget those that have no file any more.")
    ] = False,
    statement: Annotated[
        Outcome | None,
        typer.Option(
            "--statement", help="Whether the statement ran at which a run was killed, as you found."
        ),
    ] = None,
    migrations: Folder = None,
    shape: Shape = "",
    dry_run: DryRun = False,
) -> int:
    """Bring the ledger in line with the files, once you know that they are right; runs no migration."""
    asked = {"checksums": checksums, "failed": failed, "missing": missing}
    with opened(ctx) as found:
        words = [word for word, wanted in asked.items() if wanted]
        mending = migration_mend.repair(
            found,
            words,
            call(ctx).db,
            migrations,
            names=names or (),
            outcome=statement,
            shape=shape,
        )
        return change(ctx, mending, target=mending.target)


@app.command()
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it does, in a few words: add-notes.")],
    migrations: Folder = None,
    dry_run: DryRun = False,
) -> int:
    """Begin a migration: the next number, a safe name, and a header; prints the path."""
    with opened(ctx) as found:
        begun = NewMigration(found, migrate.tracks(found, call(ctx).db, migrations), name)
        return change(ctx, begun, target=begun.target)


@app.command()
def verify(ctx: typer.Context, migrations: Folder = None, shape: Shape = "") -> int:
    """Compare the files with the ledger, and look into the files; exit 4 on an error."""
    with opened(ctx) as found:
        findings = migration_check.verify(found, call(ctx).db, migrations, shape=shape)
        return emit(ctx, findings, status=Exit.UNSOUND if findings.unsound else Exit.OK, target=found.name)


@app.command()
def drift(ctx: typer.Context, migrations: Folder = None, shape: Shape = "") -> int:
    """Compare the live schema with what the applied migrations make of an empty database; exit 4 on an error.

    They run in memory, so nothing is written anywhere. What only slows down, or is there besides, is a warning or less.
    """
    with opened(ctx) as found:
        findings = migration_drift.drift(found, call(ctx).db, migrations, shape=shape)
        return emit(ctx, findings, status=Exit.UNSOUND if findings.unsound else Exit.OK, target=found.name)


@app.command()
def lint(
    ctx: typer.Context,
    migrations: Folder = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every file, not the pending ones alone; no database is opened.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 4 on a warning, too.")] = False,
) -> int:
    """Tell what the pending files may do to a database with rows and users; exit 4 on an error.

    With --migrations every file of the folder counts, and no database has to be there: its URL says which engine's rules
    hold. A line "-- dbctl: allow CODE" above a statement, or at the top of a file, keeps a finding from being told.
    """
    with opened(ctx) as found:
        findings = migration_lint.lint(found, call(ctx).db, migrations, every=every)
        return emit(ctx, findings, status=migration_lint.status(findings, strict=strict), target=found.name)


@app.command()
def rehearse(ctx: typer.Context, to: To = "", migrations: Folder = None, shape: Shape = "") -> int:
    """Run the pending migrations on a copy, and tell how long they take and what becomes of rows and schema.

    The database itself is not touched, and nothing is left of the copy. Exit 1 where one fails, 4 on an error.
    """
    with opened(ctx) as found:
        told = migration_rehearsal.rehearse(found, call(ctx).db, migrations, to=to, shape=shape)
        if not told.migrations:
            note(ctx, NOTHING_PENDING)
        return emit(ctx, told, status=told.status, target=found.name)


@contextmanager
def _meant(ctx: typer.Context, *, all_apps: bool) -> Iterator[Sequence[App]]:
    """Give the app that is meant, or every configured one; what they open is closed at the end."""
    with ExitStack() as stack:
        each = selections(ctx, all_apps=all_apps)
        yield [stack.enter_context(apps.opened(one, timeout=call(ctx).timeout)) for one in each]


def _script(one: Pending) -> str:
    """Return a migration as it stands in its file, below a comment that names it."""
    head = f"-- {one.app}/{one.database}: {one.name} ({one.path})"
    text = f"{head}\n{one.sql.rstrip()}\n\n"
    if not is_terminal():
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(escape, line.split("\t"))) for line in lines)
