"""``dbctl users``: the people of an app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from msgspec import structs

from dbctl.cli._app import Ids, Inactive, Logins, carry_out, contents, opened, pairs, show, who
from dbctl.cli._options import DryRun, Limit, Offset, Sort, window
from dbctl.cli._run import progress, read_password
from dbctl.errors import UsageError
from dbctl.model import Secret
from dbctl.render.look import Format
from dbctl.services import user_changes, user_transfer, users
from dbctl.services.apps import App
from dbctl.services.user_table import database_of
from dbctl.services.user_transfer import Existing

app = typer.Typer(name="users", help="Users of the app.", no_args_is_help=True, rich_markup_mode=None)

Login: TypeAlias = Annotated[str, typer.Argument(metavar="LOGIN", help="A username or an e-mail address.")]
Stdin: TypeAlias = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]
PasswordFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--password-file", metavar="FILE", help="Read the password from the first line of a file."),
]
Generate: TypeAlias = Annotated[
    bool, typer.Option("--generate", help="Make a password up and show it once, in the answer.")
]
Role: TypeAlias = Annotated[
    str, typer.Option("--role", metavar="ROLE", help="The role; else the app's own default.")
]
Email: TypeAlias = Annotated[str, typer.Option("--email", metavar="ADDRESS", help="The e-mail address.")]
Name: TypeAlias = Annotated[
    str, typer.Option("--name", metavar="NAME", help="The name, where the app keeps one.")
]
Fields: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of the profile; repeatable."),
]


@app.command("list")
def list_(
    ctx: typer.Context,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="Only this role.")] = "",
    active: Annotated[
        bool | None, typer.Option("--active/--no-active", help="Only those who may sign in, or may not.")
    ] = None,
    never: Annotated[bool, typer.Option("--never-signed-in", help="Only those who never signed in.")] = False,
    inactive: Inactive = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="FIELD=VALUE", help="Any mapped field; repeatable."),
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List users."""
    wanted = users.Filter(
        role=role,
        active=active,
        never_signed_in=never,
        inactive=inactive,
        fields=pairs(filters or (), "--filter"),
    )
    with opened(ctx) as found:
        return show(ctx, found, users.list_users(found, wanted, window(limit, offset, sort)))


@app.command("show")
def show_(ctx: typer.Context, logins: Logins = None, ids: Ids = None) -> int:
    """Show all that is known of users: role, permissions, tokens (never their values), settings, statistics."""
    with opened(ctx) as found:
        return show(ctx, found, users.show_users(found, who(logins, ids)))


@app.command()
def create(
    ctx: typer.Context,
    username: Login,
    email: Email = "",
    role: Role = "",
    name: Name = "",
    fields: Fields = None,
    active: Annotated[bool, typer.Option("--active/--no-active", help="Whether they may sign in.")] = True,
    with_settings: Annotated[
        bool,
        typer.Option(
            "--with-settings", help="Add the user settings that the app gives to those who register."
        ),
    ] = False,
    stdin: Stdin = False,
    file: PasswordFile = None,
    generate: Generate = False,
    dry_run: DryRun = False,
) -> int:
    """Add a user."""
    with opened(ctx) as found:
        new = _new(ctx, found, username, email, name, fields, role, active, stdin, file, generate, dry_run)
        new = structs.replace(new, with_settings=with_settings)
        gives = found.profile.users and found.profile.users.new_settings and not with_settings
        notes = [
            "no user settings were added, as when an admin of the app adds a user; --with-settings adds them"
        ]
        prepared = user_changes.create_user(found, new)
        return carry_out(ctx, found, prepared, database=database_of(found), notes=notes if gives else ())


@app.command()
def ensure(
    ctx: typer.Context,
    username: Login,
    email: Email = "",
    role: Role = "",
    name: Name = "",
    fields: Fields = None,
    active: Annotated[bool, typer.Option("--active/--no-active", help="Whether they may sign in.")] = True,
    stdin: Stdin = False,
    file: PasswordFile = None,
    generate: Generate = False,
    dry_run: DryRun = False,
) -> int:
    """Make sure that a user is there with these values; the password counts only for one who has to be added."""
    with opened(ctx) as found:
        new = _new(ctx, found, username, email, name, fields, role, active, stdin, file, generate, dry_run)
        return carry_out(ctx, found, user_changes.ensure_user(found, new), database=database_of(found))


@app.command()
def update(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    email: Email = "",
    name: Name = "",
    fields: Fields = None,
    dry_run: DryRun = False,
) -> int:
    """Change what is known of a user, such as the e-mail address."""
    values = _given(email=email, name=name) | pairs(fields or (), "--set")
    if not values:
        raise UsageError(detail="nothing to change was given: --email, --name or --set FIELD=VALUE")
    with opened(ctx) as found:
        prepared = user_changes.update_user(found, who(logins, ids), values)
        return carry_out(ctx, found, prepared, database=database_of(found))


@app.command()
def delete(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Delete users with all that is theirs; what that is, per table, is shown first."""
    with opened(ctx) as found:
        prepared = user_changes.delete_users(found, who(logins, ids, inactive))
        return carry_out(ctx, found, prepared, database=database_of(found))


@app.command("set-password")
def set_password(
    ctx: typer.Context,
    login: Annotated[
        list[str] | None, typer.Argument(metavar="LOGIN", help="A username or an e-mail address.")
    ] = None,
    ids: Ids = None,
    stdin: Stdin = False,
    file: PasswordFile = None,
    generate: Generate = False,
    dry_run: DryRun = False,
) -> int:
    """Set a user's password and end their sessions."""
    with opened(ctx) as found:
        hashed, made = _hashed(ctx, found, stdin, file, generate, dry_run)
        prepared = user_changes.set_password(found, who(login, ids), hashed, made)
        return carry_out(ctx, found, prepared, database=database_of(found))


@app.command("set-role")
def set_role(
    ctx: typer.Context,
    logins: Annotated[
        list[str], typer.Argument(metavar="LOGIN... ROLE", help="Users, and last the role they get.")
    ],
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Give users a role and end their sessions."""
    with opened(ctx) as found:
        prepared = user_changes.set_role(found, who(logins[:-1], ids, inactive), logins[-1])
        return carry_out(ctx, found, prepared, database=database_of(found))


@app.command()
def activate(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Let users sign in."""
    with opened(ctx) as found:
        prepared = user_changes.set_active(found, who(logins, ids, inactive), active=True)
        return carry_out(ctx, found, prepared, database=database_of(found))


@app.command()
def deactivate(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Keep users out and end their sessions."""
    with opened(ctx) as found:
        prepared = user_changes.set_active(found, who(logins, ids, inactive), active=False)
        return carry_out(ctx, found, prepared, database=database_of(found))


@app.command()
def unlock(ctx: typer.Context, logins: Logins = None, ids: Ids = None, dry_run: DryRun = False) -> int:
    """Clear the failed attempts that keep users out, in every spelling and from their addresses."""
    with opened(ctx) as found:
        return carry_out(
            ctx, found, user_changes.unlock(found, who(logins, ids)), database=database_of(found)
        )


@app.command("check-password")
def check_password(ctx: typer.Context, login: Login, stdin: Stdin = False, file: PasswordFile = None) -> int:
    """Say whether a password is a user's: exit 0 where it is, 1 where it is not."""
    with opened(ctx) as found:
        password, _ = read_password(ctx, stdin=stdin, file=file, generate=False, confirm=False)
        return show(ctx, found, users.check_password(found, login, password))


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, JSON or JSON lines; - is standard input.")
    ],
    existing: Annotated[
        Existing, typer.Option("--existing", help="What to do with users who are there already.")
    ] = Existing.FAIL,
    generate: Annotated[
        bool,
        typer.Option(
            "--generate", help="Make passwords up for those who come without; shown once, in the answer."
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Add the users of a file, all in one transaction or none."""
    lines = user_transfer.read_lines(contents(file, "file of users"), str(file))
    with opened(ctx) as found, progress(ctx, "Hashing passwords", len(lines)) as advance:
        prepared = user_transfer.import_users(
            found, lines, file=str(file), existing=existing, generate=generate, advance=advance
        )
        return carry_out(ctx, found, prepared, database=database_of(found))


@app.command()
def export(
    ctx: typer.Context,
    secrets: Annotated[bool, typer.Option("--secrets", help="Take the password hashes along.")] = False,
) -> int:
    """Give out every user, as `users import` takes them; CSV unless -o says otherwise."""
    with opened(ctx) as found:
        return show(
            ctx, found, user_transfer.export_users(found, secrets=secrets), instead_of_table=Format.CSV
        )


def _given(**values: str) -> dict[str, str]:
    return {field: text for field, text in values.items() if text}


def _new(
    ctx: typer.Context,
    found: App,
    username: str,
    email: str,
    name: str,
    fields: list[str] | None,
    role: str,
    active: bool,
    stdin: bool,
    file: Path | None,
    generate: bool,
    dry_run: bool,
) -> user_changes.NewUser:
    login = users.table(found).told.login[0]
    values = _given(**{login: username}, **({} if login == "email" else {"email": email}), name=name)
    hashed, made = _hashed(ctx, found, stdin, file, generate, dry_run)
    return user_changes.NewUser(
        fields=values | pairs(fields or (), "--set"), role=role, active=active, hashed=hashed, generated=made
    )


def _hashed(
    ctx: typer.Context,
    found: App,
    stdin: bool,
    file: Path | None,
    generate: bool,
    dry_run: bool,
) -> tuple[str, Secret | None]:
    """Return the hash of the password that was given, and the password where dbctl made it up."""
    asked = stdin or file is not None or generate
    if (
        found.profile.users is None
        or (found.profile.users.password is None and not asked)
        or (dry_run and not asked)
    ):
        return "", None
    password, made = read_password(ctx, stdin=stdin, file=file, generate=generate)
    return user_changes.hash_password(found, password), password if made else None
