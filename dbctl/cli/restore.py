"""``dbctl restore``: a backup brought back into the live database, with a way back."""

from __future__ import annotations

import typer

from dbctl.cli._app import opened, show
from dbctl.cli._backups import RepositoryAt, Which, copying
from dbctl.cli._options import DryRun, call
from dbctl.cli._run import change
from dbctl.services import restore, restore_preview
from dbctl.services.apps import App
from dbctl.services.backup_manifest import Manifest
from dbctl.services.backups import Repository

app = typer.Typer(
    name="restore", help="Bring a backup back, and undo that.", no_args_is_help=True, rich_markup_mode=None
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


def _carry_out(ctx: typer.Context, found: App, kept: Repository, manifest: Manifest) -> int:
    with copying(ctx, "Restoring", restore.size(found, kept, manifest)) as advance:
        work = restore.Restoring(found, kept, manifest, timeout=call(ctx).timeout, advance=advance)
        return change(ctx, work, target=found.name)
