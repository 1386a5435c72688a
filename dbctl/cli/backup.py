"""``dbctl backup``: create, verify, copy, and prune backups of running apps."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.app import AllApps, open_app, parse_size, read_duration, read_selections
from dbctl.cli._support.backups import (
    BackupKind,
    BackupName,
    Before,
    Identities,
    PassphraseFile,
    load_keys,
    parse_time,
    run_with_progress,
    select_backup,
    show_byte_progress,
    split_ids_and_paths,
)
from dbctl.cli._support.emit import emit, note, run_change, warn
from dbctl.cli._support.options import (
    DryRun,
    Limit,
    Offset,
    RepositoryAddress,
    Sort,
    read_options,
    requested_page,
    require_address,
)
from dbctl.model import Compression
from dbctl.services.backup import LATEST, ListedKind, Repository

app = typer.Typer(
    name="backup",
    help="Create, list, verify, drill, adopt, copy, prune and delete backups.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _keep_option(name: str, description: str) -> object:
    return typer.Option(f"--keep-{name}", min=0, max=100_000, metavar="N", help=f"Retain {description}.")


def _address_option(*names: str, help_text: str) -> object:
    return typer.Option(*names, callback=require_address, metavar="ADDRESS", help=help_text)


@app.command()
def create(
    ctx: typer.Context,
    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--table", metavar="NAME", help="Back up only this table of a database on a server; repeatable."
        ),
    ] = None,
    dump_format: Annotated[
        str,
        typer.Option(
            "--format", metavar="FORMAT", help="Format of dumps of a server: custom or plain (.sql.gz)."
        ),
    ] = "",
    compress: Annotated[
        Compression | None,
        typer.Option("--compress", help="Compression of database files; default: as configured (gzip)."),
    ] = None,
    bytes_per_second: Annotated[
        int | None,
        typer.Option(
            "--limit-rate",
            parser=parse_size,
            metavar="20M",
            help="Limit copying and compression to N bytes per second. SQLite files with a rollback journal are copied at full speed, because writers wait.",
        ),
    ] = None,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Back up the app's databases while the app runs, and verify the copies.

    Each database is copied as one snapshot. A backup of some tables is partial: it is never the latest one, and
    its tables can only be restored one by one.

    Example: dbctl backup create --app flashpoint-web
    """
    from dbctl.services.backup import CreateBackup

    with open_app(ctx) as app:
        repository, rate = Repository(app, repository_address), bytes_per_second or 0
        operation = CreateBackup(
            repository, form=dump_format, tables=tables or (), compress=compress, rate=rate
        )
        return run_with_progress(ctx, "Copying", operation, dry_run=dry_run)


@app.command("list")
def list_(
    ctx: typer.Context,
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
    path, with the kind foreign; dbctl backup adopt PATH turns them into backups.

    Example: dbctl backup list --kind safety
    """
    from dbctl.services.backup import list_backups
    from dbctl.services.backup.foreign import discovery

    with open_app(ctx) as app:
        repository, page_request = Repository(app, repository_address), requested_page(limit, offset, sort)
        foreign_files = discovery.find_foreign_backups(repository) if kind in (None, "foreign") else []
        listed = list_backups(repository, page_request, database=app.only, kind=kind, foreign=foreign_files)
        for folder in listed.unreadable:
            warn(ctx, f"backup {folder}: cannot read the manifest; run dbctl backup verify")
        for folder in listed.incomplete:
            note(ctx, f"{folder} is incomplete: interrupted, or still being created")
        return emit(ctx, listed.page, app=app)


@app.command("show")
def show_(
    ctx: typer.Context,
    backup: BackupName = "",
    before: Before = None,
    kind: BackupKind = None,
    repository_address: RepositoryAddress = "",
) -> int:
    """Show one backup: its files, tables and verification.

    Example: dbctl backup show latest
    """
    from dbctl.services.backup import BackupDetail

    with open_app(ctx) as app:
        repository = Repository(app, repository_address)
        manifest = select_backup(repository, backup, before, kind)
        return emit(ctx, repository.describe(manifest, BackupDetail), app=app)


@app.command()
def verify(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID|PATH]...",
            help="Ids of backups, or latest; default: all. A path selects a foreign file.",
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Load each backup, check it, and count its rows.")
    ] = False,
    identity: Identities = None,
    passphrase_file: PassphraseFile = None,
    against_live: Annotated[
        bool,
        typer.Option(
            "--against-live",
            help="Compare rows, schema and migrations with the live databases; default: the latest backup.",
        ),
    ] = False,
    repository_address: RepositoryAddress = "",
) -> int:
    """Verify backups: read them completely and compare the checksums. Exit 4 on an error.

    Foreign files are verified, too: a dump is loaded into a temporary database, which is then dropped.

    Example: dbctl backup verify --deep latest
    """
    from dbctl.services.backup import VerifyBackups
    from dbctl.services.backup.foreign import repository_or_temp_dir

    ids, paths = split_ids_and_paths(names or ())
    with open_app(ctx) as app:
        open_repository = repository_or_temp_dir if paths and not ids else Repository
        operation = VerifyBackups(
            open_repository(app, repository_address),
            ids or ([LATEST] if against_live and not paths else []),
            paths,
            keys=load_keys(ctx, app, identity, passphrase_file),
            deep=deep,
            live=against_live,
        )
        with show_byte_progress(ctx, "Reading", operation.size()) as advance:
            checked = operation.run(advance)
        if checked.not_decrypted:
            backups = f"{checked.not_decrypted} encrypted backups"
            note(ctx, f"{backups}: only checksums were compared; --deep also decrypts them")
        for message in checked.remarks:
            warn(ctx, message)
        return emit(ctx, checked.findings, status=checked.status, target=app.name)


@app.command("copy")
def copy_(
    ctx: typer.Context,
    to: Annotated[
        str,
        _address_option("--to", help_text="Destination: a directory, or s3://, az:// or gs://BUCKET/PREFIX."),
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="Ids of backups, or latest; default: all that the destination lacks."
        ),
    ] = None,
    repository: Annotated[
        str,
        _address_option(
            "--from", "--repository", help_text="Source repository instead of the configured one."
        ),
    ] = "",
    dry_run: DryRun = False,
) -> int:
    """Copy backups into another repository, and verify each copy.

    Existing backups are compared and never overwritten. The next run continues an interrupted copy.

    Example: dbctl backup copy --to s3://backups/flashpoint
    """
    from dbctl.services.backup import CopyBackups

    with open_app(ctx) as app:
        operation = CopyBackups(Repository(app, repository), Repository(app, to), names or ())
        return run_with_progress(ctx, "Copying", operation, dry_run=dry_run)


@app.command()
def adopt(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, or backup folders of another repository.")
    ],
    at: Annotated[
        datetime | None,
        typer.Option(
            "--at",
            parser=parse_time,
            metavar="TIME",
            help="Creation time (2026-01-31T03:00, local time without Z); default: from its name.",
        ),
    ] = None,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Verify files that dbctl did not create, and store them as backups.

    The files themselves remain unchanged. Times in file names are read as local time, unless dbctl wrote the
    name.

    Example: dbctl backup adopt old/user_20260105.db.gz --dry-run
    """
    from dbctl.services.backup.foreign import AdoptBackup

    with open_app(ctx) as app:
        keys = load_keys(ctx, app, (), None)
        operation = AdoptBackup(Repository(app, repository_address), paths, keys, created_at=at)
        return run_with_progress(ctx, "Adopting", operation, dry_run=dry_run)


@app.command()
def status(
    ctx: typer.Context,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit 3 if a backup, a verification or a drill is overdue, 4 if a backup is damaged.",
        ),
    ] = False,
    all_apps: AllApps = False,
    repository: RepositoryAddress = "",
) -> int:
    """Show the age, verification and last drill of the backups of each database, and what is overdue.

    The configuration sets the limits: max_age, verify_within, drill_within. No backup is read.

    Example: dbctl backup status --check --all-apps
    """
    from dbctl.services.backup import status as backup_status

    options, selections = read_options(ctx), read_selections(ctx, all_apps=all_apps)
    report = backup_status.collect_status(
        selections, timeout=options.timeout, only=options.db, repository=repository
    )
    for message in report.problems:
        warn(ctx, message)
    for repository_status in report.backups.repositories:
        for name in repository_status.incomplete if not repository_status.interrupted else ():
            note(ctx, f"{repository_status.app}: {name} is being written")
    names = ", ".join(repository_status.app for repository_status in report.backups.repositories)
    exit_status = report.check_status if check else report.status
    return emit(ctx, report.backups, status=exit_status, target=names or None)


@app.command()
def drill(
    ctx: typer.Context,
    backup: Annotated[
        str, typer.Argument(metavar="[ID]", help="Id of a backup; default: the newest of each database.")
    ] = LATEST,
    all_apps: AllApps = False,
    identity: Identities = None,
    passphrase_file: PassphraseFile = None,
    repository: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Restore the newest backup of each database into a temporary location, verify it, and record the result.

    Live databases remain unchanged: files are restored into a temporary folder, dumps into a new database on the
    server (or on the configured scratch server), and both are deleted at the end. Exit 4 if a backup fails.

    Example: dbctl backup drill --all-apps
    """
    from dbctl.services.restore import RunDrills

    with ExitStack() as stack:
        selections = read_selections(ctx, all_apps=all_apps)
        apps = [stack.enter_context(open_app(ctx, selection)) for selection in selections]
        operation = RunDrills(
            apps,
            lambda app: load_keys(ctx, app, identity, passphrase_file),
            repository=repository,
            name=backup,
        )
        return run_with_progress(ctx, "Restoring", operation, dry_run=dry_run)


@app.command()
def prune(
    ctx: typer.Context,
    keep_last: Annotated[int, _keep_option("last", "the N newest")] = 0,
    hourly: Annotated[int, _keep_option("hourly", "the newest of each of the last N hours")] = 0,
    daily: Annotated[int, _keep_option("daily", "the newest of each of the last N days")] = 0,
    weekly: Annotated[int, _keep_option("weekly", "the newest of each of the last N weeks")] = 0,
    monthly: Annotated[int, _keep_option("monthly", "the newest of each of the last N months")] = 0,
    yearly: Annotated[int, _keep_option("yearly", "the newest of each of the last N years")] = 0,
    within: Annotated[
        timedelta | None,
        typer.Option(
            "--keep-within",
            parser=read_duration,
            metavar="30d",
            help="Retain all backups up to this age.",
        ),
    ] = None,
    repository: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Delete the backups that the retention does not cover; without options, the configured retention (keep)
    applies.

    Periods without a backup are not counted. The newest backup of each database is always retained, and so are
    damaged backups, which do not count. If the clock contradicts the backups, nothing is deleted.

    Example: dbctl backup prune --keep-daily 14 --dry-run
    """
    from dbctl.config import Retention
    from dbctl.services.backup import PruneBackups

    age = f"{within.total_seconds():.0f}s" if within else ""
    keep = Retention(
        last=keep_last, hourly=hourly, daily=daily, weekly=weekly, monthly=monthly, yearly=yearly, within=age
    )
    with open_app(ctx) as app:
        return run_change(ctx, PruneBackups(Repository(app, repository), keep), dry_run=dry_run)


@app.command()
def delete(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of backups.")],
    repository: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Delete the named backups, regardless of the retention.

    Refused if a database would have no other valid backup.

    Example: dbctl backup delete 20260105_030000
    """
    from dbctl.services.backup import DeleteBackups

    with open_app(ctx) as app:
        return run_change(ctx, DeleteBackups(Repository(app, repository), names), dry_run=dry_run)
