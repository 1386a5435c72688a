"""The app of a command, and arguments that several command groups share."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from msgspec import structs

from dbctl.cli._lazy import read_spec
from dbctl.cli._support.emit import read_logins, show_progress, target_of, warn
from dbctl.cli._support.options import RUN, read_options
from dbctl.config import Selection, loader
from dbctl.errors import (
    DbctlError,
    FileFailedError,
    FileMissingError,
    FleetRequiredError,
    FleetSelectedError,
    Invocation,
    UsageError,
    set_invocation,
)
from dbctl.files import atomic
from dbctl.model import KeyText, parse_duration, parse_size
from dbctl.profiles import loader as profile_loader
from dbctl.services import app as app_service
from dbctl.services.app import App

if TYPE_CHECKING:
    from dbctl.services.app import UserSelector
    from dbctl.services.audit import OperationRecorder

#: Key in the context for the configured app, if the command runs on one instance of a fleet.
CONFIGURED_APP = "dbctl.configured"
#: Key in the context for the configuration, if the command has read it.
SECTIONS = "dbctl.sections"

#: Key in the context: whether hints repeat the options of the command.
SELECTED = "dbctl.selected"

LARGEST_FILE = 256 * 1024 * 1024  #: bytes


def read_selection(ctx: typer.Context) -> Selection:
    """Return the options that select an app."""
    options = read_options(ctx)
    selection = Selection(
        config=options.config,
        app=options.app,
        profile=options.profile,
        urls=options.url or (),
        configured=ctx.meta.get(CONFIGURED_APP),
        sections=ctx.meta.get(SECTIONS),
        replica=options.replica,
    )
    if not ctx.meta.get(SELECTED):
        ctx.meta[SELECTED] = True
        outer = set_invocation(partial(_describe_invocation, selection, options.db))
        ctx.call_on_close(partial(set_invocation, outer))
    return selection


def _describe_invocation(selection: Selection, database: str) -> Invocation:
    """Return what hints repeat; only errors import the module."""
    from dbctl.services.app import command_line

    return command_line.describe_invocation(selection, database=database)


AllApps: TypeAlias = Annotated[bool, typer.Option("--all-apps", help="Apply to every configured app.")]


def read_selections(ctx: typer.Context, *, all_apps: bool, allow_fleets: bool = False) -> list[Selection]:
    """Return one selection for the app of the options, or one per configured app.

    With ``allow_fleets``, a selection may be a fleet, and not an instance.

    Raises:
        UsageError: ``--all-apps`` and options that describe one app are combined.
        FleetSelectedError: one of the apps is a fleet.
    """
    selection = read_selection(ctx)
    if not all_apps or selection.configured:
        if not allow_fleets:
            _refuse_fleet_options(ctx, selection)
        return [selection]
    if selection.urls or selection.profile:
        raise UsageError(detail="--all-apps cannot be combined with --profile or --url")
    apps = loader.load(selection).apps
    fleet = next((app for app in apps.values() if app.is_fleet), None)
    if fleet and not allow_fleets:
        from dbctl.config import FleetSelection

        if selection.replica:
            apps = {name: loader.select_replicas(app) for name, app in apps.items()}
        raise FleetSelectedError(app=fleet.name, selections=[FleetSelection(app) for app in apps.values()])
    return [structs.replace(selection, app=name) for name in apps]


@contextmanager
def open_app(ctx: typer.Context, selection: Selection | None = None) -> Iterator[App]:
    """Yield the app of the options, or of ``selection``; its databases are closed at the end.

    Raises:
        ProfileInvalidError: the profile contradicts itself; commands of ``backup`` and ``restore`` do not check this.
    """
    options = read_options(ctx)
    selection = selection or read_selection(ctx)
    _refuse_fleet_options(ctx, selection)
    with ExitStack() as stack:
        app = stack.enter_context(
            app_service.open_app(
                selection,
                timeout=options.timeout,
                spec=read_spec(ctx),
                only=options.db,
                trust_clock=options.trust_clock,
                acting_as=options.acting_as,
            )
        )
        app.create_recorder = partial(_create_recorder, ctx)
        if RUN in ctx.meta:
            ctx.meta[RUN].use_databases(app.used)
        stack.enter_context(show_progress(ctx))
        _warn_about_maintenance(ctx, app)
        try:
            if app.spec.checks_profile:
                _check_profile(app)
            if app.acting_as:
                from dbctl.services.app import audit

                audit.check_acting(app)
            yield app
        except DbctlError as error:  # errors are reported with the target
            error.context.setdefault("target", target_of(app))
            raise


def _warn_about_maintenance(ctx: typer.Context, app: App) -> None:
    """Report that a killed run may have left the app in maintenance mode."""
    if app.configured.maintenance_mode is None:
        return
    from dbctl.services.hooks import find_leftover

    for finding in find_leftover(app.configured):
        warn(ctx, f"{finding.target}: {finding.message}. {finding.hint}")


def _create_recorder(ctx: typer.Context, app: App) -> OperationRecorder:
    """Return the recorder of the audit log, whose modules only commands that write import."""
    from dbctl.cli._support.audit import create_recorder

    return create_recorder(ctx, app)


def _refuse_fleet_options(ctx: typer.Context, selection: Selection) -> None:
    """Refuse options of fleets for one app.

    Raises:
        FleetRequiredError: an option was passed.
        FleetSelectedError: the app is a fleet.
    """
    options = read_options(ctx)
    values = {
        "--jobs": options.jobs,
        "--canary": options.canary,
        "--max-failures": options.max_failures,
        "--resume": options.resume or None,
    }
    option = next((name for name, value in values.items() if value is not None), "")
    if option and not selection.configured:
        raise FleetRequiredError(option=option, app=loader.find_app(selection).name)


def _check_profile(app: App) -> None:
    if not profile_loader.is_built_in(app.configured.profile):
        from dbctl.services import checks

        checks.refuse_inconsistent_profile(app.configured.profile)


def read_file(path: Path, kind: str, *, limit: int = LARGEST_FILE) -> bytes:
    """Return the content of a file of at most ``limit`` bytes; ``-`` is standard input.

    Raises:
        FileMissingError, FileFailedError: the file does not exist, cannot be read, or is too large.
    """
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else atomic.open_named(path) as file:
            raw = file.read(limit + 1)
    except FileNotFoundError as error:
        raise FileMissingError(kind=kind, path=path) from error
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror) from error
    if len(raw) > limit:
        raise FileFailedError(path=path, reason=f"it is too large for a {kind}")
    return raw


@contextmanager
def open_apps(ctx: typer.Context, *, all_apps: bool) -> Iterator[Sequence[App]]:
    """Yield the app of the options, or every configured app; their databases are closed at the end."""
    with ExitStack() as stack:
        app_selections = read_selections(ctx, all_apps=all_apps)
        apps = [
            stack.enter_context(
                app_service.open_app(selection, timeout=read_options(ctx).timeout, spec=read_spec(ctx))
            )
            for selection in app_selections
        ]
        for app in apps:
            _warn_about_maintenance(ctx, app)
            app.create_recorder = partial(_create_recorder, ctx)
        yield apps


def read_duration(text: str) -> timedelta:
    """Parse a duration: ``90d``, ``36h``, ``2w``."""
    try:
        return parse_duration(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a duration; write 90d, 36h, 2w or 1y") from None


def duration_option(name: str, example: str, help_text: str) -> Any:
    """Return an option whose value is a duration."""
    return typer.Option(name, parser=read_duration, metavar=example, help=help_text)


def period_option(name: str, example: str, help_text: str) -> Any:
    """Return an option whose value is a duration that is longer than zero: a report of no time would be empty."""
    return typer.Option(name, parser=_read_period, metavar=example, help=help_text)


def _read_period(text: str) -> timedelta:
    if period := read_duration(text):
        return period
    raise typer.BadParameter(f"{text!r} is not longer than zero")


def read_size(text: str) -> int:
    """Parse a number of bytes: ``500k``, ``20M``, ``1G``; units are powers of 1,024."""
    try:
        return parse_size(str(text).strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number of bytes; write 500k, 20M or 1G") from None


def require_size(text: str) -> str:
    """Return a text that ``read_size`` accepts; empty: the default, no limit."""
    if text:
        read_size(text)
    return text.strip()


def parse_key_values(arguments: Sequence[str], option: str) -> dict[str, str]:
    """Parse ``KEY=VALUE`` arguments; each key may occur once."""
    values: dict[str, str] = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not (separator and key):
            raise UsageError(detail=f"{option} {argument!r}: expected KEY=VALUE")
        if key in values:
            raise UsageError(detail=f"{option}: {key!r} occurs twice")
        values[key] = value
    return values


Logins: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[LOGIN]...", help="Username or e-mail address; - reads a list from standard input."
    ),
]
Ids: TypeAlias = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="Select a user by id; repeatable.")
]
Inactive: TypeAlias = Annotated[
    timedelta | None,
    duration_option("--inactive", "90d", "Select users who have not signed in for this long."),
]


def name_or_id(name: str, ident: str) -> str | KeyText:
    """Return the name or the id that was passed; empty if neither was.

    Raises:
        UsageError: both were passed.
    """
    if name and ident:
        raise UsageError(detail=f"pass either {name!r} or --id {ident!r}, not both")
    return KeyText(ident) if ident else name


def select_users(
    logins: Sequence[str] | None, ids: Sequence[str] | None, inactive: timedelta | None = None
) -> UserSelector:
    """Return the users that arguments and options select."""
    from dbctl.services.app import UserSelector

    reads_stdin = "-" in (logins or ())
    return UserSelector(
        logins=read_logins(logins or ()), ids=ids or (), inactive_for=inactive, from_list=reads_stdin
    )
