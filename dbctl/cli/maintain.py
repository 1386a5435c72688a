"""``dbctl maintain``: vacuum, analyze, and reindex databases; cancel running statements."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from dbctl.cli._support.emit import run_change, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag, option, parse_positive
from dbctl.cli._support.parameters import DryRun, duration_option, period_option
from dbctl.cli._support.session import Session
from dbctl.services import maintenance
from dbctl.services.maintenance import CancelSessions, RunMaintenance, TaskKind
from dbctl.spec import EVERYWHERE, Example, Fleet, Write

if TYPE_CHECKING:
    from dbctl.services.maintenance import MaintenanceResult


GROUP = Group("maintain", section="Schema", position=3, help="Vacuum, analyze and reindex databases.")

Tables: TypeAlias = Annotated[
    list[str] | None, option("--table", "NAME", "Process only this table; repeatable.")
]


def _run_maintenance(
    session: Session,
    kind: TaskKind,
    tables: list[str] | None,
    *,
    dry_run: bool,
    older_than: timedelta | None = None,
) -> int:
    with session.open_app() as app:
        operation = RunMaintenance(app, kind, tables or (), older_than=older_than)
        with show_progress(session, "", lambda: operation.total, unit="statements"):
            return run_change(session, operation, dry_run=dry_run)


@Example("maintain vacuum", on=EVERYWHERE)
@Example("maintain vacuum --dry-run", on="flashpoint-web custom")
@GROUP.command(
    "vacuum", answers=lambda: (MaintenanceResult,), writes=Write(source="schema"), fleet=Fleet(resumes=True)
)
def vacuum(
    session: Session,
    tables: Tables = None,
    older_than: Annotated[
        timedelta | None,
        duration_option("--older-than", "7d", "LanceDB: delete versions older than this; default: 7 days."),
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Remove dead rows, free pages and old versions, and update the statistics.

    PostgreSQL does not block the app. SQLite rewrites the whole file: this requires free space for a copy, and
    blocks other processes.
    """
    return _run_maintenance(session, "vacuum", tables, older_than=older_than, dry_run=dry_run)


@Example("maintain analyze", on="custom samples")
@Example("maintain analyze --table {table}", on="flashpoint-web")
@GROUP.command(
    "analyze", answers=lambda: (MaintenanceResult,), writes=Write(source="schema"), fleet=Fleet(resumes=True)
)
def analyze(session: Session, tables: Tables = None, dry_run: DryRun = False) -> int:
    """Update the statistics that the database uses to plan queries."""
    return _run_maintenance(session, "analyze", tables, dry_run=dry_run)


@Example("maintain optimize", on=EVERYWHERE)
@Example("maintain optimize --db user --dry-run")
@GROUP.command(
    "optimize", answers=lambda: (MaintenanceResult,), writes=Write(source="schema"), fleet=Fleet(resumes=True)
)
def optimize(session: Session, tables: Tables = None, dry_run: DryRun = False) -> int:
    """Vacuum and analyze only the tables with many dead rows or many changes."""
    return _run_maintenance(session, "optimize", tables, dry_run=dry_run)


@Example("maintain reindex --table {table}", on=EVERYWHERE)
@Example("maintain reindex --db user --dry-run")
@GROUP.command(
    "reindex", answers=lambda: (MaintenanceResult,), writes=Write(source="schema"), fleet=Fleet(resumes=True)
)
def reindex(session: Session, tables: Tables = None, dry_run: DryRun = False) -> int:
    """Rebuild indexes; on PostgreSQL concurrently, without blocking the app."""
    return _run_maintenance(session, "reindex", tables, dry_run=dry_run)


@Example("maintain checkpoint", on=EVERYWHERE)
@Example("maintain checkpoint --db user --dry-run")
@GROUP.command(
    "checkpoint",
    answers=lambda: (MaintenanceResult,),
    writes=Write(source="schema"),
    fleet=Fleet(resumes=True),
)
def checkpoint(session: Session, dry_run: DryRun = False) -> int:
    """Write the log (the -wal file of SQLite) into the database files."""
    return _run_maintenance(session, "checkpoint", None, dry_run=dry_run)


@Example("maintain wal -o json", on=EVERYWHERE)
@Example("maintain wal --off", on="custom")
@GROUP.command("wal", answers=lambda: (MaintenanceResult,), writes=Write(source="schema"))
def wal(
    session: Session,
    off: Annotated[bool, flag("--off", "Switch back to a rollback journal.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Switch SQLite files to a write-ahead log, which allows reads during a write.

    The mode is stored in the file. Each file is locked briefly; --off waits until no other process has it open.
    """
    return _run_maintenance(session, "rollback-journal" if off else "wal", None, dry_run=dry_run)


@Example("maintain cancel 4711")
@Example("maintain cancel 4711 4712 --yes")
@GROUP.command("cancel", answers=lambda: (maintenance.CancelResult,), recorded=True)
def cancel(
    session: Session,
    pids: Annotated[
        list[int] | None,
        typer.Argument(
            parser=parse_positive,
            metavar="PID...",
            help="Process ids of sessions; list them with dbctl stats connections.",
        ),
    ] = None,
    older_than: Annotated[
        timedelta | None,
        period_option(
            "--older-than", "5m", "Select all sessions whose statement runs longer, instead of PIDs."
        ),
    ] = None,
    terminate: Annotated[
        bool,
        flag(
            "--terminate", "Also end the session; with --older-than, include sessions idle in a transaction."
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Cancel the statements of server sessions, after confirmation; their changes are rolled back."""
    with session.open_app() as app:
        operation = CancelSessions(app, pids or (), older_than=older_than, terminate=terminate)
        return run_change(session, operation, dry_run=dry_run)
