"""``dbctl restore``: a backup brought back into the live database, with a way back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._app import opened, selection, show
from dbctl.cli._backups import RepositoryAt, Which, copying
from dbctl.cli._options import DryRun, call
from dbctl.cli._run import change, progress
from dbctl.services import recover as recovering
from dbctl.services import restore, restore_preview
from dbctl.services.apps import App
from dbctl.services.backup_manifest import Manifest
from dbctl.services.backups import Repository

app = typer.Typer(
    name="restore",
    help="Bring a backup back, undo that, or read a damaged database.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def preview(ctx: typer.Context, backup: Which = "latest", repository: RepositoryAt = "") -> int:
    """Show what a restore would change: rows of each table now and then, the schema, and who holds the files."""
    with opened(ctx) as found:
        kept = Repository(found, repository)
        return show(ctx, found, restore_preview.preview(found, kept, kept.find(backup)))


@app.command()
def apply(ctx: typer.Context, backup: Which, repository: RepositoryAt = "", dry_run: DryRun = False) -> int:
    """Replace what the databases hold by a backup, in one transaction each.

    The backup is proven first, and what it replaces is kept as a safety backup. The app may run meanwhile: it sees
    the old content or the new.
    """
    with opened(ctx) as found:
        kept = Repository(found, repository)
        return _carry_out(ctx, found, kept, kept.find(backup))


@app.command()
def undo(ctx: typer.Context, repository: RepositoryAt = "", dry_run: DryRun = False) -> int:
    """Go back to what was there before the last restore; a second undo takes the first one back."""
    with opened(ctx) as found:
        kept = Repository(found, repository)
        return _carry_out(ctx, found, kept, restore.latest_safety(found, kept))


@app.command()
def recover(
    ctx: typer.Context,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="The new file, in place of one beside it.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A damaged file in place of the app's own.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            "--like",
            metavar="FILE",
            help="A sound database of the same shape, for tables that the damaged one no longer tells of.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Read a database that is sound, too.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Read what can be read of a damaged SQLite database into a new file.

    The damaged one is not changed, nor is the app's database exchanged: the answer tells how the new file takes its
    place, and of each table how many rows came back. Exit 4: something is lost.
    """
    with opened(ctx) as found, progress(ctx, "Recovering (%)", 100) as advance:
        work = recovering.Recovering(
            found,
            selection(ctx),
            to=to,
            source=source,
            like=like,
            force=force,
            advance=lambda share: advance(100 * share),
        )
        return change(ctx, work, target=work.target)


def _carry_out(ctx: typer.Context, found: App, kept: Repository, manifest: Manifest) -> int:
    with copying(ctx, "Restoring", restore.size(found, kept, manifest)) as advance:
        work = restore.Restoring(found, kept, manifest, timeout=call(ctx).timeout, advance=advance)
        return change(ctx, work, target=found.name)
