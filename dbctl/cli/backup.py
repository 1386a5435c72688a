"""``dbctl backup``: create, verify, copy, and prune backups of running apps."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from dbctl.cli import backup_retention
from dbctl.cli._support.backups import (
    BackupKind,
    BackupName,
    Before,
    Identities,
    PassphraseFiles,
    Roles,
    load_keys,
    parse_moment,
    parse_roles,
    run_with_progress,
    select_backup,
    split_ids_and_paths,
)
from dbctl.cli._support.emit import emit, note, show_progress, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.hooks import begin_action
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import (
    ADDRESS_FORMS,
    AllApps,
    DryRun,
    Limit,
    Offset,
    RepositoryAddress,
    Sort,
    read_period,
    read_selections,
    read_size,
    requested_page,
)
from dbctl.cli._support.session import Session
from dbctl.errors.base import Remedy
from dbctl.errors.usage import UsageError
from dbctl.extensions import registry
from dbctl.model import Compression, Findings, Page
from dbctl.services.backup.listing import list_backups
from dbctl.services.backup.repository import LATEST, BackupDetail, ListedKind, Repository
from dbctl.spec import EVERYWHERE, Example, Fleet

if TYPE_CHECKING:
    from dbctl.services.backup.copy import BackupsCopied
    from dbctl.services.backup.create import BackupCreated
    from dbctl.services.backup.rekey import BackupsRekeyed
    from dbctl.services.backup.repository import Backup
    from dbctl.services.backup.status import BackupStatus
    from dbctl.services.restore.drill_run import DrillResult


GROUP = Group(
    "backup",
    section="Back up",
    position=1,
    help="Create, list, verify, drill, copy and prune backups.",
    checks_profile=False,
)


@Example("backup create --app {app}", on=EVERYWHERE)
@Example("backup create --db user --repository /mnt/backups")
@Example("backup create", shown=False, meaning="Back up the databases, and verify the copies.")
@GROUP.command(
    "create", answers=lambda: (BackupCreated,), action="backup", recorded=True, fleet=Fleet(resumes=True)
)
def create(
    session: Session,
    tables: Annotated[
        list[str] | None,
        option("--table", "NAME", "Back up only this table of a database on a server; repeatable."),
    ] = None,
    dump_format: Annotated[
        str, option("--format", "FORMAT", "Format of dumps of a server: custom or plain (.sql.gz).")
    ] = "",
    compress: Annotated[
        Compression | None,
        typer.Option(
            "--compress", help="Compression of database files and dumps; default: as configured (gzip)."
        ),
    ] = None,
    bytes_per_second: Annotated[
        int | None,
        option(
            "--limit-rate",
            "20M",
            "Limit copying and compression to N bytes per second. SQLite files with a rollback journal are copied at full speed, because writers wait.",
            read_size,
        ),
    ] = None,
    secrets: Annotated[
        bool,
        flag(
            "--secrets",
            "Include the password hashes of the roles of servers, which restore apply --roles create sets.",
        ),
    ] = False,
    full: Annotated[
        bool, flag("--full", "Store no database as its difference from an earlier backup (incremental).")
    ] = False,
    stream: Annotated[
        bool | None,
        flag(
            "--stream/--no-stream",
            "Store dumps of servers while they are written, without a local copy; default: as configured.",
        ),
    ] = None,
    physical: Annotated[
        bool,
        flag(
            "--physical",
            "Copy the files of the whole server of a database instead, from which backup recover starts.",
        ),
    ] = False,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Back up the app's databases while the app runs, and verify the copies.

    Each database is copied as one snapshot. A backup of some tables is partial: it is never the latest one, and
    its tables can only be restored one by one. Passwords of roles that administer a server are never included, except in
    a physical copy, which has all databases and roles of the server.
    """
    from dbctl.services.backup.create import CreateBackup
    from dbctl.services.history import record_backup

    with session.open_app() as app, begin_action(session, app):
        repository = Repository(app, repository_address)
        if physical:
            if tables or dump_format or compress or bytes_per_second or secrets or full or stream:
                raise UsageError(
                    detail="--physical copies the files of the server: omit the other options of the copy"
                )
            copy_server = registry.require("copy_server", "a physical copy of a server", "Omit --physical.")
            return run_with_progress(session, "copying", copy_server(repository), dry_run=dry_run)
        operation = CreateBackup(
            repository,
            form=dump_format,
            tables=tables or (),
            compress=compress,
            rate=bytes_per_second or 0,
            secrets=secrets,
            full=full,
            stream=stream,
            record=partial(record_backup, session.journal),
        )
        return run_with_progress(session, "copying", operation, dry_run=dry_run)


@Example("backup list --kind safety")
@Example("backup list --sort -bytes --limit 5", on=EVERYWHERE)
@GROUP.command("list", answers=lambda: (Page[Backup],), fleet=Fleet())
def list_(
    session: Session,
    kind: Annotated[
        ListedKind | None, typer.Option("--kind", help="List only backups of this kind.", show_default=False)
    ] = None,
    repository_address: RepositoryAddress = "",
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List backups, newest first.

    Backups that a restore created first have the kind safety. Files that other programs left are listed last, by
    path, with the kind foreign; dbctl backup adopt PATH turns them into backups. Parts of the log of a server are only
    listed with --kind log.
    """
    from dbctl.services.backup.named_files import find_foreign_backups

    with session.open_app() as app:
        repository, page_request = Repository(app, repository_address), requested_page(limit, offset, sort)
        foreign_files = find_foreign_backups(repository, kind)
        listed = list_backups(repository, page_request, database=app.only, kind=kind, foreign=foreign_files)
        for folder in listed.unreadable:
            text = Remedy("backup {id}: cannot read the manifest; check it with: `backup verify {id}`")
            warn(session, text.write(facts={"id": folder}))
        for folder in listed.incomplete:
            note(session, f"{folder} is incomplete: interrupted, or still being created")
        return emit(session, listed.page, app=app)


@Example("backup show latest", on=EVERYWHERE)
@Example("backup show --before 2026-01-05T03:00 -o json")
@GROUP.command("show", answers=lambda: (BackupDetail,))
def show_(
    session: Session,
    backup: BackupName = "",
    before: Before = None,
    kind: BackupKind = None,
    repository_address: RepositoryAddress = "",
) -> int:
    """Show one backup: its files, tables and verification."""
    from dbctl.services.backup import deltas

    with session.open_app() as app:
        repository = Repository(app, repository_address)
        manifest = select_backup(repository, backup, before, kind)
        dependents = deltas.find_dependents(repository.manifests()[0]).get(manifest.id, ())
        return emit(session, repository.describe(manifest, BackupDetail, dependents=dependents), app=app)


@Example("backup verify --deep latest", on=EVERYWHERE)
@Example("backup verify 20260105_030000 --identity key.txt")
@GROUP.command("verify", answers=lambda: (Findings,), recorded=True, findings=True, fleet=Fleet(resumes=True))
def verify(
    session: Session,
    names: Annotated[
        list[str] | None,
        argument("[ID|PATH]...", "Ids of backups, or latest; default: all. A path selects a foreign file."),
    ] = None,
    deep: Annotated[bool, flag("--deep", "Load each backup, check it, and count its rows.")] = False,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    against_live: Annotated[
        bool,
        flag(
            "--against-live",
            "Compare rows, schema and migrations with the live databases; default: the latest backup.",
        ),
    ] = False,
    repository_address: RepositoryAddress = "",
) -> int:
    """Verify backups: read them completely and compare the checksums. Exit 4 on an error.

    Foreign files are verified, too: a dump is loaded into a temporary database, which is then dropped.
    """
    from dbctl.services.backup.named_files import repository_or_temp_dir
    from dbctl.services.backup.verify import VerifyBackups

    ids, paths = split_ids_and_paths(names or ())
    with session.open_app() as app:
        open_repository = repository_or_temp_dir if paths and not ids else Repository
        operation = VerifyBackups(
            open_repository(app, repository_address),
            ids or ([LATEST] if against_live and not paths else []),
            paths,
            keys=load_keys(session, app, identity, passphrase_file),
            deep=deep,
            live=against_live,
        )
        with show_progress(session, "reading", operation.size(), unit="bytes"):
            checked = operation.run()
        if checked.not_decrypted:
            backups = f"{checked.not_decrypted} encrypted backups"
            note(session, f"{backups}: only checksums were compared; --deep also decrypts them")
        for message in checked.remarks:
            warn(session, message)
        return emit(session, checked.findings, status=checked.status, target=app.name)


@Example("backup copy --to s3://backups/flashpoint --object-lock 30d")
@Example("backup copy latest --to copies", on=EVERYWHERE)
@GROUP.command("copy", answers=lambda: (BackupsCopied,), recorded=True)
def copy_(
    session: Session,
    to: Annotated[str, option("--to", "ADDRESS", f"Destination: {ADDRESS_FORMS}.")],
    names: Annotated[
        list[str] | None,
        argument("[ID]...", "Ids of backups, or latest; default: all that the destination lacks."),
    ] = None,
    repository_address: Annotated[
        str,
        typer.Option(
            "--from",
            "--repository",
            metavar="ADDRESS",
            help="Source repository instead of the configured one.",
        ),
    ] = "",
    object_lock: Annotated[
        str,
        option(
            "--object-lock",
            "30d",
            "How long the server deletes no file of a new copy; an S3 bucket with object lock only.",
        ),
    ] = "",
    dry_run: DryRun = False,
) -> int:
    """Copy backups into another repository, and verify each copy.

    Existing backups are compared and never overwritten. The next run continues an interrupted copy.
    """
    from dbctl.services.backup.copy import CopyBackups

    with session.open_app() as app:
        if object_lock:
            read_period(object_lock)
        destination = Repository(app, to, object_lock=object_lock)
        operation = CopyBackups(Repository(app, repository_address), destination, names or ())
        return run_with_progress(session, "copying", operation, dry_run=dry_run)


@Example("backup rekey --dry-run --identity old-key.txt")
@Example("backup rekey --identity old-key.txt --yes")
@GROUP.command("rekey", answers=lambda: (BackupsRekeyed,), recorded=True)
def rekey(
    session: Session,
    names: Annotated[
        list[str] | None,
        argument("[ID]...", "Ids of backups, or latest, and those related as bases; default: all."),
    ] = None,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Encrypt existing backups again, for the configured recipients or passphrase; the options decrypt them.

    The files are added, compared by the checksums of their content, and replace the former ones with the manifest. The next run continues an interrupted one.
    """
    from dbctl.services.backup.rekey import RekeyBackups

    with session.open_app() as app:
        keys = load_keys(session, app, identity, passphrase_file)
        operation = RekeyBackups(Repository(app, repository_address), names or (), keys)
        return run_with_progress(session, "encrypting", operation, dry_run=dry_run)


@Example("backup status --check", on=EVERYWHERE)
@Example("backup status --app {app} -o json", on="flashpoint-web")
@GROUP.command(
    "status", answers=lambda: (BackupStatus,), findings=True, fleet=Fleet(replaces={"all_apps": False})
)
def status(
    session: Session,
    check: Annotated[
        bool,
        flag(
            "--check",
            "Exit 3 if a backup, a verification, a drill or a log is overdue, a log has a gap or a backup has shrunk, 4 if a backup is damaged.",
        ),
    ] = False,
    all_apps: AllApps = False,
    repository_address: RepositoryAddress = "",
) -> int:
    """Show the age, verification and last drill of the backups of each database, and what is overdue.

    The configuration sets the limits: max_age, verify_within, drill_within, max_log_age. No backup is read.
    """
    from dbctl.services.backup import status as backup_status

    options, selections = session.options, read_selections(session, all_apps=all_apps)
    report = backup_status.collect_status(
        selections, timeout=options.timeout, only=options.db, repository=repository_address
    )
    for message in report.problems:
        warn(session, message)
    for repository_status in report.backups.repositories:
        for name in repository_status.incomplete if not repository_status.interrupted else ():
            note(session, f"{repository_status.app}: {name} is being written")
    names = ", ".join(repository_status.app for repository_status in report.backups.repositories)
    exit_status = report.check_status if check else report.status
    findings = report.findings.raise_warnings() if check else report.findings
    return emit(session, report.backups, status=exit_status, target=names or None, findings=findings)


@Example("backup drill --all-apps")
@Example("backup drill latest --db user")
@GROUP.command(
    "drill",
    answers=lambda: (DrillResult,),
    recorded=True,
    findings=True,
    fleet=Fleet(resumes=True, replaces={"all_apps": False}),
)
def drill(
    session: Session,
    backup: Annotated[
        str, argument("[ID]", "Id of a backup; default: the newest of each database.")
    ] = LATEST,
    at: Annotated[
        datetime | None,
        option(
            "--at",
            "TIME",
            "Recover one database as of a moment, as backup recover does, and drill the result, which is then deleted; random: any moment of the stored log.",
            parse_moment,
        ),
    ] = None,
    all_apps: AllApps = False,
    roles: Roles = None,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Restore the newest backup of each database into a temporary location, verify it, and record the result.

    Live databases remain unchanged: files are restored into a temporary folder, dumps into a new database on the
    server (or on the configured scratch server), and both are deleted at the end. Exit 4 if a backup fails.
    With --at, the private server of backup recover recovers a moment first, and no backup remains.
    """
    from dbctl.services.restore.drill import RunDrills

    policy = parse_roles(roles)
    if at is not None:
        if backup != LATEST or all_apps:
            raise UsageError(
                detail="--at selects the copy and the log of one database: omit ID and --all-apps"
            )
        drill_moment = registry.require("drill_moment", "a drill of a moment", "Omit --at.")
        with session.open_app() as app:
            keys = load_keys(session, app, identity, passphrase_file)
            operation = drill_moment(Repository(app, repository_address), at, keys, roles=policy)
            return run_with_progress(session, "recovering", operation, dry_run=dry_run)
    with ExitStack() as stack:
        selections = read_selections(session, all_apps=all_apps)
        apps = [stack.enter_context(session.open_app(selection)) for selection in selections]
        operation = RunDrills(
            apps,
            lambda app: load_keys(session, app, identity, passphrase_file),
            repository=repository_address,
            name=backup,
            roles=policy,
        )
        return run_with_progress(session, "restoring", operation, dry_run=dry_run)


GROUP.include(backup_retention.GROUP)
