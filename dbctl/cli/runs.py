"""``dbctl runs``: the journal of runs."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from datetime import timedelta
from typing import Annotated

import typer

from dbctl.cli._support.emit import emit, run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag, option, parse_positive
from dbctl.cli._support.parameters import DryRun, Limit, period_option
from dbctl.cli._support.session import Session
from dbctl.errors.usage import UsageError
from dbctl.model import Page, time_before
from dbctl.services.events.history import list_runs, show_run
from dbctl.services.events.recorder import PruneRuns, RunsPruned
from dbctl.services.events.runs import Run, RunDetails, RunFilter
from dbctl.spec import EVERYWHERE, Example

GROUP = Group(
    "runs", section="Automate", position=3, help="Journal of runs: which command ran when, and its result."
)


@Example("runs list --failed --since 7d", on="flashpoint-web")
@Example("runs list --limit 10 -o json", on=EVERYWHERE, needs=("integrity check",))
@GROUP.command("list", answers=lambda: (Page[Run],))
def list_(
    session: Session,
    command: Annotated[
        str, option("--command", "NAME", "Select runs of this command or group: backup create, backup.")
    ] = "",
    since: Annotated[
        timedelta | None, period_option("--since", "7d", "Select runs that began within this time.")
    ] = None,
    failed: Annotated[bool, flag("--failed", "Select runs that failed or were interrupted.")] = False,
    after: Annotated[
        int | None, option("--after", "ID", "Continue after the last run of a page.", parse_positive)
    ] = None,
    limit: Limit = 50,
) -> int:
    """List the recorded runs, newest first; --app NAME selects one app, or one instance of a fleet.

    Commands that change, check, back up or restore are recorded, and commands that only read are not.
    """
    selected = RunFilter(
        app=session.options.app,
        command=command,
        since=time_before(since) if since else None,
        failed=failed,
        after=after,
        limit=limit,
    )
    folder = session.journal.require_folder()
    return emit(session, list_runs(folder, selected), target=str(folder))


@Example("runs show {run}", on=EVERYWHERE, needs=("integrity check",))
@Example("runs show {run} -o json")
@GROUP.command("show", answers=lambda: (RunDetails,))
def show_(
    session: Session,
    run: Annotated[int, typer.Argument(parser=parse_positive, metavar="ID", help="Id of a run.")],
) -> int:
    """Show the complete record of a run."""
    folder = session.journal.require_folder()
    return emit(session, show_run(folder, run), target=str(folder))


@Example("runs prune --older-than 90d --dry-run", on="flashpoint-web")
@Example("runs prune --older-than 1y --yes", on="flashpoint-web samples")
@GROUP.command("prune", answers=lambda: (RunsPruned,), recorded=True)
def prune(
    session: Session,
    keep: Annotated[
        int | None, option("--keep", "N", "Retain only the N newest runs.", parse_positive)
    ] = None,
    older_than: Annotated[
        timedelta | None, period_option("--older-than", "90d", "Delete runs that are older.")
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Delete the records of old runs.

    dbctl also deletes them by itself, by the rules under [journal] in the configuration: keep and max_runs.
    """
    if keep is None and older_than is None:
        raise UsageError(detail="pass --keep N, --older-than AGE, or both")
    operation = PruneRuns(session.journal.require_folder(), keep=keep, older_than=older_than)
    return run_change(session, operation, dry_run=dry_run)
