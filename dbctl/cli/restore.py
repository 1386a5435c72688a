"""``dbctl restore``: a backup brought back into the live database, with a way back."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._support.app import opened, selection, show
from dbctl.cli._support.backups import (
    Before,
    Identities,
    OfKind,
    PassphraseFile,
    RepositoryAt,
    copying,
    found_in,
    keys_of,
)
from dbctl.cli._support.emit import change, note, progress, warn
from dbctl.cli._support.options import DryRun, call
from dbctl.config import loader
from dbctl.errors import UsageError
from dbctl.services.app import App
from dbctl.services.backup import LATEST, Keys, Kind, Manifest, Repository
from dbctl.services.backup.foreign import detect, verify
from dbctl.services.restore import (
    FilesRestoring,
    Merging,
    Recovering,
    Restoring,
    RestoringTables,
    Wanted,
    copy,
    latest_safety,
    sound,
)
from dbctl.services.restore import merge as restore_rows
from dbctl.services.restore import preview as restore_preview
from dbctl.services.restore import source as restore_source

app = typer.Typer(
    name="restore",
    help="Bring a backup back, undo that, or read a damaged database.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


Meant: TypeAlias = Annotated[str, typer.Argument(metavar="[ID]", help="A backup by id, or latest.")]
FileAt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="PATH",
        help="A file that anybody made, or a folder of another repository, in place of a backup by id.",
    ),
]


@app.command()
def preview(
    ctx: typer.Context,
    backup: Meant = "",
    file: FileAt = None,
    before: Before = None,
    kind: OfKind = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="On a server: load the backup aside, and compare settings and migrations."
        ),
    ] = False,
    identity: Identities = None,
    passphrase_file: PassphraseFile = None,
    repository: RepositoryAt = "",
) -> int:
    """Show what a restore would change: rows of each table, schema, migrations and settings now and then, and who holds the files."""
    with (
        opened(ctx) as found,
        _meant(ctx, found, repository, backup or LATEST, file, before, kind) as (kept, manifest),
    ):
        keys = keys_of(ctx, found, identity, passphrase_file)
        return show(ctx, found, restore_preview.preview(found, kept, manifest, keys, deep=deep))


@app.command()
def apply(
    ctx: typer.Context,
    backup: Meant = "",
    file: FileAt = None,
    before: Before = None,
    kind: OfKind = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="[NAME=]URL",
            help="Leave the app alone, and make a copy of a database there; repeatable.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="With --to: let what is there already go, for good. Else: drop tables that a dump of another program does not hold.",
        ),
    ] = False,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME", help="Only this table; repeatable, with --merge."),
    ] = None,
    new: Annotated[
        str,
        typer.Option(
            "--as", metavar="NEW", help="With --table: leave it alone, and make a new one beside it."
        ),
    ] = "",
    merge: Annotated[
        Merging | None,
        typer.Option(
            "--merge",
            help="With --table: bring in the rows whose key is missing; replace: those, too, that differ.",
            show_default=False,
        ),
    ] = None,
    identity: Identities = None,
    passphrase_file: PassphraseFile = None,
    repository: RepositoryAt = "",
    dry_run: DryRun = False,
) -> int:
    """Replace what the databases hold by a backup, in one transaction each.

    The backup is proven first, and what it replaces is kept as a safety backup. The app may run meanwhile: it sees
    the old content or the new. With --to, a copy is made beside them, of which the app knows nothing. With --table, one
    table comes back: into a new one (--as), or its rows by their key (--merge); what is secret in rows that are there
    stays.
    """
    _refuse_odd(to=to, replace=replace, table=table, new=new, merge=merge)
    with (
        opened(ctx) as found,
        _meant(ctx, found, repository, backup, file, before, kind) as (kept, manifest),
    ):
        keys = keys_of(ctx, found, identity, passphrase_file)
        if to:
            return _copy(ctx, found, kept, manifest, to, keys, replace=replace)
        if table:
            wanted = Wanted(tables=table, new=new, merge=merge)
            return _bring_tables(ctx, found, kept, manifest, wanted, keys)
        return _carry_out(ctx, found, kept, manifest, keys, replace=replace)


@app.command()
def undo(
    ctx: typer.Context,
    identity: Identities = None,
    passphrase_file: PassphraseFile = None,
    repository: RepositoryAt = "",
    dry_run: DryRun = False,
) -> int:
    """Go back to what was there before the last restore; a second undo takes the first one back."""
    with opened(ctx) as found:
        kept = Repository(found, repository)
        keys = keys_of(ctx, found, identity, passphrase_file)
        return _carry_out(ctx, found, kept, latest_safety(found, kept), keys)


@app.command()
def files(
    ctx: typer.Context,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The new folder.")],
    backup: Meant = "",
    file: Annotated[
        Path | None, typer.Option("--file", metavar="PATH", help="An archive (tar) in place of a backup's.")
    ] = None,
    identity: Identities = None,
    passphrase_file: PassphraseFile = None,
    repository: RepositoryAt = "",
    dry_run: DryRun = False,
) -> int:
    """Unpack the app's own files of a backup, such as keys and uploads, into a folder of their own.

    Nothing of an archive reaches beyond that folder: only files and folders are made, and no links. What the app has now
    stays as it is.
    """
    if bool(backup) == bool(file):
        raise UsageError(detail="say which files: those of a backup (an id, or latest), or --file PATH")
    with opened(ctx) as found:
        kept = Repository(found, repository) if backup else verify.room(found, repository)
        keys = keys_of(ctx, found, identity, passphrase_file)
        work = FilesRestoring(found, kept, file or kept.find(backup), to, keys)
        return change(ctx, work, target=found.name)


@app.command()
def recover(
    ctx: typer.Context,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="The new file, in place of one beside it.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A damaged file in place of the app's own.")
    ] = None,
    like: Annotated[
        str,
        typer.Option(
            "--like",
            metavar="FILE|ID",
            help="A sound database of the same shape, or a backup by id or latest: for tables that the damaged one no longer tells of.",
        ),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Read a database that is sound, too.")] = False,
    identity: Identities = None,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
) -> int:
    """Read what can be read of a damaged SQLite database into a new file.

    The damaged one is not changed, nor is the app's database exchanged: the answer tells how the new file takes its
    place, and of each table how many rows came back. Exit 4: something is lost.
    """
    with (
        opened(ctx) as found,
        sound(
            found, like, found.only or found.main(), keys_of(ctx, found, identity, passphrase_file)
        ) as sound_one,
        progress(ctx, "Recovering (%)", 100) as advance,
    ):
        work = Recovering(
            found,
            selection(ctx),
            to=to,
            source=source,
            like=sound_one,
            like_named=like,
            force=force,
            advance=lambda share: advance(100 * share),
        )
        return change(ctx, work, target=work.target)


@contextmanager
def _meant(
    ctx: typer.Context,
    found: App,
    repository: str,
    backup: str,
    file: Path | None,
    before: datetime | None,
    kind: Kind | None,
) -> Iterator[tuple[Repository, Manifest]]:
    """Give the backup that is meant, and the repository through which it is read."""
    kept = Repository(found, repository)
    if file is None:
        yield kept, found_in(kept, backup, before, kind)
        return
    if (backup and backup != LATEST) or before or kind:
        raise UsageError(detail=f"--file {file} names what to restore; leave out the id, --before and --kind")
    with ExitStack() as held:
        with copying(ctx, "Reading", detect.size([file])) as advance:
            reading = detect.staged(found, kept, file, trial=False, advance=advance)
            taken, beside = held.enter_context(reading)
        for remark in taken.remarks:
            warn(ctx, remark)
        when = taken.manifest.created_at
        source = f" ({taken.manifest.origin.time})" if taken.manifest.origin else ""
        note(ctx, f"{file} is {taken.what}, of {when:%Y-%m-%d %H:%M:%S} UTC{source}")
        yield beside, taken.manifest


def _refuse_odd(
    *, to: Sequence[str] | None, replace: bool, table: Sequence[str] | None, new: str, merge: Merging | None
) -> None:
    if to and table:
        raise UsageError(detail="--to makes a copy of whole databases; give --to or --table")
    if replace and table:
        raise UsageError(detail="--replace is about whole databases; rows of a table: --merge replace")
    if (new or merge) and not table:
        raise UsageError(detail=f"{'--as' if new else '--merge'} is about one table: --table NAME")


def _bring_tables(
    ctx: typer.Context, found: App, kept: Repository, manifest: Manifest, wanted: Wanted, keys: Keys
) -> int:
    keys.ready(kept.store, manifest)
    with copying(ctx, "Restoring", restore_rows.size(found, kept, manifest, wanted)) as advance:
        work = RestoringTables(
            found, kept, manifest, wanted, keys, timeout=call(ctx).timeout, advance=advance
        )
        return change(ctx, work, target=work.target)


def _copy(
    ctx: typer.Context,
    found: App,
    kept: Repository,
    manifest: Manifest,
    to: Sequence[str],
    keys: Keys,
    *,
    replace: bool,
) -> int:
    places = loader.given(to, Path.cwd(), option="--to")
    keys.ready(kept.store, manifest)
    with copying(ctx, "Copying", copy.size(found, kept, manifest, places)) as advance:
        work = copy.Copying(
            found, kept, manifest, places, keys, replace=replace, timeout=call(ctx).timeout, advance=advance
        )
        return change(ctx, work, target=found.name)


def _carry_out(
    ctx: typer.Context, found: App, kept: Repository, manifest: Manifest, keys: Keys, *, replace: bool = False
) -> int:
    keys.ready(kept.store, manifest)
    with copying(ctx, "Restoring", restore_source.size(found, kept, manifest)) as advance:
        work = Restoring(
            found, kept, manifest, keys, timeout=call(ctx).timeout, replace=replace, advance=advance
        )
        return change(ctx, work, target=found.name)
