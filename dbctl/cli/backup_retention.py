"""Commands of ``dbctl backup`` that delete backups, or protect them from deletion."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from dbctl.cli._support.emit import run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import DryRun, RepositoryAddress, period_option, require_size
from dbctl.cli._support.session import Session
from dbctl.services.backup.repository import Repository
from dbctl.spec import EVERYWHERE, Example, Fleet

if TYPE_CHECKING:
    from dbctl.services.backup.retention.delete import BackupsDeleted
    from dbctl.services.backup.retention.prune import BackupsPruned
    from dbctl.services.backup.retention.rules import BackupsPinned


GROUP = Group("backup", checks_profile=False)


def _keep_option(name: str, description: str) -> object:
    return typer.Option(f"--keep-{name}", min=0, max=100_000, metavar="N", help=f"Retain {description}.")


def _limit_option(help_text: str) -> object:
    return typer.Option(parser=require_size, metavar="SIZE", help=help_text)


@Example("backup prune --keep-daily 14 --dry-run", on="flashpoint-web")
@Example("backup prune --keep-last 7 --keep-within 30d --yes")
@GROUP.command(
    "prune", answers=lambda: (BackupsPruned,), recorded=True, fleet=Fleet(resumes=True, may_destroy=True)
)
def prune(
    session: Session,
    keep_last: Annotated[int, _keep_option("last", "the N newest")] = 0,
    hourly: Annotated[int, _keep_option("hourly", "the newest of each of the last N hours")] = 0,
    daily: Annotated[int, _keep_option("daily", "the newest of each of the last N days")] = 0,
    weekly: Annotated[int, _keep_option("weekly", "the newest of each of the last N weeks")] = 0,
    monthly: Annotated[int, _keep_option("monthly", "the newest of each of the last N months")] = 0,
    yearly: Annotated[int, _keep_option("yearly", "the newest of each of the last N years")] = 0,
    within: Annotated[
        timedelta | None, period_option("--keep-within", "30d", "Retain all backups up to this age.")
    ] = None,
    max_bytes: Annotated[str, _limit_option("Delete the oldest if all backups of the app are larger.")] = "",
    min_free: Annotated[str, _limit_option("Delete the oldest if the file system has less free space.")] = "",
    moved: Annotated[
        list[str] | None,
        option(
            "--moved",
            "ADDRESS",
            "Former address of a database, as the plan prints it: apply the rules to its backups, too; repeatable.",
        ),
    ] = None,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Delete the backups that the retention does not cover; without options, the configured retention (keep)
    applies.

    Backups of databases with another address belong to another deployment with the same name of the app, and remain.
    Periods without a backup are not counted. The newest backup of each database is always retained, and so are pinned
    and damaged backups; damaged ones do not count. If the clock contradicts the backups, nothing is deleted.
    """
    from dbctl.config.model import Retention
    from dbctl.services.backup.retention.prune import PruneBackups

    age = f"{within.total_seconds():.0f}s" if within else ""
    keep = Retention(
        last=keep_last,
        hourly=hourly,
        daily=daily,
        weekly=weekly,
        monthly=monthly,
        yearly=yearly,
        within=age,
        max_bytes=max_bytes,
        min_free=min_free,
    )
    with session.open_app() as app:
        operation = PruneBackups(Repository(app, repository_address), keep, moved or ())
        return run_change(session, operation, dry_run=dry_run)


@Example("backup delete {backup} --dry-run", on="flashpoint-web")
@Example("backup delete {backup} --yes", on="flashpoint-web")
@GROUP.command("delete", answers=lambda: (BackupsDeleted,), recorded=True)
def delete(
    session: Session,
    names: Annotated[list[str], argument("ID...", "Ids of backups.")],
    with_dependents: Annotated[
        bool, flag("--with-dependents", "Also delete the backups that are stored as differences from them.")
    ] = False,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Delete the named backups, regardless of the retention.

    Refused if a backup is pinned or the base of another one, or a database would have no other valid backup.
    """
    from dbctl.services.backup.retention.delete import DeleteBackups

    with session.open_app() as app:
        operation = DeleteBackups(Repository(app, repository_address), names, with_dependents=with_dependents)
        return run_change(session, operation, dry_run=dry_run)


@Example("backup pin latest --reason 'before the upgrade to 2.0'", on=EVERYWHERE)
@Example("backup pin {backup} --reason 'audit of 2026' --dry-run", on="flashpoint-web")
@GROUP.command("pin", answers=lambda: (BackupsPinned,), recorded=True)
def pin(
    session: Session,
    names: Annotated[list[str], argument("ID...", "Ids of backups, or latest.")],
    reason: Annotated[str, option("--reason", "TEXT", "Why they are retained.")],
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Retain backups regardless of the retention, until backup unpin; backup list shows the reason."""
    return _change_pins(session, names, reason, repository_address, dry_run=dry_run)


@Example(
    "backup unpin latest",
    on="custom samples",
    needs=("backup pin latest --reason 'before the upgrade to 2.0'",),
)
@Example("backup unpin {backup} --dry-run", on="flashpoint-web")
@GROUP.command("unpin", answers=lambda: (BackupsPinned,), recorded=True)
def unpin(
    session: Session,
    names: Annotated[list[str], argument("ID...", "Ids of backups.")],
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Remove the pins of backups, so that the retention applies to them again."""
    return _change_pins(session, names, None, repository_address, dry_run=dry_run)


def _change_pins(
    session: Session, names: list[str], reason: str | None, repository: str, *, dry_run: bool
) -> int:
    from dbctl.services.backup.retention.rules import PinBackups

    with session.open_app() as app:
        return run_change(session, PinBackups(Repository(app, repository), names, reason), dry_run=dry_run)
