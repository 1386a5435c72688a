"""``dbctl users``: users of an app.

Over 460 lines: a group of commands is one module, and this group has the most commands.
"""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer
from msgspec import structs

from dbctl.cli._support.emit import PasswordSource, emit, read_password, run_change, show_progress
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import (
    FILTER_ZONE,
    DryRun,
    Ids,
    Inactive,
    Limit,
    Logins,
    Offset,
    Sort,
    parse_key_values,
    read_file,
    requested_page,
    select_users,
)
from dbctl.cli._support.session import Session
from dbctl.errors.usage import UsageError
from dbctl.files.atomic import write_atomically
from dbctl.model import Page
from dbctl.render import streams
from dbctl.render.streams import Format
from dbctl.render.text import jsonable
from dbctl.services.users.files import Existing, read_lines
from dbctl.spec import EVERYWHERE, Example, Fleet, Write

if TYPE_CHECKING:
    from dbctl.services.app.app import App
    from dbctl.services.app.user_table import User
    from dbctl.services.data.personal_data import UserDataExported
    from dbctl.services.users.create import NewUser, UserCreated
    from dbctl.services.users.delete import UsersDeleted
    from dbctl.services.users.detail import UserShown
    from dbctl.services.users.import_export import UsersImported
    from dbctl.services.users.lockout import Unlocked
    from dbctl.services.users.passwords import PasswordChecked
    from dbctl.services.users.second_factors import SecondFactorsReset
    from dbctl.services.users.update import UsersChanged, UserUpdate


U = TypeVar("U", "NewUser", "UserUpdate")

GROUP = Group("users", section="Change", position=1, help="Users of the app.")

Login: TypeAlias = Annotated[str, argument("LOGIN", "Login of the user: the username, in most apps.")]
SingleLogin: TypeAlias = Annotated[list[str] | None, argument("LOGIN", "Username or e-mail address.")]
Active: TypeAlias = Annotated[bool | None, flag("--active/--no-active", "Allow the user to sign in, or not.")]
Stdin: TypeAlias = Annotated[
    bool, flag("--password-stdin", "Read the password from the first line of standard input.")
]
PasswordFile: TypeAlias = Annotated[
    Path | None, option("--password-file", "FILE", "Read the password from the first line of a file.")
]
Generate: TypeAlias = Annotated[bool, flag("--generate", "Generate a password and print it once.")]
Role: TypeAlias = Annotated[
    str, option("--role", "ROLE", "Role; default for a new user: the app's default role.")
]
RoleOfLogins: TypeAlias = Annotated[
    list[str], argument("LOGIN... ROLE", "Logins, and the role as last argument.")
]
Email: TypeAlias = Annotated[str, option("--email", "ADDRESS", "E-mail address.")]
Name: TypeAlias = Annotated[str, option("--name", "NAME", "Name, if the app stores one.")]
Fields: TypeAlias = Annotated[
    list[str] | None, option("--set", "FIELD=VALUE", "Set any other field of the profile; repeatable.")
]


@Example("users list --role admin")
@Example("users list --inactive 365d --sort last_login_at -o csv")
@GROUP.command("list", answers=lambda: (Page[User],), fleet=Fleet())
def list_(
    session: Session,
    role: Annotated[str, option("--role", "ROLE", "Show only users with this role.")] = "",
    active: Annotated[
        bool | None, flag("--active/--no-active", "Show only active, or only inactive users.")
    ] = None,
    never: Annotated[bool, flag("--never-signed-in", "Show only users who never signed in.")] = False,
    locked: Annotated[
        bool, flag("--locked", "Show only users who are locked out by failed attempts.")
    ] = False,
    inactive: Inactive = None,
    filters: Annotated[
        list[str] | None,
        option(
            "--filter",
            "FIELD=VALUE",
            f"Filter by any mapped field that is not secret, a time by the 24 hours from it; repeatable. {FILTER_ZONE}",
        ),
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List users."""
    from dbctl.services.users.queries import UserFilter, list_users

    user_filter = UserFilter(
        role=role,
        active=active,
        never_signed_in=never,
        inactive_for=inactive,
        fields=parse_key_values(filters or (), "--filter"),
    )
    page_request = requested_page(limit, offset, sort)
    with session.open_app() as app:
        if not locked:
            return emit(session, list_users(app, user_filter, page_request), app=app)
        from dbctl.services.users.lockout import list_locked

        report = list_locked(app, user_filter, page_request)
        return emit(session, report.page, app=app, notes=report.remarks)


@Example("users show {login}", on=EVERYWHERE)
@Example("users show --id 7 -o json")
@GROUP.command("show", answers=lambda: (UserShown, Page[UserShown]), fleet=Fleet())
def show_(session: Session, logins: Logins = None, ids: Ids = None) -> int:
    """Show users with role, permissions, tokens (without their values), settings and statistics."""
    from dbctl.services.users.detail import show_users

    with session.open_app() as app:
        return emit(session, show_users(app, select_users(logins, ids)), app=app)


@Example("users create {new} --email {new}@example.org --generate", on="flashpoint-web custom")
@Example("users create {new} --role editor --password-file password.txt")
@GROUP.command(
    "create",
    answers=lambda: (UserCreated,),
    writes=Write(
        source="input", facts=("user-key", "user-created", "active", "audit"), undo=True, may_destroy=False
    ),
)
def create(
    session: Session,
    username: Login,
    email: Email = "",
    role: Role = "",
    name: Name = "",
    fields: Fields = None,
    active: Active = None,
    with_settings: Annotated[
        bool, flag("--with-settings", "Add the settings that the app creates for users who register.")
    ] = False,
    stdin: Stdin = False,
    file: PasswordFile = None,
    generate: Generate = False,
    dry_run: DryRun = False,
) -> int:
    """Add a user."""
    from dbctl.services.users.create import NewUser, create_user

    with session.open_app() as app:
        values = _user_fields(app, username, fields, email=email, name=name, role=role, active=active)
        new = NewUser(fields=values, with_settings=with_settings)
        sources = (stdin, file, generate)
        # report errors before prompting for a password
        plan = create_user(app, new).plan() if dry_run or not any(sources) else None
        new = _add_password(session, app, new, sources, dry_run=dry_run)
        lacks_settings = app.core.users and app.core.users.new_settings and not with_settings
        notes = [
            "no user settings were added, as for users whom an admin creates; add them with --with-settings"
        ]
        operation = create_user(app, new)
        return run_change(
            session, operation, dry_run=dry_run, plan=plan, notes=notes if lacks_settings else ()
        )


@Example("users ensure alice --role editor --dry-run")
@Example("users ensure {login} --email {new}@example.org --generate", on="flashpoint-web custom")
@GROUP.command(
    "ensure",
    answers=lambda: (UserCreated,),
    writes=Write(
        source="input",
        facts=("user-key", "user-created", "user-updated", "active", "sign-out", "audit"),
        undo=True,
    ),
)
def ensure(
    session: Session,
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
    """
    from dbctl.services.users.create import NewUser, ensure_user, needs_password

    with session.open_app() as app:
        values = _user_fields(app, username, fields, email=email, name=name, role=role, active=active)
        new = NewUser(fields=values)
        plan, sources = None, (stdin, file, generate)
        if needs_password(app, new):
            plan = ensure_user(app, new).plan() if dry_run or not any(sources) else None
            new = _add_password(session, app, new, sources, dry_run=dry_run)
        return run_change(session, ensure_user(app, new), dry_run=dry_run, plan=plan)


@Example("users update {login} --email {new}@example.org", on="flashpoint-web custom")
@Example("users update --id 7 --set name='Alice B.' --dry-run")
@GROUP.command(
    "update",
    answers=lambda: (UsersChanged,),
    writes=Write(source="input", facts=("user-updated", "active", "sign-out", "audit"), undo=True),
)
def update(
    session: Session,
    logins: Logins = None,
    ids: Ids = None,
    email: Email = "",
    name: Name = "",
    fields: Fields = None,
    dry_run: DryRun = False,
) -> int:
    """Change fields of a user, such as the e-mail address."""
    values = _merge_fields(fields, email=email, name=name)
    if not values:
        raise UsageError(detail="pass at least one of --email, --name and --set FIELD=VALUE")
    from dbctl.services.users.update import update_user

    with session.open_app() as app:
        return run_change(session, update_user(app, select_users(logins, ids), values), dry_run=dry_run)


@Example("users delete alice --transfer-to bob --dry-run")
@Example("users delete --inactive 730d --dry-run")
@GROUP.command(
    "delete",
    answers=lambda: (UsersDeleted,),
    writes=Write(source="input", facts=("audit",), undo=True),
    fleet=Fleet(resumes=True, may_destroy=True),
)
def delete(
    session: Session,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    new_owner: Annotated[
        str, option("--transfer-to", "LOGIN", "Transfer their rows to this user, if the app allows it.")
    ] = "",
    delete_duplicates: Annotated[
        bool,
        flag(
            "--delete-duplicates",
            "Delete the rows whose unique key the user who gets the others already has.",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Delete users with all their rows; the plan lists the rows per table."""
    from dbctl.services.users.delete import delete_users

    with session.open_app() as app:
        selector = select_users(logins, ids, inactive)
        operation = delete_users(app, selector, new_owner=new_owner, delete_duplicates=delete_duplicates)
        return run_change(session, operation, dry_run=dry_run)


@Example("users set-password {login} --generate", on="flashpoint-web custom")
@Example("users set-password --id 7 --password-stdin")
@Example("users set-password ann", shown=False, meaning="Set the password of a user.")
@GROUP.command(
    "set-password",
    answers=lambda: (UsersChanged,),
    writes=Write(source="input", facts=("user-updated", "sign-out", "audit"), undo=True),
)
def set_password(
    session: Session,
    login: SingleLogin = None,
    ids: Ids = None,
    stdin: Stdin = False,
    file: PasswordFile = None,
    generate: Generate = False,
    dry_run: DryRun = False,
) -> int:
    """Set the password of a user and end their sessions."""
    from dbctl.services.users.update import UserUpdate, set_password

    with session.open_app() as app:
        selector, new = select_users(login, ids), UserUpdate()
        sources = (stdin, file, generate)
        # report an unknown user before prompting
        plan = set_password(app, selector, new).plan() if dry_run or not any(sources) else None
        new = _add_password(session, app, new, sources, dry_run=dry_run)
        return run_change(session, set_password(app, selector, new), dry_run=dry_run, plan=plan)


@Example("users set-role {login} {role}", on="flashpoint-web custom")
@Example("users set-role --inactive 365d guest --dry-run")
@GROUP.command(
    "set-role",
    answers=lambda: (UsersChanged,),
    writes=Write(source="input", facts=("user-updated", "sign-out", "audit"), undo=True),
    fleet=Fleet(resumes=True, max_logins=2),
)
def set_role(
    session: Session,
    logins: RoleOfLogins,
    ids: Ids = None,
    inactive: Inactive = None,
    demote_to: Annotated[
        str,
        option(
            "--demote-to", "ROLE", "Transfer a role that exactly one user has: its holder gets this role."
        ),
    ] = "",
    dry_run: DryRun = False,
) -> int:
    """Assign a role to users, instead of their roles, and end their sessions."""
    from dbctl.services.users.update import set_role

    with session.open_app() as app:
        selector = select_users(logins[:-1], ids, inactive)
        operation = set_role(app, selector, logins[-1], previous_holder_role=demote_to)
        return run_change(session, operation, dry_run=dry_run)


@Example("users add-role {login} {role}", on="custom samples")
@Example("users add-role --id 7 editors --dry-run")
@GROUP.command(
    "add-role",
    answers=lambda: (UsersChanged,),
    writes=Write(source="input", facts=("user-updated", "sign-out", "audit"), undo=True),
)
def add_role(
    session: Session,
    logins: RoleOfLogins,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Give users a further role, in apps whose users may have several, and end their sessions."""
    from dbctl.services.users.update import add_role

    with session.open_app() as app:
        operation = add_role(app, select_users(logins[:-1], ids, inactive), logins[-1])
        return run_change(session, operation, dry_run=dry_run)


@Example("users remove-role {login} {role} --dry-run", on="custom samples")
@Example("users remove-role --inactive 365d editors --yes")
@GROUP.command(
    "remove-role",
    answers=lambda: (UsersChanged,),
    writes=Write(source="input", facts=("user-updated", "sign-out", "audit"), undo=True),
)
def remove_role(
    session: Session,
    logins: RoleOfLogins,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Remove one of the roles of users, in apps whose users may have several, and end their sessions."""
    from dbctl.services.users.update import remove_role

    with session.open_app() as app:
        operation = remove_role(app, select_users(logins[:-1], ids, inactive), logins[-1])
        return run_change(session, operation, dry_run=dry_run)


@Example("users activate {login}", on=EVERYWHERE, needs=("users deactivate {login}",))
@Example("users activate alice bob --dry-run")
@GROUP.command(
    "activate",
    answers=lambda: (UsersChanged,),
    writes=Write(source="input", facts=("user-updated", "active", "sign-out", "audit"), undo=True),
    fleet=Fleet(resumes=True),
)
def activate(
    session: Session,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Allow users to sign in."""
    from dbctl.services.users.update import set_active

    with session.open_app() as app:
        operation = set_active(app, select_users(logins, ids, inactive), active=True)
        return run_change(session, operation, dry_run=dry_run)


@Example("users deactivate {login}", on=EVERYWHERE)
@Example("users deactivate --inactive 365d --yes")
@GROUP.command(
    "deactivate",
    answers=lambda: (UsersChanged,),
    writes=Write(source="input", facts=("user-updated", "active", "sign-out", "audit"), undo=True),
    fleet=Fleet(resumes=True),
)
def deactivate(
    session: Session,
    logins: Logins = None,
    ids: Ids = None,
    inactive: Inactive = None,
    dry_run: DryRun = False,
) -> int:
    """Prevent users from signing in, and end their sessions."""
    from dbctl.services.users.update import set_active

    with session.open_app() as app:
        operation = set_active(app, select_users(logins, ids, inactive), active=False)
        return run_change(session, operation, dry_run=dry_run)


@Example("users unlock {login}", on=EVERYWHERE)
@Example("users unlock --address 203.0.113.7 --dry-run")
@GROUP.command(
    "unlock",
    answers=lambda: (Unlocked,),
    writes=Write(source="generated", facts=("audit",), undo=True),
    fleet=Fleet(resumes=True),
)
def unlock(
    session: Session,
    logins: Logins = None,
    ids: Ids = None,
    addresses: Annotated[
        list[str] | None,
        option("--address", "ADDRESS", "Also clear all failed attempts from this address; repeatable."),
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Clear the failed attempts that lock users out, for every spelling of the login and for their addresses."""
    from dbctl.services.users.lockout import unlock

    with session.open_app() as app:
        operation = unlock(app, select_users(logins, ids), addresses or ())
        return run_change(session, operation, dry_run=dry_run)


@Example("users reset-2fa {login}", on="samples")
@Example("users reset-2fa alice bob --dry-run")
@GROUP.command(
    "reset-2fa",
    answers=lambda: (SecondFactorsReset,),
    writes=Write(source="generated", facts=("user-updated", "sign-out", "audit"), undo=True),
    fleet=Fleet(resumes=True),
)
def reset_2fa(session: Session, logins: Logins = None, ids: Ids = None, dry_run: DryRun = False) -> int:
    """Remove the second factors of users, such as a lost authenticator, and end their sessions.

    The users then sign in with the password alone, and can register a new second factor.
    """
    from dbctl.services.users.second_factors import reset

    with session.open_app() as app:
        return run_change(session, reset(app, select_users(logins, ids)), dry_run=dry_run)


@Example("users check-password alice --password-stdin")
@Example(
    "users check-password {login} --password-file password",
    on="samples",
    needs=("users set-password {login} --password-file password",),
)
@GROUP.command("check-password", answers=lambda: (PasswordChecked,), only_answers=False)
def check_password(
    session: Session,
    login: SingleLogin = None,
    ids: Ids = None,
    stdin: Stdin = False,
    file: PasswordFile = None,
) -> int:
    """Check the password of a user: exit 0 if it matches, 1 if not."""
    from dbctl.services.users.passwords import compare_password
    from dbctl.services.users.queries import find_single_user

    with session.open_app() as app:
        user = find_single_user(app, select_users(login, ids))
        password = read_password(session, PasswordSource(stdin, file), confirm=False)
        return emit(session, compare_password(app, user, password), app=app)


@Example("users import users.csv", on=EVERYWHERE)
@Example("users import users.jsonl --existing skip --dry-run")
@GROUP.command(
    "import",
    answers=lambda: (UsersImported,),
    writes=Write(
        source="input", facts=("user-key", "user-created", "active", "audit"), undo=True, may_destroy=False
    ),
)
def import_(
    session: Session,
    file: Annotated[Path, argument("FILE", "CSV, JSON or JSON lines; - is standard input.")],
    existing: Annotated[
        Existing, typer.Option("--existing", help="Action for users who already exist.")
    ] = Existing.FAIL,
    generate: Annotated[
        bool, flag("--generate", "Generate passwords for users without one, and print them once.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Add the users of a file, in one transaction."""
    from dbctl.services.users.import_export import import_users

    lines = read_lines(read_file(file, "file of users"), str(file))
    if generate:
        streams.require_reader()
    with session.open_app() as app, show_progress(session, "hashing passwords", len(lines), unit="passwords"):
        operation = import_users(app, lines, file=str(file), existing=existing, generate=generate)
        return run_change(session, operation, dry_run=dry_run)


@Example("users export > users.csv", on=EVERYWHERE)
@Example("users export -o json")
@GROUP.command("export", answers=lambda: (Page[dict[str, Any]],))
def export(
    session: Session,
    secrets: Annotated[bool, flag("--secrets", "Include password hashes and other secrets.")] = False,
) -> int:
    """Print all users in the form that dbctl users import reads; CSV unless -o selects another format."""
    from dbctl.services.users.import_export import export_users

    with session.open_app() as app:
        page = export_users(app, secrets=secrets)
        return emit(session, page, app=app, instead_of_table=Format.CSV)


@Example("users export-data {login} {login}.json", on=EVERYWHERE)
@Example("users export-data {login} - -o json")
@GROUP.command("export-data", answers=lambda: (UserDataExported,))
def export_data(
    session: Session,
    login: Annotated[str, argument("LOGIN", "Username or e-mail address.")],
    file: Annotated[str, argument("FILE", "New JSON file; - is standard output.")],
    secrets: Annotated[bool, flag("--secrets", "Include hashes, tokens and keys.")] = False,
) -> int:
    """Write all data of one user, from every database of the app, to a JSON file."""
    import json

    from dbctl.services.data.personal_data import UserDataExported, collect_user_data

    with session.open_app() as app:
        user_data = collect_user_data(app, select_users([login], None), secrets=secrets)
        text = json.dumps(jsonable(user_data), indent=1, ensure_ascii=False) + "\n"
        if file == "-":
            streams.write(text, utf8=True)
            return 0
        with write_atomically(Path(file)) as target:
            target.write(text)
        result = UserDataExported.from_data(user_data, file)
        return emit(session, result, app=app, columns_apply=False)


def _merge_fields(assignments: list[str] | None, **options: str) -> dict[str, str]:
    """Return the fields of a user from options and ``--set``."""
    values = {field: text for field, text in options.items() if text}
    fields = parse_key_values(assignments or (), "--set")
    for field in fields.keys() & values.keys():
        raise UsageError(detail=f"{field} is passed twice: with --{field} and with --set")
    return values | fields


def _user_fields(
    app: "App", username: str, fields: list[str] | None, *, active: bool | None, **options: str
) -> dict[str, str]:
    """Return the fields of a user; ``username`` is the value of the first login field of the profile."""
    login = app.require_section(app.core.users, "users").login[0]
    options = {field: text for field, text in options.items() if (field, text) != (login, username)}
    active_text = "" if active is None else "true" if active else "false"
    values = _merge_fields(fields, **options, active=active_text)
    if login in values:
        raise UsageError(detail=f"{login} is passed twice: as argument, and with --{login} or --set")
    return {login: username} | values


def _add_password(
    session: Session, app: "App", new: U, options: tuple[bool, Path | None, bool], *, dry_run: bool
) -> U:
    """Return ``new`` with the hash of its password; ``--dry-run`` only validates a password that was passed."""
    has_passwords = app.core.users is not None and app.core.users.password is not None
    _, _, generate = options
    if (dry_run or not has_passwords) and not any(options):
        return new
    password = read_password(session, PasswordSource(*options))
    from dbctl.services.users.create import check_password, hash_password

    if dry_run:
        check_password(app, password)
        return new
    hashed = hash_password(app, password)
    return structs.replace(new, password_hash=hashed, generated_password=password if generate else None)
