"""``dbctl settings``: settings of the app, of single users, and of other objects."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from dbctl.cli._support.emit import cache_notes, emit, run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import DryRun, Limit, Offset, Sort, name_or_id, read_file, requested_page
from dbctl.cli._support.session import Session
from dbctl.errors.usage import UsageError
from dbctl.model import Findings, Page
from dbctl.render.streams import Format
from dbctl.services.settings import queries
from dbctl.services.settings.changes import apply_file, compare_file, reset_setting, set_setting
from dbctl.services.settings.encodings import read_settings_file
from dbctl.services.settings.store import ObjectText, SettingOwner, find_section, scope_of
from dbctl.spec import EVERYWHERE, Example, Fleet, Write

if TYPE_CHECKING:
    from dbctl.services.app.app import App
    from dbctl.services.settings.changes import Difference, SettingChanged, SettingsApplied
    from dbctl.services.settings.metadata import SettingUpdated
    from dbctl.services.settings.store import Setting


GROUP = Group("settings", section="Change", position=3, help="Settings of the app, and of one user.")

Key: TypeAlias = Annotated[str, argument("KEY", "Key of a setting, such as app.site_name.")]
User: TypeAlias = Annotated[str, option("--user", "LOGIN", "Use the settings of this user.")]
UserId: TypeAlias = Annotated[str, option("--id", "ID", "Select the user by id.")]
Of: TypeAlias = Annotated[str, option("--of", "NAME", "Use the settings of this object, by its name or key.")]
File: TypeAlias = Annotated[
    Path, argument("FILE", "Keys and values as JSON or TOML; - is JSON on standard input.")
]


Secrets: TypeAlias = Annotated[bool, flag("--secrets", "Show secrets instead of ***.")]


class Mode(StrEnum):
    """Which settings ``apply`` changes."""

    CREATE_ONLY = "create-only"
    MERGE = "merge"
    EXACT = "exact"


@Example("settings list --category app")
@Example("settings list --user {login} -o json", on="flashpoint-web custom")
@GROUP.command("list", answers=lambda: (Page[Setting],))
def list_(
    session: Session,
    category: Annotated[str, option("--category", "NAME", "Show only this category.")] = "",
    public: Annotated[
        bool | None, flag("--public/--no-public", "Show only public settings, or only others.")
    ] = None,
    user: User = "",
    ident: UserId = "",
    of: Of = "",
    secrets: Secrets = False,
    limit: Limit = 1000,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List settings with their values and the author of the last change."""
    page_request, login = requested_page(limit, offset, sort), _select_owner(user, ident, of)
    with session.open_app() as app:
        page = queries.list_settings(
            app, page_request, category=category, public=public, login=login, secrets=secrets
        )
        return emit(session, page, app=app)


@Example("settings get {setting}", on=EVERYWHERE)
@Example("settings get theme --user alice")
@GROUP.command("get", answers=lambda: (Setting,), fleet=Fleet())
def get(
    session: Session, key: Key, user: User = "", ident: UserId = "", of: Of = "", secrets: Secrets = False
) -> int:
    """Show one setting."""
    with session.open_app() as app:
        return emit(
            session,
            queries.get_setting(app, key, login=_select_owner(user, ident, of), secrets=secrets),
            app=app,
        )


@Example("settings set {setting} {value}", on=EVERYWHERE)
@Example("settings set theme dark --user alice")
@GROUP.command(
    "set",
    answers=lambda: (SettingChanged,),
    writes=Write(source="input", facts=("setting-times", "audit"), undo=True, may_destroy=False),
    fleet=Fleet(resumes=True),
)
def set_(
    session: Session,
    key: Key,
    value: Annotated[str, argument("VALUE", "New value as text; parsed by the type of the setting.")],
    user: User = "",
    ident: UserId = "",
    of: Of = "",
    dry_run: DryRun = False,
) -> int:
    """Change a setting, after validation against its schema."""
    with session.open_app() as app:
        login = _select_owner(user, ident, of)
        operation = set_setting(app, key, value, login=login)
        return run_change(session, operation, notes=_cache_notes(app, login), dry_run=dry_run)


@Example("settings reset {setting}", on=EVERYWHERE)
@Example("settings reset theme --user alice --dry-run")
@GROUP.command(
    "reset",
    answers=lambda: (SettingChanged,),
    writes=Write(source="input", facts=("setting-times", "audit"), undo=True),
)
def reset(
    session: Session, key: Key, user: User = "", ident: UserId = "", of: Of = "", dry_run: DryRun = False
) -> int:
    """Reset a setting to its default; for a user's own setting, the app's value applies again."""
    with session.open_app() as app:
        login = _select_owner(user, ident, of)
        operation = reset_setting(app, key, login=login)
        return run_change(session, operation, notes=_cache_notes(app, login), dry_run=dry_run)


@Example("settings update {setting} --public", on="custom samples")
@Example("settings update {setting} --description 'Name in the header'", on="flashpoint-web")
@GROUP.command(
    "update",
    answers=lambda: (SettingUpdated,),
    writes=Write(source="input", facts=("setting-times", "audit"), undo=True, may_destroy=False),
)
def update(
    session: Session,
    key: Key,
    description: Annotated[
        str | None, option("--description", "TEXT", "New description; an empty text removes it.")
    ] = None,
    public: Annotated[
        bool | None, flag("--public/--no-public", "Whether users without an account may read the setting.")
    ] = None,
    schema: Annotated[
        str | None, option("--schema", "JSON", "New JSON Schema of the value; an empty text removes it.")
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Change the description or the schema of a setting, or whether it is public."""
    values = {"description": description, "public": public, "schema": schema}
    fields = {field: value for field, value in values.items() if value is not None}
    if not fields:
        raise UsageError(detail="pass at least one of --description, --public, --no-public and --schema")
    from dbctl.services.settings.metadata import update_setting

    with session.open_app() as app:
        return run_change(session, update_setting(app, key, fields), dry_run=dry_run)


@Example("settings validate", on=EVERYWHERE)
@Example("settings validate --user alice")
@GROUP.command(
    "validate", answers=lambda: (Findings,), recorded=True, findings=True, fleet=Fleet(resumes=True)
)
def validate(session: Session, user: User = "", ident: UserId = "", of: Of = "") -> int:
    """Check every stored value against its type and schema; exit 4 if one is invalid."""
    with session.open_app() as app:
        findings = queries.validate(app, login=_select_owner(user, ident, of))
        return emit(session, findings, app=app, status=findings.status)


@Example("settings export > settings.json", on=EVERYWHERE)
@Example("settings export --user alice -o json")
@GROUP.command("export", answers=lambda: (dict[str, Any],))
def export(
    session: Session,
    user: User = "",
    ident: UserId = "",
    of: Of = "",
    secrets: Annotated[bool, flag("--secrets", "Include secrets.")] = False,
) -> int:
    """Print all keys and values in the form that dbctl settings apply reads; JSON unless -o selects another
    format.
    """
    with session.open_app() as app:
        values = queries.export(app, login=_select_owner(user, ident, of), secrets=secrets)
        return emit(session, values, app=app, instead_of_table=Format.JSON)


@Example("settings diff settings.json", on="flashpoint-web custom")
@Example("settings diff settings.toml -o json")
@GROUP.command("diff", answers=lambda: (Page[Difference],))
def diff(session: Session, file: File, user: User = "", ident: UserId = "", of: Of = "") -> int:
    """Show the differences between a file and the app's settings."""
    settings = read_settings_file(read_file(file, "file of settings"), str(file))
    with session.open_app() as app:
        return emit(session, compare_file(app, settings, login=_select_owner(user, ident, of)), app=app)


@Example("settings apply settings.json", on="flashpoint-web custom")
@Example("settings apply settings.toml --mode exact --dry-run")
@GROUP.command(
    "apply",
    answers=lambda: (SettingsApplied,),
    writes=Write(source="input", facts=("setting-times", "audit"), undo=True),
)
def apply(
    session: Session,
    file: File,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode",
            help="create-only: add missing keys; merge: also change values; exact: also remove other keys.",
        ),
    ] = Mode.MERGE,
    new_keys: Annotated[bool, flag("--new-keys", "Also add keys that the app does not define.")] = False,
    user: User = "",
    ident: UserId = "",
    of: Of = "",
    dry_run: DryRun = False,
) -> int:
    """Change the settings to the values of a file, in one transaction."""
    settings = read_settings_file(read_file(file, "file of settings"), str(file))
    with session.open_app() as app:
        login = _select_owner(user, ident, of)
        operation = apply_file(app, settings, mode.value, login=login, new_keys=new_keys)
        return run_change(session, operation, notes=_cache_notes(app, login), dry_run=dry_run)


def _select_owner(user: str, ident: str, of: str) -> SettingOwner:
    """Return the user or the object that was passed; empty for the app.

    Raises:
        UsageError: both were passed.
    """
    if of and (user or ident):
        raise UsageError(detail="pass either a user or --of, not both")
    return ObjectText(of) if of else name_or_id(user, ident)


def _cache_notes(app: "App", login: SettingOwner) -> list[str]:
    section = find_section(app, scope_of(login))
    return cache_notes(app, "value", section.cache if section else "")
