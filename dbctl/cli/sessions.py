"""``dbctl sessions``: user sessions, and cleanup of expired rows."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from dbctl.cli._support.emit import emit, run_change, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.hooks import begin_action
from dbctl.cli._support.options import flag, option
from dbctl.cli._support.parameters import (
    DryRun,
    Ids,
    Inactive,
    Limit,
    Logins,
    Offset,
    Sort,
    read_duration,
    requested_page,
    select_users,
)
from dbctl.cli._support.session import Session
from dbctl.errors.base import Exit
from dbctl.errors.usage import UsageError
from dbctl.model import Page
from dbctl.services.sessions import sessions
from dbctl.services.sessions.cleanup import CleanUp, CleanupResult, DueRules
from dbctl.services.sessions.rebuild_statistics import RebuildResult, RebuildStatistics
from dbctl.services.sessions.sessions import State
from dbctl.spec import Example, Fleet, Write

if TYPE_CHECKING:
    from dbctl.services.users.update import UsersChanged


GROUP = Group("sessions", section="Change", position=4, help="User sessions, and cleanup of expired rows.")


def _parse_age(text: str) -> timedelta:
    age = read_duration(text)
    if not age:
        raise typer.BadParameter(f"{text!r} would delete rows in use; write 90d, 36h, 2w or 1y")
    return age


@Example("sessions list --user {login}", on="custom samples")
@Example("sessions list --state active --limit 20")
@GROUP.command("list", answers=lambda: (Page[sessions.Session],), fleet=Fleet())
def list_(
    session: Session,
    state: Annotated[
        State | None, typer.Option("--state", help="Show only open, ended or abandoned sessions.")
    ] = None,
    user: Annotated[str, option("--user", "LOGIN", "Process only this user.")] = "",
    kind: Annotated[str, option("--kind", "KIND", "Kind of sessions, if the app has several.")] = "",
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List sessions of users, newest first."""
    with session.open_app() as app:
        page_request = requested_page(limit, offset, sort)
        return emit(
            session, sessions.list_sessions(app, page_request, kind=kind, state=state, login=user), app=app
        )


@Example("sessions revoke {login} --dry-run", on="flashpoint-web")
@Example("sessions revoke --inactive 90d --yes")
@GROUP.command(
    "revoke",
    answers=lambda: (UsersChanged,),
    writes=Write(source="generated", facts=("sign-out", "audit"), undo=True),
    fleet=Fleet(resumes=True),
)
def revoke(
    session: Session,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Sign users out everywhere: delete or invalidate their sessions and tokens."""
    with session.open_app() as app:
        return run_change(session, sessions.revoke(app, select_users(logins, ids, inactive)), dry_run=dry_run)


@Example("sessions cleanup --dry-run", on="flashpoint-web")
@Example("sessions cleanup --rule expired-tokens --yes")
@GROUP.command(
    "cleanup",
    answers=lambda: (CleanupResult, DueRules),
    writes=Write(source="generated", facts=("audit",)),
    action="cleanup",
    fleet=Fleet(resumes=True),
)
def cleanup(
    session: Session,
    rules: Annotated[
        list[str] | None, option("--rule", "RULE", "Apply only this rule of the profile; repeatable.")
    ] = None,
    older_than: Annotated[
        timedelta | None,
        option("--older-than", "36h", "With --rule: use this age instead of the rule's own.", _parse_age),
    ] = None,
    check: Annotated[bool, flag("--check", "Change nothing; exit 3 if rows are due.")] = False,
    fast: Annotated[
        bool,
        flag(
            "--fast", "Use one transaction per rule; only while the app is stopped, because it blocks others."
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Close abandoned sessions and delete expired tokens, attempts and logs, by the rules of the profile.

    Rows are changed in small transactions with their statistics, so that the app is never blocked for long. An
    interrupted cleanup can be run again.
    """
    if check and dry_run:
        raise UsageError(detail="--check and --dry-run cannot be combined")
    with session.open_app() as app, begin_action(session, app):
        operation = CleanUp(app, rules or (), older_than=older_than, at_once=fast)
        with show_progress(session, "", lambda: operation.matched, unit="rows"):
            if not check:
                return run_change(session, operation, dry_run=dry_run)
            due = operation.count_due()
            status = Exit.ACTION_NEEDED if any(rule.matched for rule in due.items) else Exit.OK
            return emit(session, due, status=status, target=operation.target)


@Example("sessions rebuild-stats --user {login} --dry-run", on="flashpoint-web")
@Example("sessions rebuild-stats --dry-run", on="custom")
@GROUP.command(
    "rebuild-stats",
    answers=lambda: (RebuildResult,),
    writes=Write(source="generated", facts=("audit",)),
    fleet=Fleet(resumes=True, may_destroy=True),
)
def rebuild_stats(
    session: Session,
    user: Annotated[str, option("--user", "LOGIN", "Process only this user.")] = "",
    dry_run: DryRun = False,
) -> int:
    """Recompute the statistics of users from their ended sessions; a lower value requires confirmation.

    All changes are one transaction. First and last times that the app wrote remain; missing rows are created from
    the sessions.
    """
    with session.open_app() as app:
        return run_change(session, RebuildStatistics(app, login=user), dry_run=dry_run)
