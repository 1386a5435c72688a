"""``dbctl integrity``: whether the databases are sound, and agree with each other."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from typing import Annotated

import typer

from dbctl.cli._support.app import carry_out, opened
from dbctl.cli._support.emit import emit
from dbctl.cli._support.options import DryRun
from dbctl.errors import UsageError
from dbctl.services.integrity import check as integrity
from dbctl.services.integrity import cross_database, time_repair
from dbctl.services.integrity import repair as integrity_repair

app = typer.Typer(
    name="integrity",
    help="Whether the databases are sound and agree.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def check(
    ctx: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what takes long: whether indexes and tables agree.")
    ] = False,
    table: Annotated[str, typer.Option("--table", metavar="NAME", help="Only this table.")] = "",
) -> int:
    """Look for damage, for rows that point to nothing, and for what is missing; exit 4 on an error.

    No row is changed. What SQLite keeps only once it cannot check: only a backup's checksum shows that it changed.
    """
    with opened(ctx) as found:
        told = integrity.check(found, quick=quick, table=table)
        return emit(ctx, told.findings, status=told.status, target=found.name)


@app.command()
def cross_check(ctx: typer.Context) -> int:
    """Look for rows whose other half is missing in another database, and for figures that a recount does not give."""
    with opened(ctx) as found:
        told = cross_database.cross(found)
        return emit(ctx, told.findings, status=told.status, target=found.name)


@app.command()
def repair(
    ctx: typer.Context,
    orphans: Annotated[
        bool,
        typer.Option(
            "--delete-orphans", help="Delete rows that repeat nothing, too; many an app keeps some rightly."
        ),
    ] = False,
    times: Annotated[
        bool,
        typer.Option("--times", help="Rewrite columns of SQLite that hold times in several forms, instead."),
    ] = False,
    table: Annotated[
        str, typer.Option("--table", metavar="NAME", help="With --times: only this table.")
    ] = "",
    dry_run: DryRun = False,
) -> int:
    """Bring rows that repeat those of another database in line with them, and list what they lack.

    With --times, columns that hold times in several forms get the app's form, in one transaction. A time whose zone
    nothing tells is refused.
    """
    if orphans and times:
        raise UsageError(detail="--delete-orphans and --times exclude each other")
    if table and not times:
        raise UsageError(detail="--table goes with --times")
    with opened(ctx) as found:
        if times:
            return carry_out(ctx, time_repair.repair_times(found, table=table))
        return carry_out(ctx, integrity_repair.repair(found, orphans=orphans))
