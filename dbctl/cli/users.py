"""``dbctl users``: the people of an app."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from msgspec import structs

from dbctl.cli._support.app import Ids, Inactive, Logins, carry_out, contents, opened, pairs, show, who
from dbctl.cli._support.emit import note, progress, read_password
from dbctl.cli._support.options import DryRun, Limit, Offset, Sort, window
from dbctl.errors import UsageError
from dbctl.files import written_whole
from dbctl.model import Value
from dbctl.render import Format, streams
from dbctl.services.app import App
from dbctl.services.users import Existing, Filter, queries, read_lines

if TYPE_CHECKING:
    from dbctl.services.users import NewUser

app = typer.Typer(name="users", help="Users of the app.", no_args_is_help=True, rich_markup_mode=None)

Login: TypeAlias = Annotated[
    str, typer.Argument(metavar="LOGIN", help="What they sign in with: the username, in most apps.")
]
OneLogin: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="LOGIN", help="A username or an e-mail address.")
]
Active: TypeAlias = Annotated[
    bool | None, typer.Option("--active/--no-active", help="Whether they may sign in.")
]
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
    str, typer.Option("--role", metavar="ROLE", help="The role; a new user has the app's own default else.")
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
    locked: Annotated[
        bool, typer.Option("--locked", help="Only those whom failed attempts to sign in keep out now.")
    ] = False,
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
    wanted = Filter(
        role=role,
        active=active,
        never_signed_in=never,
        inactive=inactive,
        fields=pairs(filters or (), "--filter"),
    )
    with opened(ctx) as found:
        if not locked:
            return show(ctx, found, queries.list_users(found, wanted, window(limit, offset, sort)))
        from dbctl.services.users import list_locked

        told = list_locked(found, wanted, window(limit, offset, sort))
        for remark in told.remarks:
            note(ctx, remark)
        return show(ctx, found, told.page)


@app.command("show")
def show_(ctx: typer.Context, logins: Logins = None, ids: Ids = None) -> int:
    """Show all that is known of users: role, permissions, tokens (never their values), settings, statistics."""
    from dbctl.services.users import show_users

    with opened(ctx) as found:
        return show(ctx, found, show_users(found, who(logins, ids)))


@app.command()
def create(
    ctx: typer.Context,
    username: Login,
    email: Email = "",
    role: Role = "",
    name: Name = "",
    fields: Fields = None,
    active: Active = None,
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
    from dbctl.services.users import create as user_creation

    with opened(ctx) as found:
        given = _typed(found, username, fields, email=email, name=name, role=role, active=active)
        new = user_creation.NewUser(fields=given, with_settings=with_settings)
        user_creation.create_user(
            found, new
        ).plan()  # whatever else is wrong is said before a password is asked for
        new = _with_password(ctx, found, new, _Source(stdin=stdin, file=file, generate=generate))
        gives = found.profile.users and found.profile.users.new_settings and not with_settings
        notes = [
            "no user settings were added, as when an admin of the app adds a user; --with-settings adds them"
        ]
        prepared = user_creation.create_user(found, new)
        return carry_out(ctx, prepared, notes=notes if gives else ())


@app.command()
def ensure(
    ctx: typer.Context,
    username: Login,
    email: Email = "",
    role: Role = "",
    name: Name = "",
    fields: Fields = None,
    active: Active = None,
    stdin: Stdin = False,
    file: PasswordFile = None,
    generate: Generate = False,
    dry_run: DryRun = False,
) -> int:
    """Make sure that a user is there with these values.

    What is not given stays as it is. The password counts only for one who has to be added.
    """
    from dbctl.services.users import create as user_creation

    with opened(ctx) as found:
        given = _typed(found, username, fields, email=email, name=name, role=role, active=active)
        new = user_creation.NewUser(fields=given)
        user_creation.ensure_user(found, new).plan()
        if user_creation.wants_password(found, new):
            new = _with_password(ctx, found, new, _Source(stdin=stdin, file=file, generate=generate))
        return carry_out(ctx, user_creation.ensure_user(found, new))


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
    from dbctl.services.users import update as user_changes

    values = _given(fields, email=email, name=name)
    if not values:
        raise UsageError(detail="nothing to change was given: --email, --name or --set FIELD=VALUE")
    with opened(ctx) as found:
        prepared = user_changes.update_user(found, who(logins, ids), values)
        return carry_out(ctx, prepared)


@app.command()
def delete(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    heir: Annotated[
        str,
        typer.Option(
            "--transfer-to", metavar="LOGIN", help="Who takes over what they leave, where the app allows it."
        ),
    ] = "",
    delete_duplicates: Annotated[
        bool,
        typer.Option(
            "--delete-duplicates",
            help="With --transfer-to: delete rows whose unique key the other user has too.",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Delete users with all that is theirs; what that is, per table, is shown first."""
    if delete_duplicates and not heir:
        raise UsageError(detail="--delete-duplicates needs --transfer-to")
    from dbctl.services.users import delete_users

    with opened(ctx) as found:
        prepared = delete_users(
            found, who(logins, ids, inactive), heir=heir, delete_duplicates=delete_duplicates
        )
        return carry_out(ctx, prepared)


@app.command("set-password")
def set_password(
    ctx: typer.Context,
    login: OneLogin = None,
    ids: Ids = None,
    stdin: Stdin = False,
    file: PasswordFile = None,
    generate: Generate = False,
    dry_run: DryRun = False,
) -> int:
    """Set a user's password and end their sessions."""
    from dbctl.services.users import create as user_creation
    from dbctl.services.users import update as user_changes

    with opened(ctx) as found:
        meant = who(login, ids)
        user_changes.set_password(found, meant, "").plan()  # who it is comes before the question
        new = _with_password(
            ctx, found, user_creation.NewUser(fields={}), _Source(stdin=stdin, file=file, generate=generate)
        )
        prepared = user_changes.set_password(found, meant, new.hashed, new.generated)
        return carry_out(ctx, prepared)


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
    from dbctl.services.users import update as user_changes

    with opened(ctx) as found:
        prepared = user_changes.set_role(found, who(logins[:-1], ids, inactive), logins[-1])
        return carry_out(ctx, prepared)


@app.command()
def activate(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Let users sign in."""
    from dbctl.services.users import update as user_changes

    with opened(ctx) as found:
        prepared = user_changes.set_active(found, who(logins, ids, inactive), active=True)
        return carry_out(ctx, prepared)


@app.command()
def deactivate(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Keep users out and end their sessions."""
    from dbctl.services.users import update as user_changes

    with opened(ctx) as found:
        prepared = user_changes.set_active(found, who(logins, ids, inactive), active=False)
        return carry_out(ctx, prepared)


@app.command()
def unlock(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    addresses: Annotated[
        list[str] | None,
        typer.Option(
            "--address", metavar="ADDRESS", help="All failed attempts from this address; repeatable."
        ),
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Clear the failed attempts that keep users out, in every spelling and from their addresses."""
    from dbctl.services.users import update as user_changes

    with opened(ctx) as found:
        return carry_out(ctx, user_changes.unlock(found, who(logins, ids), addresses or ()))


@app.command("check-password")
def check_password(
    ctx: typer.Context,
    login: OneLogin = None,
    ids: Ids = None,
    stdin: Stdin = False,
    file: PasswordFile = None,
) -> int:
    """Say whether a password is a user's: exit 0 where it is, 1 where it is not."""
    with opened(ctx) as found:
        user = queries.find_single_user(found, who(login, ids))
        password, _ = read_password(ctx, stdin=stdin, file=file, generate=False, confirm=False)
        return show(ctx, found, queries.check_password(found, user, password))


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
    from dbctl.services.users import import_users

    lines = read_lines(contents(file, "file of users"), str(file))
    with opened(ctx) as found, progress(ctx, "Hashing passwords", len(lines)) as advance:
        prepared = import_users(
            found, lines, file=str(file), existing=existing, generate=generate, advance=advance
        )
        return carry_out(ctx, prepared)


@app.command()
def export(
    ctx: typer.Context,
    secrets: Annotated[bool, typer.Option("--secrets", help="Take the password hashes along.")] = False,
) -> int:
    """Give out every user, as `users import` takes them; CSV unless -o says otherwise."""
    from dbctl.services.users import export_users

    with opened(ctx) as found:
        return show(ctx, found, export_users(found, secrets=secrets), instead_of_table=Format.CSV)


@app.command("export-data")
def export_data(
    ctx: typer.Context,
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="A username or an e-mail address.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="A new JSON file; - is standard output.")],
    secrets: Annotated[
        bool,
        typer.Option("--secrets", help="Also hashes, tokens and keys, which are left out otherwise."),
    ] = False,
) -> int:
    """Write all data of one user, from every database of the app, to a JSON file."""
    import json

    from dbctl.render import jsonable
    from dbctl.services.data import UserDataExported, collect_user_data

    with opened(ctx) as found:
        data = collect_user_data(found, who([login], None), secrets=secrets)
        text = json.dumps(jsonable(data), indent=1, ensure_ascii=False) + "\n"
        if file == "-":
            streams.write(text, utf8=True)
            return 0
        with written_whole(Path(file)) as target:
            target.write(text)
        return show(ctx, found, UserDataExported.of(data, file), picked=False)


class _Source(Value, frozen=True, kw_only=True):
    """Where a new password comes from; from a question where nothing says."""

    stdin: bool
    file: Path | None
    generate: bool


def _given(fields: list[str] | None, **options: str) -> dict[str, str]:
    """Return what options and ``--set`` say of a user's fields."""
    values = {field: text for field, text in options.items() if text}
    more = pairs(fields or (), "--set")
    for field in more.keys() & values.keys():
        raise UsageError(detail=f"{field} is given twice: by --{field} and by --set")
    return values | more


def _typed(
    found: App, username: str, fields: list[str] | None, *, active: bool | None, **options: str
) -> dict[str, str]:
    """Return what is wanted of a user; the argument is the first of the fields by which the app's users sign in."""
    login = queries.open_user_table(found).section.login[0]
    options = {field: text for field, text in options.items() if field != login}
    word = "" if active is None else "true" if active else "false"
    values = _given(fields, **options, active=word)
    if login in values:
        raise UsageError(detail=f"{login} is given twice: as the argument and by --set")
    return {login: username} | values


def _with_password(ctx: typer.Context, found: App, new: "NewUser", source: _Source) -> "NewUser":
    """Return ``new`` with the hash of the password that was given; ``--dry-run`` only looks at it, where one is given."""
    from dbctl.services.users import create as user_creation

    dry_run = bool(ctx.params.get("dry_run"))
    asked = source.stdin or source.file is not None or source.generate
    lacks = found.profile.users is None or found.profile.users.password is None
    if (dry_run or lacks) and not asked:
        return new
    password, made = read_password(ctx, stdin=source.stdin, file=source.file, generate=source.generate)
    user_creation.check_password(found, password)
    if dry_run:
        return new
    hashed = user_creation.hash_password(found, password)
    return structs.replace(new, hashed=hashed, generated=password if made else None)
