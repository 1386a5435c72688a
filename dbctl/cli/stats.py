"""``dbctl stats``: figures of an app and of its databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from dbctl.cli._app import opened, pairs, show, span
from dbctl.cli._options import Limit, Offset, Sort, window
from dbctl.cli._run import emit, warn
from dbctl.services import reports, stats

app = typer.Typer(
    name="stats",
    help="Figures: room, rows, activity, locks, reports.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def overview(ctx: typer.Context, limit: Limit = 50, offset: Offset = 0, sort: Sort = "") -> int:
    """Show how much room each database takes; causes no checkpoint."""
    with opened(ctx) as found:
        return emit(ctx, stats.overview(found, window(limit, offset, sort)), target=found.name)


@app.command()
def tables(ctx: typer.Context, limit: Limit = 100, offset: Offset = 0, sort: Sort = "") -> int:
    """Show how much each table holds: rows, bytes with its indexes where SQLite can tell, indexes."""
    with opened(ctx) as found:
        return emit(ctx, stats.tables(found, window(limit, offset, sort)), target=found.name)


@app.command()
def user(
    ctx: typer.Context,
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="A username or an e-mail address.")],
) -> int:
    """Show what the app counts for one user, and how many rows of each table are that user's."""
    with opened(ctx) as found:
        return show(ctx, found, stats.user(found, login))


@app.command()
def activity(
    ctx: typer.Context,
    user: Annotated[str, typer.Option("--user", metavar="LOGIN", help="Only what this user did.")] = "",
    action: Annotated[
        str, typer.Option("--action", metavar="NAME", help="Only this action; NAME* those that begin so.")
    ] = "",
    resource: Annotated[
        str, typer.Option("--resource", metavar="NAME", help="Only what was done to such things.")
    ] = "",
    since: Annotated[
        timedelta | None,
        typer.Option("--since", parser=span, metavar="7d", help="Only what is not older than this."),
    ] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> int:
    """Show the app's own record of what was done, the latest first."""
    with opened(ctx) as found:
        part = window(limit, offset, "")
        return show(
            ctx,
            found,
            stats.activity(found, part, login=user, action=action, resource=resource, since=since),
        )


@app.command()
def locks(ctx: typer.Context, limit: Limit = 50, offset: Offset = 0, sort: Sort = "") -> int:
    """Show which processes have the databases open; root sees all of them, others their own and every lock."""
    with opened(ctx) as found:
        return emit(ctx, stats.locks(found, window(limit, offset, sort)), target=found.name)


@app.command("reports")
def reports_(ctx: typer.Context, limit: Limit = 50, offset: Offset = 0, sort: Sort = "") -> int:
    """List the app's reports."""
    with opened(ctx) as found:
        return emit(ctx, reports.listed(found, window(limit, offset, sort)), target=found.name)


@app.command()
def run(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="REPORT", help="A report: most-played, games-per-tag, …")],
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the report; repeatable."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the SQL and how the database would answer it.")
    ] = False,
    limit: Limit = 50,
    offset: Offset = 0,
) -> int:
    """Run a report."""
    with opened(ctx) as found:
        part, told = window(limit, offset, ""), pairs(given or (), "--set")
        if not explain:
            return show(ctx, found, reports.run(found, name, told, part))
        explained = reports.explain(found, name, told, part)
        for table in explained.full_scans:
            warn(ctx, f"{table} is read whole, row by row")
        return show(ctx, found, explained)
