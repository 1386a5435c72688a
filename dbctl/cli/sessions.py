"""``dbctl sessions``: what users left open, and what has had its day."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from datetime import timedelta
from typing import Annotated

import typer

from dbctl.cli._support.app import Ids, Inactive, Logins, carry_out, opened, show, span, who
from dbctl.cli._support.emit import change, emit, progress
from dbctl.cli._support.options import DryRun, Limit, Offset, Sort, window
from dbctl.errors import Exit, UsageError
from dbctl.services.sessions import CleanupWork, Rebuilding, State, sessions

app = typer.Typer(
    name="sessions",
    help="Sessions of users, and rows that have had their day.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _age(text: str) -> timedelta:
    age = span(text)
    if not age:
        raise typer.BadParameter(f"{text!r} would take what is in use; write 90d, 36h, 2w or 1y")
    return age


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[
        State | None, typer.Option("--state", help="Only those that last, have ended, or nobody ended.")
    ] = None,
    user: Annotated[str, typer.Option("--user", metavar="LOGIN", help="Only those of this user.")] = "",
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="Which, where the app has several kinds of them.")
    ] = "",
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List what users are at, or were: the newest first."""
    with opened(ctx) as found:
        wanted = window(limit, offset, sort)
        return show(ctx, found, sessions.list_sessions(found, wanted, kind=kind, state=state, login=user))


@app.command()
def revoke(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """End what keeps users signed in; they have to sign in anew."""
    with opened(ctx) as found:
        return carry_out(ctx, sessions.revoke(found, who(logins, ids, inactive)))


@app.command()
def cleanup(
    ctx: typer.Context,
    rules: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="RULE", help="Only this rule of the profile; repeatable."),
    ] = None,
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            "--older-than", parser=_age, metavar="36h", help="In place of the rule's own age; with --rule."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 3 where something is due.")
    ] = False,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="One transaction a rule, for when the app is stopped: others would wait."
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Close plays that were abandoned and delete tokens, attempts and logs that are old, as the profile says.

    In small transactions, each with its statistics, so that the app never waits long. It can be stopped and run again.
    """
    if check and dry_run:
        raise UsageError(detail="--check and --dry-run exclude each other: both change nothing")
    with opened(ctx) as found, progress(ctx, "Cleaning up", lambda: work.found) as advance:
        work = CleanupWork(found, rules or (), older_than=older_than, at_once=fast, advance=advance)
        if not check:
            return change(ctx, work, target=work.target)
        due = work.due()
        status = Exit.ACTION_NEEDED if any(one.matched for one in due.items) else Exit.OK
        return emit(ctx, due, status=status, target=work.target)


@app.command("rebuild-stats")
def rebuild_stats(
    ctx: typer.Context,
    user: Annotated[str, typer.Option("--user", metavar="LOGIN", help="Only those of this user.")] = "",
    dry_run: DryRun = False,
) -> int:
    """Count the statistics of users anew from the sessions that have ended; asks first where a figure would fall.

    In one transaction. First and last times that the app wrote stay; where a row is missing, they come from the sessions.
    """
    with opened(ctx) as found:
        return carry_out(ctx, Rebuilding(found, login=user))
