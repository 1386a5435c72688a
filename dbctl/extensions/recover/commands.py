"""``dbctl backup log`` and ``recover``: store the log of a server, and create a backup of a database as of a moment."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.backups import Identities, PassphraseFiles, load_keys, parse_moment, run_with_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import option
from dbctl.cli._support.parameters import DryRun, RepositoryAddress
from dbctl.cli._support.session import Session
from dbctl.services.backup.repository import Repository
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.extensions.recover.log_backup import LogArchived
    from dbctl.services.backup.create import BackupCreated

GROUP = Group("backup", checks_profile=False)


@Example("backup log --db main")
@Example("backup log --dry-run")
@GROUP.command("log", answers=lambda: (LogArchived,), recorded=True)
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


@Example("backup recover --at 2026-01-05T14:30:00 --dry-run")
@Example("backup recover --at 30m --db main")
@GROUP.command("recover", answers=lambda: (BackupCreated,), recorded=True)
def recover(
    session: Session,
    at: Annotated[
        datetime,
        option(
            "--at",
            "TIME",
            "The moment: what was committed before it is in the backup. 2026-11-19T03:00 (local time), 2026-11-19T02:00:00.5Z, an age: 3h, or random: one of the stored log.",
            parse_moment,
        ),
    ],
    repository_address: RepositoryAddress = "",
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    dry_run: DryRun = False,
) -> int:
    """Create a backup of one database as it was at a moment.

    A private server without network replays the log that backup log stored, or that another program archived, up to the moment,
    after a copy of the server, or, on MariaDB, after a backup of dbctl; its database is then backed up, and the server is
    deleted. On MariaDB, a moment is the beginning of its second: a transaction belongs to the second in which its COMMIT
    began. The live database is not read or changed. The backup has the kind recovered: it
    is never the latest one.
    """
    from dbctl.extensions.recover.operation import RecoverBackup

    with session.open_app() as app:
        keys = load_keys(session, app, identity, passphrase_file)
        operation = RecoverBackup(Repository(app, repository_address), at, keys)
        return run_with_progress(session, "recovering", operation, dry_run=dry_run)
