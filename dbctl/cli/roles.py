"""``dbctl roles``: who may do what."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

from dbctl.cli._support.app import carry_out, one_of, opened, show
from dbctl.cli._support.options import DryRun, Limit, Offset, Sort, window
from dbctl.errors import Exit, UsageError
from dbctl.model import Id
from dbctl.services.app import App
from dbctl.services.roles import changes, queries

app = typer.Typer(
    name="roles", help="Roles and their permissions.", no_args_is_help=True, rich_markup_mode=None
)

Role: TypeAlias = Annotated[str, typer.Argument(metavar="[ROLE]", help="A role by name.")]
RoleId: TypeAlias = Annotated[str, typer.Option("--id", metavar="ID", help="A role by id, in place of ROLE.")]
RoleAndPermissions: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ROLE] PERMISSION...",
        help="A role by name, and permissions by name; games.* means all that fit.",
    ),
]
Description: TypeAlias = Annotated[
    str | None, typer.Option("--description", metavar="TEXT", help="What it is for; empty takes it away.")
]
Priority: TypeAlias = Annotated[
    int | None,
    typer.Option("--priority", metavar="N", help="Higher means more privileged, where the app keeps it."),
]


@app.command("list")
def list_(ctx: typer.Context, limit: Limit = 100, offset: Offset = 0, sort: Sort = "") -> int:
    """List roles with how many users hold each."""
    with opened(ctx) as found:
        return show(ctx, found, queries.list_roles(found, window(limit, offset, sort)))


@app.command("show")
def show_(ctx: typer.Context, role: Role = "", ident: RoleId = "") -> int:
    """Show one role and its permissions."""
    with opened(ctx) as found:
        return show(ctx, found, queries.show_role(found, _role(role, ident)))


@app.command()
def create(
    ctx: typer.Context,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="Its name.")],
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="What it is for.")] = "",
    priority: Priority = None,
    permissions: Annotated[
        list[str] | None,
        typer.Option(
            "--permission", metavar="PERMISSION", help="Grant this one; repeatable; games.* fits several."
        ),
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Add a role."""
    with opened(ctx) as found:
        prepared = changes.create_role(
            found, role, description=description, priority=priority, permissions=permissions or ()
        )
        return carry_out(ctx, prepared)


@app.command()
def update(
    ctx: typer.Context,
    role: Role = "",
    ident: RoleId = "",
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its new name.")] = None,
    description: Description = None,
    priority: Priority = None,
    dry_run: DryRun = False,
) -> int:
    """Change a role's name, description or priority."""
    told = {"name": name, "description": description, "priority": priority}
    fields = {word: value for word, value in told.items() if value is not None}
    if not fields:
        raise UsageError(detail="nothing to change was given: --name, --description or --priority")
    with opened(ctx) as found:
        return carry_out(ctx, changes.update_role(found, _role(role, ident), fields))


@app.command()
def delete(ctx: typer.Context, role: Role = "", ident: RoleId = "", dry_run: DryRun = False) -> int:
    """Delete a role that nobody holds."""
    with opened(ctx) as found:
        return carry_out(ctx, changes.delete_role(found, _role(role, ident)))


@app.command()
def grant(
    ctx: typer.Context, words: RoleAndPermissions = None, ident: RoleId = "", dry_run: DryRun = False
) -> int:
    """Give a role permissions."""
    with opened(ctx) as found:
        prepared = changes.grant(found, *_role_and_permissions(words or (), ident))
        return carry_out(ctx, prepared, notes=_cached(found))


@app.command()
def revoke(
    ctx: typer.Context, words: RoleAndPermissions = None, ident: RoleId = "", dry_run: DryRun = False
) -> int:
    """Take permissions from a role."""
    with opened(ctx) as found:
        prepared = changes.revoke(found, *_role_and_permissions(words or (), ident))
        return carry_out(ctx, prepared, notes=_cached(found))


@app.command()
def matrix(ctx: typer.Context) -> int:
    """Show which role has which permission."""
    with opened(ctx) as found:
        return show(ctx, found, queries.matrix(found))


@app.command()
def permissions(ctx: typer.Context, limit: Limit = 1000, offset: Offset = 0, sort: Sort = "") -> int:
    """List permissions and the roles that have each."""
    with opened(ctx) as found:
        return show(ctx, found, queries.list_permissions(found, window(limit, offset, sort)))


@app.command()
def can(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[USER] PERMISSION", help="A username or an e-mail address, and a permission by name."
        ),
    ] = None,
    ident: Annotated[str, typer.Option("--id", metavar="ID", help="A user by id, in place of USER.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say why.")] = False,
) -> int:
    """Say whether a user may do something: exit 0 where they may, 1 where they may not."""
    login, permissions = _split(words or (), ident, "a user")
    if len(permissions) != 1:
        raise UsageError(detail="name one permission")
    with opened(ctx) as found:
        answer = queries.can(found, login, permissions[0], explain=explain)
        return show(ctx, found, answer, status=Exit.OK if answer.allowed else Exit.FAILED)


def _role(name: str, ident: str) -> str | Id:
    if not (name or ident):
        raise UsageError(detail="no role was named: ROLE, or --id ID")
    return one_of(name, ident)


def _split(words: Sequence[str], ident: str, what: str) -> tuple[str | Id, Sequence[str]]:
    """Return what the first word names, or ``--id`` in its place, and the other words."""
    if not (words or ident):
        raise UsageError(detail=f"{what} is missing")
    return (Id(ident), words) if ident else (words[0], words[1:])


def _role_and_permissions(words: Sequence[str], ident: str) -> tuple[str | Id, Sequence[str]]:
    role, permissions = _split(words, ident, "a role")
    if not permissions:
        raise UsageError(detail="a permission is missing")
    return role, permissions


def _cached(found: App) -> list[str]:
    told = found.profile.roles
    return (
        [f"a running {found.profile.title} may use the old permissions for up to {told.cache}"]
        if told and told.cache
        else []
    )
