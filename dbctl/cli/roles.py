"""``dbctl roles``: roles and their permissions."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias

from dbctl.cli._support.emit import cache_notes, emit, run_change
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option
from dbctl.cli._support.parameters import DryRun, Limit, Offset, Sort, name_or_id, requested_page
from dbctl.cli._support.session import Session
from dbctl.errors.base import Exit
from dbctl.errors.usage import UsageError
from dbctl.model import KeyText, Page
from dbctl.services.roles import changes, queries
from dbctl.spec import EVERYWHERE, Example, Fleet, Write

if TYPE_CHECKING:
    from dbctl.services.app.app import App
    from dbctl.services.roles.changes import RoleChangeResult, RoleDeleteResult
    from dbctl.services.roles.queries import Matrix, Permission, PermissionCheck
    from dbctl.services.roles.role_table import Role


GROUP = Group("roles", section="Change", position=2, help="Roles and their permissions.")

RoleName: TypeAlias = Annotated[str, argument("[ROLE]", "Name of a role.")]
RoleId: TypeAlias = Annotated[str, option("--id", "ID", "Select a role by id instead of ROLE.")]
RoleAndPermissions: TypeAlias = Annotated[
    list[str] | None,
    argument(
        "[ROLE] PERMISSION...", "Name of a role, then names of permissions; games.* selects all that match."
    ),
]
BuiltIn: TypeAlias = Annotated[
    bool, flag("--built-in", "Also change permissions that a role built into the app has by its profile.")
]
Description: TypeAlias = Annotated[
    str | None, option("--description", "TEXT", "New description; an empty text removes it.")
]
Priority: TypeAlias = Annotated[
    int | None, option("--priority", "N", "Priority, if the app has it; a higher number has more privileges.")
]


@Example("roles list", on=EVERYWHERE)
@Example("roles list --sort -users")
@GROUP.command("list", answers=lambda: (Page[Role],), fleet=Fleet())
def list_(session: Session, limit: Limit = 100, offset: Offset = 0, sort: Sort = "") -> int:
    """List roles with the number of their users."""
    with session.open_app() as app:
        return emit(session, queries.list_roles(app, requested_page(limit, offset, sort)), app=app)


@Example("roles show {role}", on=EVERYWHERE)
@Example("roles show --id 2 -o json", on="flashpoint-web")
@GROUP.command("show", answers=lambda: (Role,))
def show_(session: Session, role: RoleName = "", ident: RoleId = "") -> int:
    """Show one role and its permissions."""
    with session.open_app() as app:
        return emit(session, queries.show_role(app, _role_selector(role, ident)), app=app)


@Example("roles create editor --permission 'games.*'", on=EVERYWHERE)
@Example("roles create guide --description 'Helps players' --dry-run")
@GROUP.command(
    "create",
    answers=lambda: (RoleChangeResult,),
    writes=Write(
        source="input",
        facts=("role-key", "role-created", "permission-link", "audit"),
        undo=True,
        may_destroy=False,
    ),
)
def create(
    session: Session,
    role: Annotated[str, argument("ROLE", "Name of the new role.")],
    description: Annotated[str, option("--description", "TEXT", "Description.")] = "",
    priority: Priority = None,
    permissions: Annotated[
        list[str] | None,
        option(
            "--permission", "PERMISSION", "Grant this permission; games.* selects all that match; repeatable."
        ),
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Add a role."""
    with session.open_app() as app:
        operation = changes.create_role(
            app, role, description=description, priority=priority, permissions=permissions or ()
        )
        return run_change(session, operation, dry_run=dry_run)


@Example("roles update {role} --description 'Edits games'", on=EVERYWHERE)
@Example("roles update {role} --name reviewer --dry-run")
@GROUP.command(
    "update",
    answers=lambda: (RoleChangeResult,),
    writes=Write(source="input", facts=("role-updated", "audit"), undo=True),
)
def update(
    session: Session,
    role: RoleName = "",
    ident: RoleId = "",
    name: Annotated[str | None, option("--name", "NAME", "New name.")] = None,
    description: Description = None,
    priority: Priority = None,
    dry_run: DryRun = False,
) -> int:
    """Change the name, description or priority of a role."""
    values = {"name": name, "description": description, "priority": priority}
    fields = {field: value for field, value in values.items() if value is not None}
    if not fields:
        raise UsageError(detail="pass at least one of --name, --description and --priority")
    with session.open_app() as app:
        return run_change(
            session, changes.update_role(app, _role_selector(role, ident), fields), dry_run=dry_run
        )


@Example("roles delete {role} --yes", on=EVERYWHERE)
@Example("roles delete --id 7 --dry-run")
@GROUP.command(
    "delete", answers=lambda: (RoleDeleteResult,), writes=Write(source="input", facts=("audit",), undo=True)
)
def delete(session: Session, role: RoleName = "", ident: RoleId = "", dry_run: DryRun = False) -> int:
    """Delete a role that no user has."""
    with session.open_app() as app:
        return run_change(session, changes.delete_role(app, _role_selector(role, ident)), dry_run=dry_run)


@Example("roles grant {role} games.read games.play", on=EVERYWHERE)
@Example("roles grant {role} 'games.*' --dry-run")
@GROUP.command(
    "grant",
    answers=lambda: (RoleChangeResult,),
    writes=Write(
        source="input", facts=("role-updated", "permission-link", "audit"), undo=True, may_destroy=False
    ),
)
def grant(
    session: Session,
    arguments: RoleAndPermissions = None,
    ident: RoleId = "",
    built_in: BuiltIn = False,
    dry_run: DryRun = False,
) -> int:
    """Grant permissions to a role."""
    with session.open_app() as app:
        role, names = _role_and_permissions(arguments or (), ident)
        operation = changes.grant(app, role, names, built_in=built_in)
        return run_change(session, operation, notes=_cache_notes(app), dry_run=dry_run)


@Example("roles revoke {role} games.play", on=EVERYWHERE)
@Example("roles revoke guest games.play --built-in --dry-run")
@GROUP.command(
    "revoke",
    answers=lambda: (RoleChangeResult,),
    writes=Write(source="input", facts=("role-updated", "audit"), undo=True),
)
def revoke(
    session: Session,
    arguments: RoleAndPermissions = None,
    ident: RoleId = "",
    built_in: BuiltIn = False,
    dry_run: DryRun = False,
) -> int:
    """Revoke permissions from a role."""
    with session.open_app() as app:
        role, names = _role_and_permissions(arguments or (), ident)
        operation = changes.revoke(app, role, names, built_in=built_in)
        return run_change(session, operation, notes=_cache_notes(app), dry_run=dry_run)


@Example("roles matrix", on=EVERYWHERE)
@Example("roles matrix -o csv")
@GROUP.command("matrix", answers=lambda: (Matrix,))
def matrix(session: Session) -> int:
    """Show the permissions of every role in one table."""
    with session.open_app() as app:
        return emit(session, queries.read_matrix(app), app=app)


@Example("roles permissions", on=EVERYWHERE)
@Example("roles permissions --sort name --limit 20")
@GROUP.command("permissions", answers=lambda: (Page[Permission],))
def permissions(session: Session, limit: Limit = 1000, offset: Offset = 0, sort: Sort = "") -> int:
    """List permissions and the roles that have each."""
    with session.open_app() as app:
        return emit(session, queries.list_permissions(app, requested_page(limit, offset, sort)), app=app)


@Example("roles can {login} games.play --explain", on=EVERYWHERE)
@Example("roles can {login} games.play -o json")
@GROUP.command("can", answers=lambda: (PermissionCheck,))
def can(
    session: Session,
    arguments: Annotated[
        list[str] | None,
        argument("[USER] PERMISSION", "Username or e-mail address, then the name of a permission."),
    ] = None,
    ident: Annotated[str, option("--id", "ID", "Select a user by id instead of USER.")] = "",
    explain: Annotated[bool, flag("--explain", "Show the reason.")] = False,
) -> int:
    """Check whether a user has a permission: exit 0 if allowed, 1 if not."""
    login, permissions = _split_target(arguments or (), ident, "a user")
    if len(permissions) != 1:
        raise UsageError(detail="pass exactly one permission")
    with session.open_app() as app:
        decision = queries.check_permission(app, login, permissions[0], explain=explain)
        return emit(session, decision, app=app, status=Exit.OK if decision.allowed else Exit.FAILED)


def _role_selector(name: str, ident: str) -> str | KeyText:
    if not (name or ident):
        raise UsageError(detail="pass ROLE or --id ID")
    return name_or_id(name, ident)


def _split_target(arguments: Sequence[str], ident: str, subject: str) -> tuple[str | KeyText, Sequence[str]]:
    """Return the first argument, or ``--id`` instead of it, and the remaining arguments."""
    if not (arguments or ident):
        raise UsageError(detail=f"{subject} is missing")
    return (KeyText(ident), arguments) if ident else (arguments[0], arguments[1:])


def _role_and_permissions(arguments: Sequence[str], ident: str) -> tuple[str | KeyText, Sequence[str]]:
    role, permissions = _split_target(arguments, ident, "a role")
    if not permissions:
        raise UsageError(detail="a permission is missing")
    return role, permissions


def _cache_notes(app: "App") -> list[str]:
    section = app.profile.roles
    return cache_notes(app, "permissions", section.cache if section else "")
