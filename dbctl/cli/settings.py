"""``dbctl settings``: of the app, and of one user."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._support.app import carry_out, contents, one_of, opened, show
from dbctl.cli._support.options import DryRun, Limit, Offset, Sort, window
from dbctl.errors import Exit
from dbctl.render import Format
from dbctl.services.app import App
from dbctl.services.settings import files, queries, reset_setting, section, set_setting

app = typer.Typer(
    name="settings", help="Settings of the app, and of one user.", no_args_is_help=True, rich_markup_mode=None
)

Key: TypeAlias = Annotated[str, typer.Argument(metavar="KEY", help="A setting, such as app.site_name.")]
User: TypeAlias = Annotated[str, typer.Option("--user", metavar="LOGIN", help="That user's own settings.")]
UserId: TypeAlias = Annotated[str, typer.Option("--id", metavar="ID", help="The same, by the user's id.")]
File: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="Keys and values, JSON or TOML; - is JSON on standard input.")
]


Secrets: TypeAlias = Annotated[
    bool, typer.Option("--secrets", help="Also values that are secrets, which are *** otherwise.")
]


class Mode(StrEnum):
    """How far ``apply`` goes."""

    CREATE_ONLY = "create-only"
    MERGE = "merge"
    EXACT = "exact"


@app.command("list")
def list_(
    ctx: typer.Context,
    category: Annotated[str, typer.Option("--category", metavar="NAME", help="Only this category.")] = "",
    public: Annotated[
        bool | None, typer.Option("--public/--no-public", help="Only those that anybody may read, or not.")
    ] = None,
    user: User = "",
    ident: UserId = "",
    secrets: Secrets = False,
    limit: Limit = 1000,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List settings with their values and who changed each last."""
    with opened(ctx) as found:
        part = window(limit, offset, sort)
        return show(
            ctx,
            found,
            queries.list_settings(
                found, part, category=category, public=public, login=one_of(user, ident), secrets=secrets
            ),
        )


@app.command()
def get(ctx: typer.Context, key: Key, user: User = "", ident: UserId = "", secrets: Secrets = False) -> int:
    """Show one setting."""
    with opened(ctx) as found:
        return show(ctx, found, queries.get_setting(found, key, login=one_of(user, ident), secrets=secrets))


@app.command("set")
def set_(
    ctx: typer.Context,
    key: Key,
    value: Annotated[
        str,
        typer.Argument(metavar="VALUE", help="The value, as text; the setting's type says how it is read."),
    ],
    user: User = "",
    ident: UserId = "",
    dry_run: DryRun = False,
) -> int:
    """Change a setting, if its own schema takes the value."""
    with opened(ctx) as found:
        prepared = set_setting(found, key, value, login=one_of(user, ident))
        return carry_out(ctx, prepared, notes=_cached(found, of_user=bool(user or ident)))


@app.command()
def reset(ctx: typer.Context, key: Key, user: User = "", ident: UserId = "", dry_run: DryRun = False) -> int:
    """Give a setting its default back; a user's own is removed, so that the app's counts."""
    with opened(ctx) as found:
        return carry_out(
            ctx,
            reset_setting(found, key, login=one_of(user, ident)),
            notes=_cached(found, of_user=bool(user or ident)),
        )


@app.command()
def validate(ctx: typer.Context, user: User = "", ident: UserId = "") -> int:
    """Check every stored value against its type and its own schema: exit 4 where one does not fit."""
    with opened(ctx) as found:
        answer = queries.validate(found, login=one_of(user, ident))
        return show(ctx, found, answer, status=Exit.UNSOUND if answer.unsound else Exit.OK)


@app.command()
def export(
    ctx: typer.Context,
    user: User = "",
    ident: UserId = "",
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Also values that are secrets, which are left out otherwise.")
    ] = False,
) -> int:
    """Give out every key and value, as `settings apply` takes them; JSON unless -o says otherwise."""
    with opened(ctx) as found:
        told = queries.export(found, login=one_of(user, ident), secrets=secrets)
        return show(ctx, found, told, instead_of_table=Format.JSON)


@app.command()
def diff(ctx: typer.Context, file: File, user: User = "", ident: UserId = "") -> int:
    """Show what a file and the app have differently."""
    wanted = files.read_wanted(contents(file, "file of settings"), str(file))
    with opened(ctx) as found:
        return show(ctx, found, files.diff(found, wanted, login=one_of(user, ident)))


@app.command()
def apply(
    ctx: typer.Context,
    file: File,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode", help="create-only: add what is missing; merge: also change; exact: also remove."
        ),
    ] = Mode.MERGE,
    new_keys: Annotated[
        bool, typer.Option("--new-keys", help="Add keys that the app does not know, too.")
    ] = False,
    user: User = "",
    ident: UserId = "",
    dry_run: DryRun = False,
) -> int:
    """Bring the settings to what a file says, all in one transaction."""
    wanted = files.read_wanted(contents(file, "file of settings"), str(file))
    with opened(ctx) as found:
        prepared = files.apply(found, wanted, mode.value, login=one_of(user, ident), new_keys=new_keys)
        return carry_out(ctx, prepared, notes=_cached(found, of_user=bool(user or ident)))


def _cached(found: App, *, of_user: bool) -> list[str]:
    told = section(found, "user" if of_user else "system")
    return (
        [f"a running {found.profile.title} may use the old value for up to {told.cache}"]
        if told and told.cache
        else []
    )
