"""``dbctl backup adopt``: create backups from files that dbctl did not create."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.backups import load_keys, parse_time, run_with_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, option
from dbctl.cli._support.parameters import DryRun, RepositoryAddress
from dbctl.cli._support.session import Session
from dbctl.services.backup.repository import Repository
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.extensions.adopt.adopt import BackupsAdopted

GROUP = Group("backup", checks_profile=False)


@Example("backup adopt old/user_20260105.db.gz --dry-run")
@Example("backup adopt /mnt/old/20260105_030000 --at 2026-01-05")
@GROUP.command("adopt", answers=lambda: (BackupsAdopted,), recorded=True)
def adopt(
    session: Session,
    paths: Annotated[
        list[Path],
        argument(
            "PATH...", "Files, folders of an app's own script, or backup folders of another repository."
        ),
    ],
    at: Annotated[
        datetime | None,
        option(
            "--at",
            "TIME",
            "Creation time (2026-01-31T03:00, local time without Z); default: from its name.",
            parse_time,
        ),
    ] = None,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Verify files that dbctl did not create, and store them as backups.

    Of a folder of a script, all files with names in the profile are adopted, except those that were adopted before. The files
    themselves remain unchanged. Times in file names are read as local time, unless dbctl wrote the
    name.
    """
    from dbctl.extensions.adopt.adopt import AdoptBackup

    with session.open_app() as app:
        keys = load_keys(session, app, (), None)
        operation = AdoptBackup(Repository(app, repository_address), paths, keys, created_at=at)
        return run_with_progress(session, "adopting", operation, dry_run=dry_run)
