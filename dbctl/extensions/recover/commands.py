"""``dbctl backup recover``: create a backup of a database as of a moment, from what another program archived."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.backups import Identities, PassphraseFiles, load_keys, parse_moment, run_with_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import option
from dbctl.cli._support.parameters import DryRun, RepositoryAddress
from dbctl.cli._support.session import Session
from dbctl.model import DryRunResult
from dbctl.services.backup.repository import Repository
from dbctl.spec import Example

if TYPE_CHECKING:
    from dbctl.services.backup.create import BackupCreated

GROUP = Group("backup", checks_profile=False)


@Example("backup recover --at 2026-01-05T14:30:00 --dry-run")
@Example("backup recover --at 30m --db main")
@GROUP.command("recover", answers=lambda: (BackupCreated, DryRunResult), recorded=True)
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
