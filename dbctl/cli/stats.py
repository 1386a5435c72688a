"""``dbctl stats``: statistics of an app and of its databases."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbctl.cli._support.emit import emit, note, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import Limit, Offset, Sort, parse_key_values, period_option, requested_page
from dbctl.cli._support.session import Session
from dbctl.model import Page, PageRequest
from dbctl.services.app.app import App
from dbctl.services.app.results import DatabaseResults
from dbctl.services.stats import connections as stats_sessions
from dbctl.services.stats import indexes as stats_indexes
from dbctl.services.stats import reports
from dbctl.services.stats import tables as stats_tables
from dbctl.services.stats.indexes import IndexProblem
from dbctl.spec import EVERYWHERE, Example, Fleet

if TYPE_CHECKING:
    from dbctl.services.stats.connections import BlockedSession, Connection, SlowStatement
    from dbctl.services.stats.indexes import IndexStats, TableBloat
    from dbctl.services.stats.tables import AuditEntry, DatabaseStats, LockHolder, TableStats, UserStats


GROUP = Group(
    "stats", section="Inspect", position=5, help="Statistics: sizes, rows, indexes, connections, reports."
)


def _show_figures(
    session: Session, collect: Callable[[App, PageRequest], DatabaseResults[Any]], request: PageRequest
) -> int:
    with session.open_app() as app:
        figures = collect(app, request)
        for error in figures.failed:
            warn(session, str(error))
        for message in figures.remarks:
            note(session, message)
        return emit(session, figures.page, status=figures.status, target=app.name)


@Example("stats overview", on=EVERYWHERE)
@Example("stats overview --sort -bytes -o json")
@GROUP.command("overview", answers=lambda: (Page[DatabaseStats],), fleet=Fleet())
def overview(session: Session, limit: Limit = 50, offset: Offset = 0, sort: Sort = "") -> int:
    """Show the size of each database, and the counters of its server; causes no checkpoint."""
    return _show_figures(session, stats_tables.list_databases, requested_page(limit, offset, sort))


@Example("stats tables --sort -bytes", on=EVERYWHERE)
@Example("stats tables --db user --limit 10")
@GROUP.command("tables", answers=lambda: (Page[TableStats],), fleet=Fleet())
def tables(
    session: Session,
    exact: Annotated[
        bool, flag("--exact", "Also count the rows of large tables on a server, which may take long.")
    ] = False,
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """Show rows, bytes and indexes of each table, and on a server its writes.

    Row counts of large tables on a server are estimates (~) unless --exact is passed.
    """
    collect = partial(stats_tables.list_tables, exact=exact)
    return _show_figures(session, collect, requested_page(limit, offset, sort))


@Example("stats user {login}", on=EVERYWHERE)
@Example("stats user {login} -o json")
@GROUP.command("user", answers=lambda: (UserStats,))
def user(session: Session, login: Annotated[str, argument("LOGIN", "Username or e-mail address.")]) -> int:
    """Show the app's statistics of one user, and the number of the user's rows per table."""
    with session.open_app() as app:
        report = stats_tables.measure_user(app, login)
        for message in report.skipped:
            warn(session, message)
        return emit(session, report, app=app)


@Example("stats activity --user {login} --since 7d", on="custom samples")
@Example("stats activity --action login --since 24h -o csv", on="flashpoint-web")
@GROUP.command("activity", answers=lambda: (Page[AuditEntry],))
def activity(
    session: Session,
    user: Annotated[
        str, option("--user", "LOGIN", "Show only actions of this user; 'dbctl*': only actions of dbctl.")
    ] = "",
    action: Annotated[
        str, option("--action", "NAME", "Show only this action; NAME* selects by prefix.")
    ] = "",
    resource: Annotated[
        str, option("--resource", "NAME", "Show only actions on this kind of resource.")
    ] = "",
    since: Annotated[
        timedelta | None, period_option("--since", "7d", "Show only entries up to this age.")
    ] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> int:
    """Show the app's activity log, newest first."""
    page_request = requested_page(limit, offset, "")
    with session.open_app() as app:
        page = stats_tables.list_activity(
            app, page_request, login=user, action=action, resource=resource, since=since
        )
        return emit(session, page, app=app)


@Example("stats locks --waiting", on="custom")
@Example("stats locks -o json", on=EVERYWHERE)
@GROUP.command("locks", answers=lambda: (Page[LockHolder], Page[BlockedSession]))
def locks(
    session: Session,
    waiting: Annotated[
        bool, flag("--waiting", "Show which sessions of a server wait for which, with both statements.")
    ] = False,
    limit: Limit = 50,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """Show the processes that have the databases open, their locks, and which process waits for which.

    For files, root sees all processes, and other users their own and every lock. For servers, each lock is shown
    with its type and object, the statement without its values, and the duration of the transaction.
    """
    collect = stats_sessions.list_waits if waiting else stats_tables.list_locks
    return _show_figures(session, collect, requested_page(limit, offset, sort))


@Example("stats connections", on="custom samples")
@Example("stats connections --db main --limit 20")
@GROUP.command("connections", answers=lambda: (Page[Connection],))
def connections(session: Session, limit: Limit = 100, offset: Offset = 0, sort: Sort = "") -> int:
    """Show the connections of a database on a server and their statements, without the values."""
    return _show_figures(session, stats_sessions.list_connections, requested_page(limit, offset, sort))


@Example("stats slow --limit 20", on="custom samples")
@Example("stats slow --sort -max_seconds -o json")
@GROUP.command("slow", answers=lambda: (Page[SlowStatement],))
def slow(session: Session, limit: Limit = 10, offset: Offset = 0, sort: Sort = "") -> int:
    """Show the slowest statements of a server, by total time, or by mean time with --sort -mean_seconds.

    If the server does not record them, the output contains the command that enables it.
    """
    return _show_figures(session, stats_sessions.list_slow_statements, requested_page(limit, offset, sort))


@Example("stats indexes", on=EVERYWHERE)
@Example("stats indexes --only unused -o json", on="flashpoint-web")
@GROUP.command("indexes", answers=lambda: (Page[IndexStats],))
def indexes(
    session: Session,
    only: Annotated[
        IndexProblem | None,
        typer.Option(
            "--only", help="Show only indexes that duplicate another one, are its prefix, or were never read."
        ),
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """Show every index: its size, how often it was read, and whether another one makes it redundant."""
    collect = partial(stats_indexes.list_indexes, only=only)
    return _show_figures(session, collect, requested_page(limit, offset, sort))


@Example("stats bloat", on=EVERYWHERE)
@Example("stats bloat --sort -wasted_bytes --limit 10")
@GROUP.command("bloat", answers=lambda: (Page[TableBloat],))
def bloat(session: Session, limit: Limit = 50, offset: Offset = 0, sort: Sort = "") -> int:
    """Show the unused space of tables, and how it was measured."""
    return _show_figures(session, stats_indexes.list_bloat, requested_page(limit, offset, sort))


@Example("stats reports", on=EVERYWHERE)
@Example("stats reports -o json")
@GROUP.command("reports", answers=lambda: (Page[reports.ReportSummary],))
def reports_(session: Session, limit: Limit = 50, offset: Offset = 0, sort: Sort = "") -> int:
    """List the app's reports."""
    with session.open_app() as app:
        return emit(session, reports.list_reports(app, requested_page(limit, offset, sort)), target=app.name)


@Example("stats run {report} --limit 10", on=EVERYWHERE)
@Example("stats run plays-per-user --set user=alice --sort -plays -o csv")
@GROUP.command("run", answers=lambda: (Page[dict[str, Any]], reports.ReportPlan))
def run(
    session: Session,
    name: Annotated[str, argument("REPORT", "Name of a report, such as most-played.")],
    assignments: Annotated[
        list[str] | None, option("--set", "NAME=VALUE", "Parameter of the report; repeatable.")
    ] = None,
    explain: Annotated[bool, flag("--explain", "Show the SQL and the query plan of the database.")] = False,
    limit: Limit = 50,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """Run a report."""
    with session.open_app() as app:
        page_request = requested_page(limit, offset, sort)
        values = parse_key_values(assignments or (), "--set")
        if not explain:
            return emit(session, reports.run(app, name, values, page_request), app=app)
        explained = reports.explain(app, name, values, page_request)
        for table in explained.full_scans:
            warn(session, f"{table} is scanned completely")
        return emit(session, explained, app=app)
