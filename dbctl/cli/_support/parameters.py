"""Parameters that several groups of commands share, and their values; the apps of a command; installation of bundled files."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from msgspec import structs

from dbctl.cli._support.emit import read_logins
from dbctl.cli._support.options import argument, flag, option, parse_natural, parse_positive
from dbctl.config import loader
from dbctl.config.model import App as ConfiguredApp
from dbctl.config.sections import Selection
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import FileExistsAlreadyError, FileFailedError, report_file_errors
from dbctl.errors.usage import ConfigInvalidError, FleetSelectedError, UsageError
from dbctl.files import atomic
from dbctl.files.atomic import write_atomically
from dbctl.model import KeyText, PageRequest
from dbctl.units import parse_duration, parse_size

if TYPE_CHECKING:
    from dbctl.cli._support.session import Session
    from dbctl.services.app.app import App
    from dbctl.services.app.user_table import UserSelector


DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Show the plan without changing anything.")
]
#: For commands that create a schema, or compare with one.
Variant: TypeAlias = Annotated[
    str,
    option(
        "--variant", "NAME", "Select the variant of the schema for an empty database, if the app has several."
    ),
]
#: The zone of times in filters, in texts of help.
FILTER_ZONE = "A time without a zone is in UTC."
#: The forms of the address of a repository, in texts of help.
ADDRESS_FORMS = "a directory, sftp://HOST/PATH, rclone:REMOTE:PATH, or s3://, az:// or gs://BUCKET/PREFIX"
RepositoryAddress: TypeAlias = Annotated[
    str,
    option("--repository", "ADDRESS", f"Use this repository instead of the configured one: {ADDRESS_FORMS}."),
]
Limit: TypeAlias = Annotated[int, option("--limit", "N", "Show at most N rows.", parse_positive)]
Offset: TypeAlias = Annotated[int, option("--offset", "N", "Skip the first N rows.", parse_natural)]
Sort: TypeAlias = Annotated[
    str, option("--sort", "COLUMN", "Sort by this column; -COLUMN or COLUMN:desc for descending order.")
]


def requested_page(limit: int | None, offset: int, sort: str) -> PageRequest:
    """Return the requested page of a list; ``COLUMN:desc`` and ``-COLUMN`` are equivalent."""
    column, _, direction = sort.partition(":")
    if direction not in {"", "asc", "desc"} or (":" in sort and not direction):
        raise typer.BadParameter(f"{sort!r}: expected asc or desc after the colon", param_hint="'--sort'")
    descending = (direction == "desc") != column.startswith("-")
    column = column.removeprefix("-")
    if sort and not column:
        raise typer.BadParameter(f"{sort!r} has no column", param_hint="'--sort'")
    return PageRequest(limit=limit, offset=offset, sort="-" + column if descending else column)


def install_file(path: Path, text: str, mark: str) -> bool:
    """Write a file, and its missing folders; return False if it was already up to date.

    Raises:
        FileExistsAlreadyError: another file, without ``mark``, is in its place.
        FileFailedError: it cannot be written.
    """
    try:
        if path.exists():
            existing = path.read_text(encoding="utf-8", errors="replace")
            if existing == text:
                return False
            if mark not in existing:
                raise FileExistsAlreadyError(
                    path=path, hint="It was not created by dbctl; move it to another location first."
                )
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror) from error
    with write_atomically(path, mode=0o644, replace=True) as file:
        file.write(text)
    return True


MigrationsFolder: TypeAlias = Annotated[
    Path | None, option("--migrations", "DIR", "Use this folder of migrations instead of the configured one.")
]
To: TypeAlias = Annotated[str, option("--to", "NAME", "Stop after this migration (name or number).")]
Steps: TypeAlias = Annotated[
    int | None, typer.Option("--steps", min=1, metavar="N", help="Limit to N migrations per database.")
]
NoBackup: TypeAlias = Annotated[
    bool,
    flag("--no-backup", "Create no safety backup before data is deleted; deleted data cannot be restored."),
]

AlteredTable: TypeAlias = Annotated[
    str, option("--alter", "TABLE", "Write the rebuild of this table with the following changes (SQLite).")
]
RenamedColumns: TypeAlias = Annotated[
    list[str] | None, option("--rename-column", "COLUMN=NAME", "Rename a column.")
]
DroppedColumns: TypeAlias = Annotated[list[str] | None, option("--drop-column", "COLUMN", "Drop a column.")]
ColumnTypes: TypeAlias = Annotated[
    list[str] | None, option("--type", "COLUMN=TYPE", "Change the type of a column.")
]
NotNullColumns: TypeAlias = Annotated[
    list[str] | None, option("--not-null", "COLUMN", "Make a column NOT NULL.")
]
NullableColumns: TypeAlias = Annotated[
    list[str] | None, option("--nullable", "COLUMN", "Allow NULL in a column.")
]
ColumnDefaults: TypeAlias = Annotated[
    list[str] | None,
    option(
        "--default",
        "COLUMN=VALUE",
        "Set the default of a column: a number, a text, an (expression), or null for none.",
    ),
]
AddedForeignKeys: TypeAlias = Annotated[
    list[str] | None, option("--add-foreign-key", "COLUMN=TABLE.COLUMN", "Add a foreign key, or replace one.")
]
DroppedForeignKeys: TypeAlias = Annotated[
    list[str] | None, option("--drop-foreign-key", "COLUMN", "Drop the foreign key of a column.")
]


LARGEST_FILE = 256 * 1024 * 1024  #: bytes


AllApps: TypeAlias = Annotated[bool, flag("--all-apps", "Apply to every configured app.")]


def read_selections(session: "Session", *, all_apps: bool, allow_fleets: bool = False) -> list[Selection]:
    """Return one selection for the app of the options, or one per configured app; the values of an app may have errors.

    With ``allow_fleets``, a selection may be a fleet, and not an instance.

    Raises:
        UsageError: ``--all-apps`` and options that describe one app are combined.
        ConfigMissingError, ConfigInvalidError: there is no valid configuration, or it has no app.
        FleetSelectedError: one of the apps is a fleet.
    """
    selection = session.selection
    if not all_apps or selection.configured:
        if not allow_fleets:
            session.refuse_fleet_options()
        return [selection]
    if selection.urls or selection.profile:
        raise UsageError(detail="--all-apps cannot be combined with --profile or --url")
    sections = loader.load_sections(selection)
    if not sections.apps:
        raise loader.no_app_error(sections.files[0].path)
    apps, errors = dict[str, ConfiguredApp](), dict[str, ConfigInvalidError]()
    for name in sections.apps:
        # An error, such as that of a secret in a stopped container, must not hide the other apps.
        try:
            apps |= loader.load(selection, only=name).apps
        except ConfigInvalidError as error:
            errors[name] = error
    fleet = next((app for app in apps.values() if app.is_fleet), None)
    if fleet and not allow_fleets:
        from dbctl.config.resolver import FleetSelection

        if selection.replica:
            apps = {name: loader.select_replicas(app) for name, app in apps.items()}
        apps |= {name: _create_unknown(name) for name in errors}
        fleets = [FleetSelection(apps[name], problem=errors.get(name)) for name in sections.apps]
        raise FleetSelectedError(app=fleet.name, selections=fleets)
    return [structs.replace(selection, app=name) for name in sections.apps]


def _create_unknown(name: str) -> ConfiguredApp:
    """Return an app whose values have errors."""
    return ConfiguredApp(
        name=name, profile="", protected=False, databases={}, migrations={}, folder=Path(), directory=Path()
    )


def read_file(path: Path, kind: str, *, limit: int = LARGEST_FILE) -> bytes:
    """Return the content of a file of at most ``limit`` bytes; ``-`` is standard input.

    Raises:
        FileMissingError, FileFailedError: the file does not exist, cannot be read, or is too large.
    """
    with (
        report_file_errors(path, kind=kind),
        nullcontext(sys.stdin.buffer) if str(path) == "-" else atomic.open_named(path) as file,
    ):
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise FileFailedError(path=path, reason=f"it is too large for a {kind}")
    return raw


@contextmanager
def open_apps(
    session: "Session", *, all_apps: bool
) -> Iterator[tuple[Sequence["App"], Sequence[DbctlError]]]:
    """Yield the app of the options, or every configured app, and the errors of others; their databases are closed at the end.

    Raises:
        DbctlError: the only app cannot be opened.
    """
    from dbctl.services.app.session import open_app

    with ExitStack() as stack:
        app_selections = read_selections(session, all_apps=all_apps)
        apps, errors = list["App"](), list[DbctlError]()
        for selection in app_selections:
            try:
                apps.append(
                    stack.enter_context(open_app(selection, timeout=session.timeout, spec=session.spec))
                )
            except DbctlError as error:
                if len(app_selections) == 1:
                    raise
                errors.append(error)
        for app in apps:
            if app.configured.maintenance_mode:
                session.warn_about_maintenance(app)
        yield apps, errors


def read_duration(text: str) -> timedelta:
    """Parse a duration: ``90d``, ``36h``, ``2w``."""
    try:
        return parse_duration(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a duration; write 90d, 36h, 2w or 1y") from None


def duration_option(name: str, example: str, help_text: str) -> Any:
    """Return an option whose value is a duration."""
    return option(name, example, help_text, read_duration)


def period_option(name: str, example: str, help_text: str) -> Any:
    """Return an option whose value is a duration that is longer than zero, which would select nothing or everything."""
    return option(name, example, help_text, read_period)


def read_period(text: str) -> timedelta:
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


def parse_key_values(arguments: Sequence[str], name: str) -> dict[str, str]:
    """Parse ``KEY=VALUE`` arguments; each key may occur once."""
    values: dict[str, str] = {}
    for text in arguments:
        key, separator, value = text.partition("=")
        if not (separator and key):
            raise UsageError(detail=f"{name} {text!r}: expected KEY=VALUE")
        if key in values:
            raise UsageError(detail=f"{name}: {key!r} occurs twice")
        values[key] = value
    return values


Logins: TypeAlias = Annotated[
    list[str] | None,
    argument("[LOGIN]...", "Username or e-mail address; - reads a list from standard input."),
]
Ids: TypeAlias = Annotated[list[str] | None, option("--id", "ID", "Select a user by id; repeatable.")]
Inactive: TypeAlias = Annotated[
    timedelta | None, period_option("--inactive", "90d", "Select users who have not signed in for this long.")
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
) -> "UserSelector":
    """Return the users that arguments and options select."""
    from dbctl.services.app.user_table import UserSelector

    reads_stdin = "-" in (logins or ())
    return UserSelector(
        logins=read_logins(logins or ()), ids=ids or (), inactive_for=inactive, from_list=reads_stdin
    )
