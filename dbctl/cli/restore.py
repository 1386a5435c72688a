"""``dbctl restore``: restore backups into live databases, and undo a restore."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from dbctl.cli._support.backups import (
    BackupKind,
    BackupName,
    Before,
    Identities,
    PassphraseFiles,
    Roles,
    load_keys,
    parse_roles,
    run_with_progress,
    select_backup,
)
from dbctl.cli._support.emit import emit, note, run_change, show_progress, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.hooks import begin_action
from dbctl.cli._support.options import flag, option
from dbctl.cli._support.parameters import DryRun, RepositoryAddress
from dbctl.cli._support.session import Session
from dbctl.engines.contract.dumps import RolePolicy
from dbctl.errors.usage import UsageError
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.manifest import Kind
from dbctl.services.backup.repository import LATEST, Repository
from dbctl.services.restore.source import BackupSource, MergeMode
from dbctl.spec import EVERYWHERE, Example, Write

if TYPE_CHECKING:
    from dbctl.services.app.app import App
    from dbctl.services.restore.app_files import FilesRestoreResult
    from dbctl.services.restore.apply import RestoreResult
    from dbctl.services.restore.copy import CopyResult
    from dbctl.services.restore.preview import Preview
    from dbctl.services.restore.tables import TablesRestoreResult


GROUP = Group(
    "restore",
    section="Back up",
    position=2,
    help="Restore a backup, or salvage a damaged database.",
    checks_profile=False,
)


BackupFile: TypeAlias = Annotated[
    Path | None,
    option(
        "--file",
        "PATH",
        "Restore a foreign file, or a backup folder of another repository, instead of a backup by id.",
    ),
]


@Example("restore preview latest", on=EVERYWHERE)
@Example("restore preview --before 3h --db user")
@GROUP.command("preview", answers=lambda: (Preview,))
def preview(
    session: Session,
    backup: BackupName = "",
    file: BackupFile = None,
    before: Before = None,
    kind: BackupKind = None,
    deep: Annotated[
        bool,
        flag(
            "--deep",
            "On a server: load the backup into a temporary database, and compare settings and migrations.",
        ),
    ] = False,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    repository_address: RepositoryAddress = "",
) -> int:
    """Show what a restore would change: rows per table, schema, migrations, settings, and processes that have the
    files open.
    """
    from dbctl.services.restore import preview as restore_preview

    with ExitStack() as stack:
        app = stack.enter_context(session.open_app())
        keys = load_keys(session, app, identity, passphrase_file)
        source = stack.enter_context(
            _open_backup(session, app, repository_address, backup or LATEST, file, before, kind, keys)
        )
        return emit(session, restore_preview.preview(source, deep=deep), app=app)


@Example("restore apply latest --dry-run", on="flashpoint-web custom")
@Example("restore apply 20260105_030000 --table users --merge missing --dry-run")
@GROUP.command(
    "apply",
    answers=lambda: (RestoreResult, CopyResult, TablesRestoreResult),
    writes=Write(source="generated", facts=("audit",), audited=False),
    action="restore",
)
def apply(
    session: Session,
    backup: BackupName = "",
    file: BackupFile = None,
    before: Before = None,
    kind: BackupKind = None,
    to: Annotated[
        list[str] | None,
        option(
            "--to",
            "[NAME=]URL",
            "Create a copy of a database at this address, and leave the app unchanged; repeatable.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        flag(
            "--replace",
            "With --to: replace the existing content permanently. Otherwise: drop tables that a foreign dump lacks.",
        ),
    ] = False,
    table: Annotated[
        list[str] | None, option("--table", "NAME", "Restore only this table; repeatable with --merge.")
    ] = None,
    new_table: Annotated[str, option("--into", "NEW", "With --table: restore into this new table.")] = "",
    merge: Annotated[
        MergeMode | None,
        typer.Option(
            "--merge",
            help="With --table: insert rows with missing keys; replace: also overwrite rows that differ.",
            show_default=False,
        ),
    ] = None,
    roles: Roles = None,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Restore a backup into the live databases, one transaction per database.

    The backup is verified first, and the replaced data is stored as a safety backup. The app may run: it sees
    either the old or the new data. With --to, a copy is created that the app does not use. With --table, one
    table is restored: into a new table (--into), or row by row (--merge); secrets in existing rows remain.
    """
    _check_options(to=to, replace=replace, table=table, new_table=new_table, merge=merge, roles=roles)
    policy = parse_roles(roles)
    with ExitStack() as stack:
        app = stack.enter_context(session.open_app())
        keys = load_keys(session, app, identity, passphrase_file)
        source = stack.enter_context(
            _open_backup(session, app, repository_address, backup, file, before, kind, keys, policy)
        )
        if to:
            from dbctl.config import loader
            from dbctl.services.restore.copy import CopyRestore

            targets = loader.parse_urls(to, Path.cwd(), option="--to")
            copy = CopyRestore(source, targets, replace=replace)
            return run_with_progress(session, "copying", copy, dry_run=dry_run)
        with begin_action(session, app, backup=source.identify()):
            if table:
                from dbctl.services.restore.merge import TableSelection
                from dbctl.services.restore.tables import RestoreTables

                selection = TableSelection(tables=table, new_name=new_table, merge=merge)
                return run_with_progress(
                    session, "restoring", RestoreTables(source, selection), dry_run=dry_run
                )
            from dbctl.services.restore.apply import ApplyRestore

            return run_with_progress(
                session, "restoring", ApplyRestore(source, replace=replace), dry_run=dry_run
            )


@Example("restore undo --yes", on=EVERYWHERE)
@Example("restore undo --db user --dry-run")
@GROUP.command(
    "undo",
    answers=lambda: (RestoreResult,),
    writes=Write(source="generated", facts=("audit",), audited=False),
    action="restore",
)
def undo(
    session: Session,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Restore the data from before the last restore that replaced data; a second undo reverts the first one."""
    from dbctl.services.restore.apply import ApplyRestore, find_undo_backup

    with session.open_app() as app:
        repository = Repository(app, repository_address)
        keys = load_keys(session, app, identity, passphrase_file)
        source = BackupSource(repository, find_undo_backup(repository), keys)
        with begin_action(session, app, backup=source.identify()):
            return run_with_progress(session, "restoring", ApplyRestore(source), dry_run=dry_run)


@Example("restore files latest --to restored", on="samples")
@Example("restore files --file files.tar --to restored", on="flashpoint-web custom")
@GROUP.command("files", answers=lambda: (FilesRestoreResult,), recorded=True)
def files(
    session: Session,
    to: Annotated[Path, option("--to", "DIR", "New folder.")],
    backup: BackupName = "",
    file: Annotated[
        Path | None, option("--file", "PATH", "Extract this tar archive instead of a backup's.")
    ] = None,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Extract the app's own files from a backup, such as keys and uploads, into a new folder.

    Nothing is written outside that folder: only files and folders are created, and no links. The app's current
    files remain unchanged.
    """
    if bool(backup) == bool(file):
        raise UsageError(detail="pass either the id of a backup (or latest), or --file PATH")
    from dbctl.services.backup.named_files import repository_or_temp_dir
    from dbctl.services.restore.app_files import RestoreFiles

    with session.open_app() as app:
        repository = (
            Repository(app, repository_address) if backup else repository_or_temp_dir(app, repository_address)
        )
        keys = load_keys(session, app, identity, passphrase_file)
        operation = RestoreFiles(repository, file or repository.find(backup), to, keys)
        return run_change(session, operation, dry_run=dry_run)


@contextmanager
def _open_backup(
    session: Session,
    app: "App",
    repository_address: str,
    backup: str,
    file: Path | None,
    before: datetime | None,
    kind: Kind | None,
    keys: DecryptionKeys,
    roles: RolePolicy | None = None,
) -> Iterator[BackupSource]:
    """Yield the selected backup with the repository that reads it."""
    repository = Repository(app, repository_address)
    if file is None:
        yield BackupSource(repository, select_backup(repository, backup, before, kind), keys, roles)
        return
    if (backup and backup != LATEST) or before or kind:
        raise UsageError(detail=f"--file {file} cannot be combined with an id, --before or --kind")
    from dbctl.services.backup.named_files import count_bytes, stage_backup

    with ExitStack() as stack:
        with show_progress(session, "reading", count_bytes([file]), unit="bytes"):
            staged_backup, overlay = stack.enter_context(
                stage_backup(repository, file, trial=False, keys=keys)
            )
        for message in staged_backup.remarks:
            warn(session, message)
        created_at = staged_backup.manifest.created_at
        source = f" ({staged_backup.manifest.origin.time})" if staged_backup.manifest.origin else ""
        note(session, f"{file} is {staged_backup.description}, of {created_at:%Y-%m-%d %H:%M:%S} UTC{source}")
        yield BackupSource(overlay, staged_backup.manifest, keys, roles)


def _check_options(
    *,
    to: Sequence[str] | None,
    replace: bool,
    table: Sequence[str] | None,
    new_table: str,
    merge: MergeMode | None,
    roles: Sequence[str] | None,
) -> None:
    if roles and table:
        raise UsageError(detail="--roles applies to whole databases; rows of a table need no role")
    if to and table:
        raise UsageError(detail="--to and --table cannot be combined: --to copies whole databases")
    if replace and table:
        raise UsageError(
            detail="--replace applies to whole databases; for rows of a table use --merge replace"
        )
    if (new_table or merge) and not table:
        raise UsageError(detail=f"{'--into' if new_table else '--merge'} requires --table NAME")
