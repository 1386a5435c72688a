"""``dbctl status``: the state of every database, one line each."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import Annotated

import typer

from dbctl.cli._support.app import read_selection, read_selections
from dbctl.cli._support.emit import emit, note, warn
from dbctl.cli._support.options import read_options
from dbctl.services import status as database_status

app = typer.Typer()


@app.command("status")
def status(
    ctx: typer.Context,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit 3 if an action is due, and 4, 10 or 11 on more severe problems."),
    ] = False,
    all_instances: Annotated[  # noqa: ARG001 - the output of fleets reads it
        bool, typer.Option("--all", help="Fleet: also list instances without a problem.")
    ] = False,
) -> int:
    """Show the state of every database of every configured app, one line each; --app NAME selects one app.

    It shows whether each database is readable, its size, pending migrations, cleanup that is overdue by more than
    a day, and the newest backup. Nothing is written, and nothing large is read: dbctl integrity check examines
    the content. Of a fleet, the instances with a problem are listed, worst first.

    Example: dbctl status --check
    """
    options, selection = read_options(ctx), read_selection(ctx)
    all_apps = not (selection.app or selection.profile or selection.urls)
    report = database_status.collect_status(
        read_selections(ctx, all_apps=all_apps), timeout=options.timeout, only=options.db
    )
    for message in report.problems:
        warn(ctx, message)
    for message in report.notes:
        note(ctx, message)
    return emit(ctx, report.page, status=report.check if check else 0, target=", ".join(report.apps))
