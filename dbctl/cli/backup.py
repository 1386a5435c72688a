"""``dbctl backup``: made while the app writes, proven, and never pruned to nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from dbctl.cli._app import opened, show, span
from dbctl.cli._backups import RepositoryAt, Which, copying
from dbctl.cli._options import DryRun, Limit, Offset, Sort, call, window
from dbctl.cli._run import change, emit, note, warn
from dbctl.config import Compression, Keep
from dbctl.services import backup_create, backup_verify, backups
from dbctl.services.backup_create import Creation
from dbctl.services.backup_prune import Pruning
from dbctl.services.backups import BackupShown, Repository

app = typer.Typer(
    name="backup", help="Backups: make, list, verify, prune.", no_args_is_help=True, rich_markup_mode=None
)


def _rule(name: str, what: str) -> object:
    return typer.Option(f"--keep-{name}", min=0, max=100_000, metavar="N", help=f"Keep {what}.")


@app.command()
def create(
    ctx: typer.Context,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table", metavar="NAME", help="Only this table of a database on a server; repeatable."
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", metavar="FORM", help="Of the dumps of a server: custom or plain (.sql.gz)."),
    ] = "",
    compress: Annotated[
        Compression | None,
        typer.Option(
            "--compress", help="How databases are packed that are files; else as configured (gzip)."
        ),
    ] = None,
    repository: RepositoryAt = "",
    dry_run: DryRun = False,
) -> int:
    """Copy the app's databases, each at one moment, while the app writes; prove the copies, and keep them.

    A backup of some tables counts as partial: it is never the latest, and no restore takes it.
    """
    with opened(ctx) as found:
        kept = Repository(found, repository)
        with copying(ctx, "Copying", backup_create.size(found)) as advance:
            work = Creation(
                found,
                kept,
                timeout=call(ctx).timeout,
                form=form,
                tables=table or (),
                compress=compress,
                advance=advance,
            )
            return change(ctx, work, target=found.name)


@app.command("list")
def list_(
    ctx: typer.Context, repository: RepositoryAt = "", limit: Limit = 100, offset: Offset = 0, sort: Sort = ""
) -> int:
    """List the backups, the newest first; those that restores made before they began are called safety."""
    with opened(ctx) as found:
        wanted = window(limit, offset, sort)
        listed = backups.list_backups(Repository(found, repository), wanted, database=found.only)
        for name in listed.unread:
            warn(ctx, f"backup {name} has a manifest that cannot be read; dbctl backup verify tells more")
        for name in listed.incomplete:
            note(ctx, f"{name} was cut off, or is being made now: no backup")
        return show(ctx, found, listed.page)


@app.command("show")
def show_(ctx: typer.Context, backup: Which, repository: RepositoryAt = "") -> int:
    """Show one backup and what it holds."""
    with opened(ctx) as found:
        kept = Repository(found, repository)
        return show(ctx, found, kept.told(kept.find(backup), BackupShown))


@app.command()
def verify(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Backups by id, or latest; none: all.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Open each, check it through, and count its rows.")
    ] = False,
    repository: RepositoryAt = "",
) -> int:
    """Read backups whole and compare them with what was written; exit 4 on an error."""
    with opened(ctx) as found:
        kept = Repository(found, repository)
        with copying(ctx, "Reading", backup_verify.size(kept, names or ())) as advance:
            checked = backup_verify.verify(found, kept, names or (), deep=deep, advance=advance)
        for remark in checked.remarks:
            warn(ctx, remark)
        return emit(ctx, checked.findings, status=checked.status, target=found.name)


@app.command()
def prune(
    ctx: typer.Context,
    last: Annotated[int, _rule("last", "the N newest")] = 0,
    hourly: Annotated[int, _rule("hourly", "the newest of each of the last N hours")] = 0,
    daily: Annotated[int, _rule("daily", "the newest of each of the last N days")] = 0,
    weekly: Annotated[int, _rule("weekly", "the newest of each of the last N weeks")] = 0,
    monthly: Annotated[int, _rule("monthly", "the newest of each of the last N months")] = 0,
    yearly: Annotated[int, _rule("yearly", "the newest of each of the last N years")] = 0,
    within: Annotated[
        timedelta | None,
        typer.Option(
            "--keep-within",
            parser=span,
            metavar="30d",
            help="Keep all that are so much older than the newest.",
        ),
    ] = None,
    repository: RepositoryAt = "",
    dry_run: DryRun = False,
) -> int:
    """Delete the backups that no rule keeps; without options, the configured rules (keep) count.

    Hours, days and so on in which no backup was made are not counted. The newest backup of each database always stays.
    Backups that are damaged do not count, and stay too.
    """
    keep = Keep(
        last=last,
        hourly=hourly,
        daily=daily,
        weekly=weekly,
        monthly=monthly,
        yearly=yearly,
        within=f"{within.total_seconds():.0f}s" if within else "",
    )
    with opened(ctx) as found:
        work = Pruning(found, Repository(found, repository), keep, timeout=call(ctx).timeout)
        return change(ctx, work, target=found.name)
