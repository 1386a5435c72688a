"""The app that a command works on, and what several groups read from the command line about it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from msgspec import structs

from dbctl.cli._support.emit import change, emit, read_logins
from dbctl.cli._support.options import call
from dbctl.config import Selection, loader
from dbctl.errors import DbctlError, FileFailedError, FileMissingError, UsageError
from dbctl.files import atomic
from dbctl.model import Id, read_span
from dbctl.render import Format
from dbctl.services.app import App
from dbctl.services.app import app as apps

if TYPE_CHECKING:
    from dbctl.services.app import Change, UserSelector

LARGEST_FILE = 256 * 1024 * 1024  #: bytes


def selection(ctx: typer.Context) -> Selection:
    """Return what the options said about which app is meant."""
    said = call(ctx)
    return Selection(config=said.config, app=said.app, profile=said.profile, urls=said.url)


AllApps: TypeAlias = Annotated[bool, typer.Option("--all-apps", help="Every configured app.")]


def selections(ctx: typer.Context, *, all_apps: bool) -> list[Selection]:
    """Return the app that is meant, or every configured one.

    Raises:
        UsageError: every configured one is meant, and options describe one.
    """
    said = selection(ctx)
    if not all_apps:
        return [said]
    if said.urls or said.profile:
        raise UsageError(detail="--all-apps takes what is configured; --profile and --url describe one app")
    return [structs.replace(said, app=name) for name in loader.load(said).apps]


@contextmanager
def opened(ctx: typer.Context, said: Selection | None = None) -> Iterator[App]:
    """Give the app that is meant, by the options or by ``said``; what it opens is closed at the end."""
    options = call(ctx)
    with apps.opened(
        said or selection(ctx),
        timeout=options.timeout,
        only=options.db,
        trust_clock=options.trust_clock,
        acting_as=options.acting_as,
    ) as app:
        try:
            if app.acting_as:
                from dbctl.services.app import audit

                audit.check_acting(app)
            yield app
        except DbctlError as error:  # so that a failure, too, says whose it is
            error.facts.setdefault("target", _target(app))
            raise


def show(
    ctx: typer.Context,
    app: App,
    result: object,
    *,
    status: int = 0,
    instead_of_table: Format = Format.TABLE,
    picked: bool = True,
) -> int:
    """Emit ``result`` as the answer of the database that was used for it; the rest is for ``emit``."""
    return emit(
        ctx, result, status=status, target=_target(app), instead_of_table=instead_of_table, picked=picked
    )


def carry_out(ctx: typer.Context, prepared: Change[Any], *, notes: Sequence[str] = ()) -> int:
    """Apply a change of one database, or show its plan; ``notes`` are remarks on what was done."""
    return change(ctx, prepared, target=prepared.target, notes=notes)


def _target(app: App) -> str:
    return app.target(app.used[0]) if app.used else app.name


def contents(path: Path, what: str, *, most: int = LARGEST_FILE) -> bytes:
    """Return what a file of at most so many bytes holds; ``-`` is standard input.

    Raises:
        FileMissingError, FileFailedError: it cannot be read, or is larger than such a file would be.
    """
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else atomic.named(path) as file:
            raw = file.read(most + 1)
    except FileNotFoundError as error:
        raise FileMissingError(what=what, path=path) from error
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror) from error
    if len(raw) > most:
        raise FileFailedError(path=path, reason=f"it is larger than any {what}")
    return raw


def span(text: str) -> timedelta:
    """Read a length of time: ``90d``, ``36h``, ``2w``."""
    try:
        return read_span(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no length of time; write 90d, 36h, 2w or 1y") from None


def size_in_bytes(text: str) -> int:
    """Read a number of bytes: ``500k``, ``20M``, ``1G``, in steps of 1,024."""
    found = re.fullmatch(r"([1-9][0-9]{0,11})([kKMG]?)", str(text).strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no number of bytes; write 500k, 20M or 1G")
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2].upper()]


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """Read ``KEY=VALUE`` words; a key may come once."""
    read: dict[str, str] = {}
    for word in words:
        key, mark, value = word.partition("=")
        if not (mark and key):
            raise UsageError(detail=f"{option} {word!r}: write it as KEY=VALUE")
        if key in read:
            raise UsageError(detail=f"{option} gives {key!r} twice")
        read[key] = value
    return read


Logins: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[LOGIN]...", help="Usernames or e-mail addresses; - reads them from standard input."
    ),
]
Ids: TypeAlias = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="A user by id; repeatable.")
]
Inactive: TypeAlias = Annotated[
    timedelta | None,
    typer.Option(
        "--inactive", parser=span, metavar="90d", help="Everybody who has not signed in for so long."
    ),
]


def one_of(name: str, ident: str) -> str | Id:
    """Return what was named by its name or by its id; empty where neither was given.

    Raises:
        UsageError: both were.
    """
    if name and ident:
        raise UsageError(detail=f"{name!r} and --id {ident!r}: name it once")
    return Id(ident) if ident else name


def who(
    logins: Sequence[str] | None, ids: Sequence[str] | None, inactive: timedelta | None = None
) -> UserSelector:
    """Return which users were named."""
    from dbctl.services.app import UserSelector

    listed = "-" in (logins or ())
    return UserSelector(logins=read_logins(logins or ()), ids=ids or (), inactive=inactive, listed=listed)
