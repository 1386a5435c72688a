"""``dbctl status``: how every database stands, in one line each."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from typing import Annotated

import typer

from dbctl.cli._support.app import selection, selections
from dbctl.cli._support.emit import emit, note, warn
from dbctl.cli._support.options import call
from dbctl.services import status as standing

app = typer.Typer(name="status", rich_markup_mode=None)


@app.command("status")
def status(
    ctx: typer.Context,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Exit 3 where something is to be done, 4, 10 or 11 where more is wrong."
        ),
    ] = False,
) -> int:
    """Show how every database of every configured app stands, in one line each; --app NAME shows one app's.

    Whether it can be read, its room, pending migrations, a cleanup that is overdue by more than a day, the newest
    backup. Nothing is written, and nothing large is read: dbctl integrity check looks into the databases.
    """
    said, chosen = call(ctx), selection(ctx)
    every = not (chosen.app or chosen.profile or chosen.urls)
    told = standing.survey(selections(ctx, all_apps=every), timeout=said.timeout, only=said.db)
    for text in told.troubles:
        warn(ctx, text)
    for text in told.unclear:
        note(ctx, text)
    return emit(ctx, told.page, status=told.check if check else 0, target=", ".join(told.apps))
