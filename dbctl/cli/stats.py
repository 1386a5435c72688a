"""``dbctl stats``: figures of an app and of its databases."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from datetime import timedelta
from typing import Annotated, Any

import typer

from dbctl.cli._support.app import opened, pairs, show, span
from dbctl.cli._support.emit import emit, note, warn
from dbctl.cli._support.options import Limit, Offset, Sort, window
from dbctl.services.app import Figures
from dbctl.services.stats import State, reports
from dbctl.services.stats import connections as stats_sessions
from dbctl.services.stats import indexes as stats_indexes
from dbctl.services.stats import tables as stats

app = typer.Typer(
    name="stats",
    help="Figures: room, rows, indexes, connections, locks, reports.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _told(ctx: typer.Context, target: str, figures: Figures[Any]) -> int:
    for error in figures.failed:
        warn(ctx, str(error))
    for text in figures.remarks:
        note(ctx, text)
    return emit(ctx, figures.page, status=figures.status, target=target)


@app.command()
def overview(ctx: typer.Context, limit: Limit = 50, offset: Offset = 0, sort: Sort = "") -> int:
    """Show how much room each database takes, and what its server counts; causes no checkpoint."""
    with opened(ctx) as found:
        return _told(ctx, found.name, stats.overview(found, window(limit, offset, sort)))


@app.command()
def tables(
    ctx: typer.Context,
    exact: Annotated[
        bool, typer.Option("--exact", help="Count the rows of large tables on a server, too, however long.")
    ] = False,
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """Show how much each table holds: rows, bytes, indexes; on a server also what was written.

    The rows of a large table on a server are estimated (~) unless --exact is given.
    """
    with opened(ctx) as found:
        return _told(ctx, found.name, stats.tables(found, window(limit, offset, sort), exact=exact))


@app.command()
def user(
    ctx: typer.Context,
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="A username or an e-mail address.")],
) -> int:
    """Show what the app counts for one user, and how many rows of each table are that user's."""
    with opened(ctx) as found:
        told = stats.user(found, login)
        for text in told.unasked:
            warn(ctx, text)
        return show(ctx, found, told)


@app.command()
def activity(
    ctx: typer.Context,
    user: Annotated[
        str,
        typer.Option(
            "--user", metavar="LOGIN", help="Only what this user did; 'dbctl*': only what dbctl did."
        ),
    ] = "",
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
def locks(
    ctx: typer.Context,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Who waits for whom on a server, with both statements.")
    ] = False,
    limit: Limit = 50,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """Show which processes have the databases open, their locks, and who waits for whom.

    Of a file, root sees all of them, others their own and every lock. Of a server, with the type and object of each lock,
    the statement without the values in it, and how long the transaction lasts.
    """
    with opened(ctx) as found:
        part = window(limit, offset, sort)
        if waiting:
            return _told(ctx, found.name, stats_sessions.waits(found, part))
        return _told(ctx, found.name, stats.locks(found, part))


@app.command()
def connections(ctx: typer.Context, limit: Limit = 100, offset: Offset = 0, sort: Sort = "") -> int:
    """Show who is connected to a database on a server, and what they do, without the values in it."""
    with opened(ctx) as found:
        return _told(ctx, found.name, stats_sessions.connections(found, window(limit, offset, sort)))


@app.command()
def slow(ctx: typer.Context, limit: Limit = 10, offset: Offset = 0, sort: Sort = "") -> int:
    """Show the statements that take long on a server, those that took longest in all first; --sort -mean_seconds.

    Where the server does not remember them, it says what switches that on.
    """
    with opened(ctx) as found:
        return _told(ctx, found.name, stats_sessions.slow(found, window(limit, offset, sort)))


@app.command()
def indexes(
    ctx: typer.Context,
    only: Annotated[
        State | None,
        typer.Option(
            "--only", help="Those that are like another one, are its beginning, or were never read."
        ),
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """Show every index: what it takes, how often it was read, and whether another one does its work."""
    with opened(ctx) as found:
        return _told(ctx, found.name, stats_indexes.indexes(found, window(limit, offset, sort), only=only))


@app.command()
def bloat(ctx: typer.Context, limit: Limit = 50, offset: Offset = 0, sort: Sort = "") -> int:
    """Show which room tables take and do not use, and what that figure comes from."""
    with opened(ctx) as found:
        return _told(ctx, found.name, stats_indexes.bloat(found, window(limit, offset, sort)))


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
