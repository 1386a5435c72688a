"""``dbctl status``: the state of every database, one line each."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import signal
import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer

from dbctl.cli._support.emit import emit, note, show_progress, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag
from dbctl.cli._support.parameters import read_selections
from dbctl.cli._support.session import Session
from dbctl.config import loader
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.usage import UsageError
from dbctl.render.streams import Format, supports_drawing
from dbctl.services import status as database_status
from dbctl.signals import Interrupted
from dbctl.spec import Example, Fleet

GROUP = Group("status", section="Inspect", position=1, help="State of every database, one line each.")


@Example("status --check", on="custom samples", needs=("migrate up", "sessions cleanup", "backup drill"))
@Example("status --app {app} -o json", on="flashpoint-web custom")
@Example("status", shown=False, meaning="Show the state of every database.")
@GROUP.command(
    answers=lambda: (database_status.StatusPage,), findings=True, fleet=Fleet(replaces={"check": True})
)
def status(
    session: Session,
    check: Annotated[
        bool, flag("--check", "Exit 3 if an action is due, and 4, 10 or 11 on more severe problems.")
    ] = False,
    all_instances: Annotated[  # noqa: ARG001 - the output of fleets reads it
        bool, typer.Option("--all", help="Fleet: also list instances without a problem.")
    ] = False,
    record: Annotated[
        bool, flag("--record", "Count rows, and record sizes, rows and figures for stats history.")
    ] = False,
    watch: Annotated[
        bool, flag("--watch", "Update the status on the terminal until Ctrl-C, which exits 0.")
    ] = False,
    every: Annotated[
        float,
        typer.Option(
            "--every", min=0.1, max=86_400, metavar="SECONDS", help="With --watch: time between updates."
        ),
    ] = 2.0,
) -> int:
    """Show the state of every database of every configured app, one line each, worst first; --app NAME selects one app.

    It shows whether each database is readable, its size, pending migrations, cleanup that is overdue by more than
    a day, and the newest backup. If a database, or the repository of backups, cannot be read, the exit code is that of
    the error, or 12 if a database can be read. Without --record, nothing is written, and nothing large is read: dbctl
    integrity check examines the content. Of a fleet, the instances with a problem are listed.
    """
    options, selection = session.options, session.selection
    all_apps = not (selection.app or selection.profile or selection.urls)
    if watch:
        _refuse_watch(check=check, record=record, output=options.output)
    selections = read_selections(session, all_apps=all_apps, allow_fleets=watch)
    if watch and any(loader.find_app(selected, allow_fleet=True).is_fleet for selected in selections):
        raise UsageError(detail="--watch does not show fleets; select an app with --app NAME")

    def collect() -> database_status.StatusReport:
        return database_status.collect_status(
            selections, timeout=options.timeout, only=options.db, record=record
        )

    if watch:
        return _watch(collect, every)
    with show_progress(session):
        report = collect()
    for message in report.problems:
        warn(session, message)
    for message in report.notes:
        note(session, message)
    if report.unrecorded:
        warn(session, f"sizes and rows are not recorded: {report.unrecorded}")
    return emit(
        session,
        report.page,
        status=report.check if check else report.status,
        target=", ".join(report.apps),
        findings=report.findings.raise_warnings() if check else report.findings,
    )


def _refuse_watch(*, check: bool, record: bool, output: Format) -> None:
    """Refuse a watch that no terminal shows, or whose exit code would have no meaning.

    Raises:
        UsageError: an option or the output does not fit.
    """
    if check:
        raise UsageError(detail="--watch ends with Ctrl-C and not with a result; omit --check")
    if record:
        raise UsageError(detail="--watch records nothing; omit --record")
    if output is not Format.TABLE or not supports_drawing(sys.stdout):
        raise UsageError(detail="--watch requires a terminal and the output format table")


def _watch(collect: Callable[[], database_status.StatusReport], seconds: float) -> int:
    """Show the status repeatedly, until a signal.

    Raises:
        Interrupted: a signal other than SIGINT.
    """
    from dbctl.render.terminal.screen import LiveScreen

    try:
        with LiveScreen() as screen:
            while True:
                try:
                    report = collect()
                    screen.show(report.page, report.problems)
                except DbctlError as error:
                    screen.show(None, [str(error)])
                time.sleep(seconds)
    except Interrupted as interruption:
        if interruption.exit_status != 128 + signal.SIGINT:
            raise
        return Exit.OK
