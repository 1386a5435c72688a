"""``dbctl backup log``: store the log of a server since the last call."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from typing import TYPE_CHECKING

from dbctl.cli._support.backups import run_with_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.parameters import DryRun, RepositoryAddress
from dbctl.cli._support.session import Session
from dbctl.model import DryRunResult
from dbctl.services.backup.repository import Repository
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.extensions.recover.log_backup import LogArchived

GROUP = Group("backup", checks_profile=False)


@Example("backup log --db main")
@Example("backup log --dry-run")
@GROUP.command("log", answers=lambda: (LogArchived, DryRunResult), recorded=True)
def log(session: Session, repository_address: RepositoryAddress = "", dry_run: DryRun = False) -> int:
    """Store the log that a server has written since the last call, for backup recover.

    Run it by cron, as often as an hour or a minute of data may be lost. On PostgreSQL, the first call creates a replication
    slot: from then on the server keeps its log until it was fetched. Limit that with max_slot_wal_keep_size, and drop the
    slot when the calls end. On MariaDB, the server must keep its binary logs for longer than the time between two calls
    (binlog_expire_logs_seconds), and each backup after the first call records its position in them.
    """
    from dbctl.extensions.recover.log_backup import BackUpLog

    with session.open_app() as app:
        operation = BackUpLog(Repository(app, repository_address))
        return run_with_progress(session, "fetching", operation, dry_run=dry_run)
