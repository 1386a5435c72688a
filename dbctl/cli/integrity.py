"""``dbctl integrity``: check databases, and their consistency with each other."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import Annotated

from dbctl.cli._support.emit import emit, run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag, option
from dbctl.cli._support.parameters import DryRun
from dbctl.cli._support.session import Session
from dbctl.errors.usage import UsageError
from dbctl.model import Findings
from dbctl.services import integrity
from dbctl.services.checks.run import DatabasesChecked
from dbctl.services.integrity import RepairResult
from dbctl.spec import EVERYWHERE, Example, Fleet, Write

GROUP = Group(
    "integrity", section="Inspect", position=4, help="Check and repair the consistency of databases."
)


@Example("integrity check", on=EVERYWHERE)
@Example("integrity check --quick --table users -o json", on="flashpoint-web")
@GROUP.command(
    "check",
    answers=lambda: (DatabasesChecked,),
    writes=Write(source="schema", audited=False),
    findings=True,
    fleet=Fleet(resumes=True),
)
def check(
    session: Session,
    quick: Annotated[
        bool,
        flag(
            "--quick",
            "Skip slow checks: the comparison of indexes with tables, and CHECK constraints of SQLite and MariaDB.",
        ),
    ] = False,
    table: Annotated[str, option("--table", "NAME", "Check only this table.")] = "",
) -> int:
    """Check the databases for damage, orphaned rows and missing rows; exit 4 if a finding has severity error.

    The table lists each checked database with its state: ok, or the worst severity of its findings. With --quiet
    only findings are shown. No row is changed. Damage to data that SQLite stores only once cannot be detected; only the checksum of a
    backup reveals it.
    """
    from dbctl.services.checks.run import check

    with session.open_app() as app:
        result = check(app, quick=quick, table=table)
        return emit(session, result.findings, status=result.status, target=app.name)


@Example("integrity cross-check", on=EVERYWHERE)
@Example("integrity cross-check --app chat -o json")
@GROUP.command(
    "cross-check", answers=lambda: (Findings,), recorded=True, findings=True, fleet=Fleet(resumes=True)
)
def cross_check(session: Session) -> int:
    """Find rows without their counterpart in another database, and stored counts that differ from a recount."""
    from dbctl.services.checks.run import cross_check

    with session.open_app() as app:
        result = cross_check(app)
        return emit(session, result.findings, status=result.status, target=app.name)


@Example("integrity repair --dry-run")
@Example("integrity repair", on="custom samples")
@GROUP.command(
    "repair",
    answers=lambda: (RepairResult,),
    writes=Write(source="generated"),
    fleet=Fleet(resumes=True, may_destroy=True),
)
def repair(
    session: Session,
    delete_orphans: Annotated[
        bool,
        flag(
            "--delete-orphans",
            "Also delete copies whose original row no longer exists; many apps retain some of them intentionally.",
        ),
    ] = False,
    repair_times: Annotated[
        bool, flag("--times", "Instead, rewrite SQLite columns with times in several formats.")
    ] = False,
    table: Annotated[str, option("--table", "NAME", "With --times: repair only this table.")] = "",
    dry_run: DryRun = False,
) -> int:
    """Update rows that duplicate those of another database, and list missing ones.

    With --times, columns with times in several formats are rewritten in the app's format, in one transaction. A
    time with an ambiguous time zone is refused.
    """
    if delete_orphans and repair_times:
        raise UsageError(detail="--delete-orphans and --times cannot be combined")
    if table and not repair_times:
        raise UsageError(detail="--table requires --times")
    with session.open_app() as app:
        if repair_times:
            return run_change(session, integrity.repair_times(app, table=table), dry_run=dry_run)
        return run_change(session, integrity.repair(app, delete_orphans=delete_orphans), dry_run=dry_run)
