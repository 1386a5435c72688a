"""``dbctl users``: users of an app."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from msgspec import structs

from dbctl.cli._support.app import Ids, Inactive, Logins, open_app, parse_key_values, read_file, select_users
from dbctl.cli._support.emit import emit, note, read_password, run_change, show_progress
from dbctl.cli._support.options import DryRun, Limit, Offset, Sort, requested_page
from dbctl.errors import UsageError
from dbctl.files import write_atomically
from dbctl.model import Struct
from dbctl.render import Format, streams
from dbctl.services.app import App
from dbctl.services.users import Existing, UserFilter, queries, read_lines

if TYPE_CHECKING:
    from dbctl.services.users import NewUser

app = typer.Typer(name="users", help="Users of the app.", no_args_is_help=True, rich_markup_mode=None)

Login: TypeAlias = Annotated[
    str, typer.Argument(metavar="LOGIN", help="Login of the user: the username, in most apps.")
]
SingleLogin: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="LOGIN", help="Username or e-mail address.")
]
Active: TypeAlias = Annotated[
    bool | None, typer.Option("--active/--no-active", help="Allow the user to sign in, or not.")
]
Stdin: TypeAlias = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]
PasswordFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--password-file", metavar="FILE", help="Read the password from the first line of a file."),
]
Generate: TypeAlias = Annotated[
    bool, typer.Option("--generate", help="Generate a password and print it once.")
]
Role: TypeAlias = Annotated[
    str, typer.Option("--role", metavar="ROLE", help="Role; default for a new user: the app's default role.")
]
Email: TypeAlias = Annotated[str, typer.Option("--email", metavar="ADDRESS", help="E-mail address.")]
Name: TypeAlias = Annotated[str, typer.Option("--name", metavar="NAME", help="Name, if the app stores one.")]
Fields: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set any other field of the profile; repeatable."),
]


@app.command("list")
def list_(
    ctx: typer.Context,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="Show only users with this role.")] = "",
    active: Annotated[
        bool | None, typer.Option("--active/--no-active", help="Show only active, or only inactive users.")
    ] = None,
    never: Annotated[
        bool, typer.Option("--never-signed-in", help="Show only users who never signed in.")
    ] = False,
    locked: Annotated[
        bool, typer.Option("--locked", help="Show only users who are locked out by failed attempts.")
    ] = False,
    inactive: Inactive = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="FIELD=VALUE", help="Filter by any mapped field; repeatable."),
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List users.

    Example: dbctl users list --role admin
    """
    user_filter = UserFilter(
        role=role,
        active=active,
        never_signed_in=never,
        inactive_for=inactive,
        fields=parse_key_values(filters or (), "--filter"),
    )
    with open_app(ctx) as app:
        if not locked:
            return emit(
                ctx, queries.list_users(app, user_filter, requested_page(limit, offset, sort)), app=app
            )
        from dbctl.services.users import list_locked

        report = list_locked(app, user_filter, requested_page(limit, offset, sort))
        for message in report.remarks:
            note(ctx, message)
        return emit(ctx, report.page, app=app)


@app.command("show")
def show_(ctx: typer.Context, logins: Logins = None, ids: Ids = None) -> int:
    """Show users with role, permissions, tokens (without their values), settings and statistics.

    Example: dbctl users show alice
    """
    from dbctl.services.users import show_users

    with open_app(ctx) as app:
        return emit(ctx, show_users(app, select_users(logins, ids)), app=app)


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
        typer.Option("--with-settings", help="Add the settings that the app creates for users who register."),
    ] = False,
    stdin: Stdin = False,
    file: PasswordFile = None,
    generate: Generate = False,
    dry_run: DryRun = False,
) -> int:
    """Add a user.

    Example: dbctl users create alice --email alice@example.org --generate
    """
    from dbctl.services.users import create as user_create

    with open_app(ctx) as app:
        values = _user_fields(app, username, fields, email=email, name=name, role=role, active=active)
        new = user_create.NewUser(fields=values, with_settings=with_settings)
        plan = user_create.create_user(app, new).plan()  # report errors before prompting for a password
        new = _add_password(
            ctx, app, new, _PasswordSource(stdin=stdin, file=file, generate=generate), dry_run=dry_run
        )
        has_new_user_settings = app.profile.users and app.profile.users.new_settings and not with_settings
        notes = [
            "no user settings were added, as for users whom an admin creates; add them with --with-settings"
        ]
        return run_change(
            ctx,
            user_create.create_user(app, new),
            dry_run=dry_run,
            plan=plan,
            notes=notes if has_new_user_settings else (),
        )


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
    """Create a user, or update an existing one to these values.

    Values that are not passed remain unchanged. The password is only used for a new user.

    Example: dbctl users ensure alice --role editor --dry-run
    """
    from dbctl.services.users import create as user_create

    with open_app(ctx) as app:
        values = _user_fields(app, username, fields, email=email, name=name, role=role, active=active)
        new = user_create.NewUser(fields=values)
        plan = user_create.ensure_user(app, new).plan()
        if user_create.needs_password(app, new):
            new = _add_password(
                ctx, app, new, _PasswordSource(stdin=stdin, file=file, generate=generate), dry_run=dry_run
            )
        return run_change(ctx, user_create.ensure_user(app, new), dry_run=dry_run, plan=plan)


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
    """Change fields of a user, such as the e-mail address.

    Example: dbctl users update alice --email alice@example.org
    """
    from dbctl.services.users import update as user_update

    values = _merge_fields(fields, email=email, name=name)
    if not values:
        raise UsageError(detail="pass at least one of --email, --name and --set FIELD=VALUE")
    with open_app(ctx) as app:
        operation = user_update.update_user(app, select_users(logins, ids), values)
        return run_change(ctx, operation, dry_run=dry_run)


@app.command()
def delete(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    new_owner: Annotated[
        str,
        typer.Option(
            "--transfer-to", metavar="LOGIN", help="Transfer their rows to this user, if the app allows it."
        ),
    ] = "",
    delete_duplicates: Annotated[
        bool,
        typer.Option(
            "--delete-duplicates",
            help="With --transfer-to: delete rows whose unique key the other user already has.",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Delete users with all their rows; the plan lists the rows per table.

    Example: dbctl users delete alice --transfer-to bob --dry-run
    """
    if delete_duplicates and not new_owner:
        raise UsageError(detail="--delete-duplicates requires --transfer-to")
    from dbctl.services.users import delete_users

    with open_app(ctx) as app:
        operation = delete_users(
            app, select_users(logins, ids, inactive), new_owner=new_owner, delete_duplicates=delete_duplicates
        )
        return run_change(ctx, operation, dry_run=dry_run)


@app.command("set-password")
def set_password(
    ctx: typer.Context,
    login: SingleLogin = None,
    ids: Ids = None,
    stdin: Stdin = False,
    file: PasswordFile = None,
    generate: Generate = False,
    dry_run: DryRun = False,
) -> int:
    """Set the password of a user and end their sessions.

    Example: dbctl users set-password alice --generate
    """
    from dbctl.services.users import create as user_create
    from dbctl.services.users import update as user_update

    with open_app(ctx) as app:
        selector = select_users(login, ids)
        plan = user_update.set_password(app, selector, "").plan()  # report an unknown user before prompting
        new = _add_password(
            ctx,
            app,
            user_create.NewUser(fields={}),
            _PasswordSource(stdin=stdin, file=file, generate=generate),
            dry_run=dry_run,
        )
        operation = user_update.set_password(app, selector, new.password_hash, new.generated_password)
        return run_change(ctx, operation, dry_run=dry_run, plan=plan)


@app.command("set-role")
def set_role(
    ctx: typer.Context,
    logins: Annotated[
        list[str], typer.Argument(metavar="LOGIN... ROLE", help="Logins, and the new role as last argument.")
    ],
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Assign a role to users and end their sessions.

    Example: dbctl users set-role alice bob editor
    """
    from dbctl.services.users import update as user_update

    with open_app(ctx) as app:
        operation = user_update.set_role(app, select_users(logins[:-1], ids, inactive), logins[-1])
        return run_change(ctx, operation, dry_run=dry_run)


@app.command()
def activate(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Allow users to sign in.

    Example: dbctl users activate alice
    """
    from dbctl.services.users import update as user_update

    with open_app(ctx) as app:
        operation = user_update.set_active(app, select_users(logins, ids, inactive), active=True)
        return run_change(ctx, operation, dry_run=dry_run)


@app.command()
def deactivate(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Prevent users from signing in, and end their sessions.

    Example: dbctl users deactivate alice --dry-run
    """
    from dbctl.services.users import update as user_update

    with open_app(ctx) as app:
        operation = user_update.set_active(app, select_users(logins, ids, inactive), active=False)
        return run_change(ctx, operation, dry_run=dry_run)


@app.command()
def unlock(
    ctx: typer.Context,
    logins: Logins = None,
    ids: Ids = None,
    addresses: Annotated[
        list[str] | None,
        typer.Option(
            "--address",
            metavar="ADDRESS",
            help="Also clear all failed attempts from this address; repeatable.",
        ),
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Clear the failed attempts that lock users out, for every spelling of the login and for their addresses.

    Example: dbctl users unlock alice
    """
    from dbctl.services.users import update as user_update

    with open_app(ctx) as app:
        return run_change(
            ctx, user_update.unlock(app, select_users(logins, ids), addresses or ()), dry_run=dry_run
        )


@app.command("check-password")
def check_password(
    ctx: typer.Context,
    login: SingleLogin = None,
    ids: Ids = None,
    stdin: Stdin = False,
    file: PasswordFile = None,
) -> int:
    """Check the password of a user: exit 0 if it matches, 1 if not.

    Example: dbctl users check-password alice --password-stdin
    """
    with open_app(ctx) as app:
        user = queries.find_single_user(app, select_users(login, ids))
        password, _ = read_password(ctx, stdin=stdin, file=file, generate=False, confirm=False)
        return emit(ctx, queries.check_password(app, user, password), app=app)


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, JSON or JSON lines; - is standard input.")
    ],
    existing: Annotated[
        Existing, typer.Option("--existing", help="Action for users who already exist.")
    ] = Existing.FAIL,
    generate: Annotated[
        bool,
        typer.Option("--generate", help="Generate passwords for users without one, and print them once."),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Add the users of a file, in one transaction.

    Example: dbctl users import users.csv --existing skip --dry-run
    """
    from dbctl.services.users import import_users

    lines = read_lines(read_file(file, "file of users"), str(file))
    with open_app(ctx) as app, show_progress(ctx, "Hashing passwords", len(lines)) as advance:
        operation = import_users(
            app, lines, file=str(file), existing=existing, generate=generate, advance=advance
        )
        return run_change(ctx, operation, dry_run=dry_run)


@app.command()
def export(
    ctx: typer.Context,
    secrets: Annotated[bool, typer.Option("--secrets", help="Include the password hashes.")] = False,
) -> int:
    """Print all users in the form that dbctl users import reads; CSV unless -o selects another format.

    Example: dbctl users export > users.csv
    """
    from dbctl.services.users import export_users

    with open_app(ctx) as app:
        return emit(ctx, export_users(app, secrets=secrets), app=app, instead_of_table=Format.CSV)


@app.command("export-data")
def export_data(
    ctx: typer.Context,
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="Username or e-mail address.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="New JSON file; - is standard output.")],
    secrets: Annotated[
        bool,
        typer.Option("--secrets", help="Include hashes, tokens and keys."),
    ] = False,
) -> int:
    """Write all data of one user, from every database of the app, to a JSON file.

    Example: dbctl users export-data alice alice.json
    """
    import json

    from dbctl.render import jsonable
    from dbctl.services.data import UserDataExported, collect_user_data

    with open_app(ctx) as app:
        data = collect_user_data(app, select_users([login], None), secrets=secrets)
        text = json.dumps(jsonable(data), indent=1, ensure_ascii=False) + "\n"
        if file == "-":
            streams.write(text, utf8=True)
            return 0
        with write_atomically(Path(file)) as target:
            target.write(text)
        return emit(ctx, UserDataExported.from_data(data, file), app=app, columns_apply=False)


class _PasswordSource(Struct, frozen=True, kw_only=True):
    """Source of a new password; a prompt by default."""

    stdin: bool
    file: Path | None
    generate: bool


def _merge_fields(assignments_given: list[str] | None, **options: str) -> dict[str, str]:
    """Return the fields of a user from options and ``--set``."""
    values = {field: text for field, text in options.items() if text}
    assignments = parse_key_values(assignments_given or (), "--set")
    for field in assignments.keys() & values.keys():
        raise UsageError(detail=f"{field} is passed twice: with --{field} and with --set")
    return values | assignments


def _user_fields(
    app: App, username: str, fields: list[str] | None, *, active: bool | None, **options: str
) -> dict[str, str]:
    """Return the fields of a user; ``username`` is the value of the first login field of the profile."""
    login = queries.open_user_table(app).section.login[0]
    options = {field: text for field, text in options.items() if field != login}
    active_text = "" if active is None else "true" if active else "false"
    values = _merge_fields(fields, **options, active=active_text)
    if login in values:
        raise UsageError(detail=f"{login} is passed twice: as argument and with --set")
    return {login: username} | values


def _add_password(
    ctx: typer.Context, app: App, new: "NewUser", source: _PasswordSource, *, dry_run: bool
) -> "NewUser":
    """Return ``new`` with the hash of its password; ``--dry-run`` only validates a password that was passed."""
    from dbctl.services.users import create as user_create

    has_source = source.stdin or source.file is not None or source.generate
    is_without_passwords = app.profile.users is None or app.profile.users.password is None
    if (dry_run or is_without_passwords) and not has_source:
        return new
    password, generated = read_password(ctx, stdin=source.stdin, file=source.file, generate=source.generate)
    user_create.check_password(app, password)
    if dry_run:
        return new
    hashed = user_create.hash_password(app, password)
    return structs.replace(new, password_hash=hashed, generated_password=password if generated else None)
