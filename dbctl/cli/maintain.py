"""``dbctl maintain``: looking after databases, and ending what sessions do."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from datetime import timedelta
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._support.app import opened, span
from dbctl.cli._support.emit import change, progress
from dbctl.cli._support.options import DryRun, whole
from dbctl.services.maintenance import Cancelling, Kind, Maintenance

app = typer.Typer(
    name="maintain",
    help="Look after databases; end what sessions do.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Tables: TypeAlias = Annotated[
    list[str] | None, typer.Option("--table", metavar="NAME", help="Only this table; repeatable.")
]


def _maintained(
    ctx: typer.Context, kind: Kind, tables: list[str] | None, older_than: timedelta | None = None
) -> int:
    with opened(ctx) as found, progress(ctx, f"maintain {kind}", lambda: work.found) as advance:
        work = Maintenance(found, kind, tables or (), older_than=older_than, advance=advance)
        return change(ctx, work, target=work.target)


@app.command()
def vacuum(
    ctx: typer.Context,
    tables: Tables = None,
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            "--older-than", parser=span, metavar="7d", help="Of LanceDB: versions of that age; 7 days else."
        ),
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Clear dead rows, free pages and old versions away, and look anew at what the tables hold.

    On PostgreSQL the app goes on meanwhile. SQLite writes the whole file anew: that takes room beside it, and others wait.
    """
    return _maintained(ctx, "vacuum", tables, older_than)


@app.command()
def analyze(ctx: typer.Context, tables: Tables = None, dry_run: DryRun = False) -> int:
    """Look anew at what the tables hold, so that the database finds the best way to its answers."""
    return _maintained(ctx, "analyze", tables)


@app.command()
def optimize(ctx: typer.Context, tables: Tables = None, dry_run: DryRun = False) -> int:
    """Look after what needs it: tables with many dead rows, or that have changed much since they were looked at."""
    return _maintained(ctx, "optimize", tables)


@app.command()
def reindex(ctx: typer.Context, tables: Tables = None, dry_run: DryRun = False) -> int:
    """Make indexes anew; on PostgreSQL beside the old ones, so that the app goes on meanwhile."""
    return _maintained(ctx, "reindex", tables)


@app.command()
def checkpoint(ctx: typer.Context, dry_run: DryRun = False) -> int:
    """Bring what stands in the log (the -wal of SQLite) into the files of the database."""
    return _maintained(ctx, "checkpoint", None)


@app.command()
def wal(
    ctx: typer.Context,
    off: Annotated[bool, typer.Option("--off", help="Switch back to a rollback journal.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Switch SQLite files to a write-ahead log: readers and one writer then work at the same time.

    The mode stays with the file. Each file is locked for a moment; --off waits until no other process has it open.
    """
    return _maintained(ctx, "rollback-journal" if off else "wal", None)


def _pid(text: str) -> int:
    return whole(text, 1)


@app.command()
def cancel(
    ctx: typer.Context,
    pids: Annotated[
        list[int] | None,
        typer.Argument(parser=_pid, metavar="PID...", help="Sessions, as stats connections shows them."),
    ] = None,
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            "--older-than", parser=span, metavar="5m", help="In their place: all whose statement runs longer."
        ),
    ] = None,
    terminate: Annotated[
        bool,
        typer.Option(
            "--terminate", help="End the session, too; with --older-than also those idle in a transaction."
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """End the statements that sessions of a server run; asks first. What they were changing is rolled back."""
    with opened(ctx) as found:
        work = Cancelling(found, pids or (), older_than=older_than, terminate=terminate)
        return change(ctx, work, target=work.target)
