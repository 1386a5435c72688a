"""``dbctl backup``: made while the app writes, proven, and never pruned to nothing."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from dbctl.cli._support.app import AllApps, opened, selections, show, size_in_bytes, span
from dbctl.cli._support.backups import (
    Before,
    Identities,
    OfKind,
    PassphraseFile,
    RepositoryAt,
    Which,
    address,
    apart,
    copying,
    found_in,
    keys_of,
    moment,
)
from dbctl.cli._support.emit import change, emit, note, warn
from dbctl.cli._support.options import DryRun, Limit, Offset, Sort, call, window
from dbctl.config import Keep
from dbctl.model import Compression
from dbctl.services.backup import (
    LATEST,
    BackupShown,
    Copying,
    Creation,
    Deletion,
    ListedKind,
    Pruning,
    Repository,
    copy,
    list_backups,
)
from dbctl.services.backup import create as backup_create
from dbctl.services.backup import status as backup_status
from dbctl.services.backup import verify as backup_verify
from dbctl.services.backup.foreign import Adoption, detect, discovery
from dbctl.services.backup.foreign import verify as backup_try
from dbctl.services.restore import Drills

app = typer.Typer(
    name="backup",
    help="Backups: make, list, verify, drill, adopt, copy, prune, delete.",
    no_args_is_help=True,
    rich_markup_mode=None,
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
    rate: Annotated[
        int | None,
        typer.Option(
            "--limit-rate",
            parser=size_in_bytes,
            metavar="20M",
            help="Read at most so many bytes a second while copying, then while packing; of a file in DELETE mode, whose writers wait for the copy, only while packing.",
        ),
    ] = None,
    repository: RepositoryAt = "",
    dry_run: DryRun = False,
) -> int:
    """Copy the app's databases, each at one moment, while the app writes; prove the copies, and keep them.

    A backup of some tables counts as partial: it is never the latest, and gives back its tables one by one.
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
                rate=rate or 0,
                advance=advance,
            )
            return change(ctx, work, target=found.name)


@app.command("list")
def list_(
    ctx: typer.Context,
    kind: Annotated[
        ListedKind | None, typer.Option("--kind", help="Only those of a kind.", show_default=False)
    ] = None,
    repository: RepositoryAt = "",
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List the backups, the newest first; those that restores made before they began are called safety.

    Behind them stand the files that the app's own scripts or hands left (foreign), by their paths: unproven until
    dbctl backup verify PATH has read them, and backups like the others once dbctl backup adopt PATH has made them so.
    """
    with opened(ctx) as found:
        kept, wanted = Repository(found, repository), window(limit, offset, sort)
        loose = discovery.found(found, kept) if kind in (None, "foreign") else []
        listed = list_backups(kept, wanted, database=found.only, kind=kind, loose=loose)
        for name in listed.unread:
            warn(ctx, f"backup {name} has a manifest that cannot be read; dbctl backup verify tells more")
        for name in listed.incomplete:
            note(ctx, f"{name} was cut off, or is being made now: no backup")
        return show(ctx, found, listed.page)


@app.command("show")
def show_(
    ctx: typer.Context,
    backup: Which = "",
    before: Before = None,
    kind: OfKind = None,
    repository: RepositoryAt = "",
) -> int:
    """Show one backup and what it holds."""
    with opened(ctx) as found:
        kept = Repository(found, repository)
        return show(ctx, found, kept.told(found_in(kept, backup, before, kind), BackupShown))


@app.command()
def verify(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID|PATH]...",
            help="Backups by id, or latest; none: all. A path is a file that somebody else made.",
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Open each, check it through, and count its rows.")
    ] = False,
    identity: Identities = None,
    passphrase_file: PassphraseFile = None,
    against_live: Annotated[
        bool,
        typer.Option(
            "--against-live",
            help="Compare rows, schema and migrations with the running databases; none named: the latest.",
        ),
    ] = False,
    repository: RepositoryAt = "",
) -> int:
    """Read backups whole and compare them with what was written; exit 4 on an error.

    A file that dbctl did not make is read whole, too, and tried: a dump is loaded into a database that is dropped again.
    """
    ids, paths = apart(names or ())
    with opened(ctx) as found:
        kept = backup_try.room(found, repository) if paths and not ids else Repository(found, repository)
        chosen = ids or ([LATEST] if against_live and not paths else [])
        keys = keys_of(ctx, found, identity, passphrase_file)
        if deep and not (paths and not ids):
            backup_verify.ready(kept, chosen, keys)
        with copying(ctx, "Reading", backup_try.size(kept, chosen, paths)) as advance:
            checked = backup_try.verify(
                found, kept, chosen, paths, deep=deep, keys=keys, live=against_live, advance=advance
            )
        if checked.unopened:
            note(ctx, f"{checked.unopened} encrypted: their files are as written; --deep also opens them")
        for remark in checked.remarks:
            warn(ctx, remark)
        return emit(ctx, checked.findings, status=checked.status, target=found.name)


@app.command("copy")
def copy_(
    ctx: typer.Context,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            callback=address,
            metavar="ADDRESS",
            help="Where they go: a directory, or s3://BUCKET/PREFIX.",
        ),
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Backups by id, or latest; none: all that are not there yet."),
    ] = None,
    repository: Annotated[
        str,
        typer.Option(
            "--from",
            "--repository",
            callback=address,
            metavar="ADDRESS",
            help="Where they are, in place of the configured one.",
        ),
    ] = "",
    dry_run: DryRun = False,
) -> int:
    """Copy backups into another repository, byte for byte, and prove them on the way.

    What is there already is compared and never written over. A copy that was cut off goes on with the next run.
    """
    with opened(ctx) as found:
        source, destination = Repository(found, repository), Repository(found, to)
        chosen = copy.choose(found, source, destination, names or ())
        with copying(ctx, "Copying", chosen.bytes) as advance:
            timeout = call(ctx).timeout
            work = Copying(found, source, destination, chosen, timeout=timeout, advance=advance)
            return change(ctx, work, target=found.name)


@app.command()
def adopt(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, or folders of another repository.")
    ],
    at: Annotated[
        datetime | None,
        typer.Option(
            "--at",
            parser=moment,
            metavar="TIME",
            help="When it was made (2026-01-31T03:00, local time without Z); else as its name tells.",
        ),
    ] = None,
    repository: RepositoryAt = "",
    dry_run: DryRun = False,
) -> int:
    """Make backups of files that dbctl did not make: proven, and from then on listed, pruned and restored like others.

    The files stay as they are. Times in names are read as local time where dbctl did not give them.
    """
    with opened(ctx) as found:
        kept = Repository(found, repository)
        with copying(ctx, "Adopting", detect.size(paths)) as advance:
            work = Adoption(
                found,
                kept,
                paths,
                keys_of(ctx, found, (), None),
                at=at,
                timeout=call(ctx).timeout,
                advance=advance,
            )
            return change(ctx, work, target=found.name)


@app.command()
def status(
    ctx: typer.Context,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Exit 3 where a backup, a verification or a drill is overdue, 4 on a damaged one."
        ),
    ] = False,
    all_apps: AllApps = False,
    repository: RepositoryAt = "",
) -> int:
    """Show how old the backups of each database are, when they were verified and restored on trial, and what is due.

    What is due is said in the configuration: max_age, verify_within, drill_within. No backup is read for that.
    """
    said = selections(ctx, all_apps=all_apps)
    told = backup_status.survey(said, timeout=call(ctx).timeout, only=call(ctx).db, repository=repository)
    for text in told.troubles:
        warn(ctx, text)
    for one in told.standing.repositories:
        for name in one.incomplete if not one.cut_off else ():
            note(ctx, f"{one.app}: {name} is being written")
    names = ", ".join(one.app for one in told.standing.repositories)
    return emit(ctx, told.standing, status=told.check if check else told.status, target=names or None)


@app.command()
def drill(
    ctx: typer.Context,
    backup: Annotated[
        str, typer.Argument(metavar="[ID]", help="A backup by id; else the newest of each database.")
    ] = LATEST,
    all_apps: AllApps = False,
    identity: Identities = None,
    passphrase_file: PassphraseFile = None,
    repository: RepositoryAt = "",
    dry_run: DryRun = False,
) -> int:
    """Restore the newest backup of each database where nobody looks, prove it there, and record that and how long it took.

    The live databases are not touched: files go into a folder of their own, dumps into a new database on the server
    (or on that of scratch in the configuration), all of which is gone at the end. Exit 4 where a backup fails.
    """
    with ExitStack() as held:
        apps = [held.enter_context(opened(ctx, one)) for one in selections(ctx, all_apps=all_apps)]
        work = Drills(
            apps,
            lambda app: keys_of(ctx, app, identity, passphrase_file),
            repository=repository,
            name=backup,
        )
        work.advance = held.enter_context(copying(ctx, "Restoring", work.size()))
        return change(ctx, work, target=work.target)


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
            help="Keep all that are no older than this.",
        ),
    ] = None,
    repository: RepositoryAt = "",
    dry_run: DryRun = False,
) -> int:
    """Delete the backups that no rule keeps; without options, the configured rules (keep) count.

    Hours, days and so on in which no backup was made are not counted. The newest backup of each database always stays.
    Backups that are damaged do not count, and stay too. While the clock contradicts the backups, nothing is deleted.
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


@app.command()
def delete(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="ID...", help="Backups by id.")],
    repository: RepositoryAt = "",
    dry_run: DryRun = False,
) -> int:
    """Delete the named backups, whatever the rules of retention say.

    Refused where no other sound backup of one of their databases would be left.
    """
    with opened(ctx) as found:
        work = Deletion(found, Repository(found, repository), names, timeout=call(ctx).timeout)
        return change(ctx, work, target=found.name)
