"""What ``backup`` and ``restore`` read from the command line alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._support.emit import ask_secret, note, progress
from dbctl.config import secrets
from dbctl.errors import UsageError
from dbctl.model import now, read_span
from dbctl.services.app import App
from dbctl.services.backup import ID, LATEST, Keys, Kind, Manifest, Repository


def address(ctx: typer.Context, parameter: typer.CallbackParam, given: str) -> str:
    """Refuse an address that a script has left empty: it must not mean the configured repository.

    Raises:
        BadParameter: it is empty.
    """
    source = ctx.get_parameter_source(str(parameter.name))
    if not given.strip() and source is not None and source.name != "DEFAULT":
        raise typer.BadParameter("it is empty")
    return given


RepositoryAt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--repository",
        callback=address,
        metavar="ADDRESS",
        help="Where the backups are, in place of the configured one: a directory, or s3://BUCKET/PREFIX.",
    ),
]


def moment(text: str) -> datetime:
    """Read a moment: ISO 8601, by the local clock where it names no zone; the id of a backup; or how long ago it was."""
    text = text.strip()
    try:
        return now() - read_span(text)
    except ValueError:
        pass
    try:
        read = datetime.fromisoformat(text)
        # To ISO 8601 an id would be a time of the local clock.
        return read.replace(tzinfo=UTC) if ID.fullmatch(text) else read.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text!r} is no moment; write 2026-11-19T03:00 (local time), 2026-11-19T02:00Z, or how long ago: 3h, 2d"
        ) from None


Which: TypeAlias = Annotated[str, typer.Argument(metavar="[ID]", help="A backup by id, or latest.")]
Before: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        "--before",
        parser=moment,
        metavar="TIME",
        help="In place of an id: the newest that holds nothing later. 2026-11-19T03:00 is local time; 3h and 2d are so long ago.",
    ),
]
OfKind: TypeAlias = Annotated[
    Kind | None,
    typer.Option("--kind", help="What latest and --before look among; else backup.", show_default=False),
]
#: Of the commands that open encrypted backups.
Identities: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--identity",
        metavar="FILE",
        help="Opens encrypted backups: an identity file of age, or a key of ssh; repeatable.",
    ),
]
PassphraseFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="The passphrase of backups, or of identities, on its first line; else it is asked for.",
    ),
]

MEGABYTE = 1_000_000


def found_in(repository: Repository, name: str, before: datetime | None, kind: Kind | None) -> Manifest:
    """Return the backup that was named: by id, or as the newest of a kind, up to a moment.

    Raises:
        UsageError: it was named twice, or not at all.
    """
    if not name and before is None:
        raise UsageError(detail="which backup? Name its id, or latest, or a moment: --before TIME")
    if name not in ("", LATEST) and (before is not None or kind is not None):
        option = "--kind" if before is None else "--before"
        raise UsageError(detail=f"{name} names one backup, and {option} looks for another; give one of them")
    return repository.find(name or LATEST, kind or "backup", before=before)


@contextmanager
def copying(ctx: typer.Context, label: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show how much of ``size`` bytes was moved; gives ``advance(bytes)``."""
    with progress(ctx, f"{label} (MB)", size / MEGABYTE) as advance:
        yield lambda moved: advance(moved / MEGABYTE)


def apart(words: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Return which words are ids of backups, and which are paths: what has a slash, or names something that is there."""
    paths = [one for one in words if "/" in one or (not _is_name(one) and os.path.lexists(one))]
    return [one for one in words if one not in paths], [Path(one) for one in paths]


def _is_name(word: str) -> bool:
    return word == LATEST or bool(ID.fullmatch(word))


def keys_of(
    ctx: typer.Context, app: App, identities: Sequence[Path] | None, passphrase_file: Path | None
) -> Keys:
    """Return what opens encrypted backups, by the options, the environment and the configuration."""
    keys = Keys(secrets.opening(app.configured, identities or (), passphrase_file), ask_secret)
    for remark in keys.exposed():
        note(ctx, remark)
    return keys
