"""Read roles, permissions and their matrix, and check a permission of a user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import structs

from dbctl.engines.contract.database import Condition, Readable
from dbctl.errors.usage import RoleMissingError, UsageError
from dbctl.model import Closing, KeyText, Page, PageRequest, Row, Struct
from dbctl.profiles.codecs import text_or_none
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.results import paginate
from dbctl.services.app.user_table import User, UserTable, users_database
from dbctl.services.roles.role_table import PermissionNames, Role, RoleTable, find_by_id, match_permissions


class RoleDetail(Role, frozen=True, kw_only=True):
    """Result of ``roles show``; its table lists the permissions."""

    def summary(self) -> Row:
        return {}


class Permission(Struct, frozen=True, kw_only=True):
    """One permission, and the roles that have it."""

    name: str
    description: str | None
    resource: str | None
    action: str | None
    roles: Sequence[str]


class Matrix(Struct, frozen=True, kw_only=True):
    """Result of ``roles matrix``: the roles with their permissions."""

    items: Sequence[Role]
    permissions: Sequence[str]  #: all permissions in the order of the app

    def summary(self) -> Sequence[Row]:
        """Return a row per permission with a column per role."""
        return [
            {"permission": name, **{role.name: name in (role.permissions or ()) for role in self.items}}
            for name in self.permissions
        ]


class PermissionCheck(Struct, frozen=True, kw_only=True):
    """Result of ``roles can``."""

    login: str
    permission: str
    allowed: bool
    reasons: Sequence[str]

    @property
    def closing(self) -> Closing:
        return Closing(f"{self.login} {'has' if self.allowed else 'lacks'} the permission {self.permission}")

    def summary(self) -> Row:
        """Return the row, with the reasons if there are any."""
        row = {name: getattr(self, name) for name in ("login", "permission", "allowed")}
        return row | ({"because": self.reasons} if self.reasons else {})


def list_roles(app: App, page_request: PageRequest) -> Page[Role]:
    """Return all roles, also those that are only values in the rows of users."""
    return paginate(read_roles(app, app.reader(users_database(app))), Role, page_request)


def show_role(app: App, name: str | KeyText) -> RoleDetail:
    """Return one role, by its name without regard to case, or by its ID.

    Raises:
        RoleMissingError: no such role exists.
    """
    db = app.reader(users_database(app))
    roles = read_roles(app, db)
    if isinstance(name, KeyText):
        return RoleDetail(**structs.asdict(find_by_id(roles, name, db)))
    same = [role for role in roles if role.name.casefold() == name.casefold()]
    if not same:
        names = [role.name for role in roles]
        raise RoleMissingError(name=name, target=db.target, names=", ".join(names), candidates=names)
    return RoleDetail(**structs.asdict(next((role for role in same if role.name == name), same[0])))


def read_roles(app: App, db: Readable) -> list[Role]:
    """Return the rows of the table of roles, and the roles that are only values in the rows of users."""
    stored = RoleTable(app, db).read() if app.core.roles else []
    names = {role.name for role in stored}
    users = UserTable(app, db) if app.core.users else None
    known = list_permission_names(app, db) if _has_permissions(app) else None
    if users is None or (users.roles is None and stored):
        return stored
    roles = users.require_roles()
    counts, keys = roles.count_users(), roles.keys
    if not stored:  # the table of roles, if there is one, is checked by other commands
        keys = {**keys, **{key: str(key) for key in counts if key is not None and key not in keys}}
    others = [
        Role(id=name, name=name, users=counts.get(key, 0)) for key, name in keys.items() if name not in names
    ]
    return [_add_fixed_permissions(role, roles.section.permissions, known) for role in [*stored, *others]]


def _add_fixed_permissions(
    role: Role, fixed: Mapping[str, Sequence[str]], known: Sequence[str] | None
) -> Role:
    if known is None:
        return role
    granted, patterns = role.permissions or (), fixed.get(role.name, ())
    names = [
        name for name in known if name in granted or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    return structs.replace(role, permissions=names)


def _has_permissions(app: App) -> bool:
    roles, users = app.core.roles, app.core.users
    return bool((roles and roles.permissions) or (users and users.role and users.role.permissions))


def list_permission_names(app: App, db: Readable) -> list[str]:
    """Return all permissions: of the table, or those that the profile names without a pattern.

    Raises:
        FeatureMissingError: the app has no permissions.
    """
    if app.core.roles and app.core.roles.permissions:
        return list(RoleTable(app, db).permission_keys())
    users = app.core.users
    fixed = users.role.permissions if users and users.role else {}
    names = [name for names in fixed.values() for name in names if "*" not in name]
    return list(dict.fromkeys(app.require_section(names, "permissions")))


def read_permissions(app: App, db: Readable, user: User) -> Sequence[str] | None:
    """Return the permissions of a user, or None if the app has no permissions, or the user neither a role nor a grant."""
    if not _has_permissions(app):
        return None
    roles = [role for role in read_roles(app, db) if role.name in user.role_names]
    names = {*_read_grants(app, db, user), *(name for role in roles for name in role.permissions or ())}
    return [name for name in list_permission_names(app, db) if name in names] if roles or names else None


def _read_grants(app: App, db: Readable, user: User) -> list[str]:
    """Return the permissions that a user has without a role."""
    section = app.core.roles.permissions if app.core.roles else None
    link = section.user_link if section else None
    if link is None:
        return []
    keys = {key for (key,) in db.select(link.table, [link.permission], [Condition(link.user, "=", user.id)])}
    return [name for name, key in RoleTable(app, db).permission_keys().items() if key in keys]


def list_permissions(app: App, page_request: PageRequest) -> Page[Permission]:
    db = app.reader(users_database(app))
    details = _read_details(app, db)
    roles = read_roles(app, db)
    items = [
        Permission(
            name=name,
            description=details.get(name, {}).get("description"),
            resource=details.get(name, {}).get("resource"),
            action=details.get(name, {}).get("action"),
            roles=[role.name for role in roles if name in (role.permissions or ())],
        )
        for name in list_permission_names(app, db)
    ]
    return paginate(items, Permission, page_request)


def _read_details(app: App, db: Readable) -> dict[str, dict[str, str | None]]:
    """Return the description, resource and action of each permission in a table."""
    section = app.core.roles.permissions if app.core.roles else None
    if section is None:
        return {}
    live = LiveTable(app.core, db, section.table, "permissions")
    columns = live.map_columns(
        {field: getattr(section, field) for field in ("description", "resource", "action")}
    )
    names, details = PermissionNames(db, section), {}
    for row in db.select(section.table, [*names.columns, *columns.values()]):
        count = len(names.columns)
        details[names.join(row[:count])] = dict(zip(columns, map(text_or_none, row[count:]), strict=True))
    return details


def read_matrix(app: App) -> Matrix:
    """Return the roles with their permissions."""
    db = app.reader(users_database(app))
    names = list_permission_names(app, db)
    return Matrix(items=read_roles(app, db), permissions=names)


def check_permission(app: App, login: str | KeyText, permission: str, *, explain: bool) -> PermissionCheck:
    """Check whether a user has a permission; with ``explain``, return the reasons."""
    db = app.reader(users_database(app))
    known, user = list_permission_names(app, db), UserTable(app, db).find_by_login(login)
    if "*" in permission:
        raise UsageError(detail="specify a single permission, without *")
    name = match_permissions(db, known, [permission])[0]
    permitted = {role.name: name in (role.permissions or ()) for role in read_roles(app, db)}
    is_granted, active = name in _read_grants(app, db, user), user.active is not False
    reasons = [f"{user.login} is {'active' if active else 'deactivated and has no permissions'}"]
    for role in user.role_names or ["(none)"]:
        reasons += (
            [
                f"{user.login} has the role {role}",
                f"role {role} {'has' if permitted[role] else 'lacks'} {name}",
            ]
            if role in permitted
            else [f"the role of {user.login} ({role}) does not exist", f"role {role} lacks {name}"]
        )
    reasons += [f"{user.login} has {name} without a role"] if is_granted else []
    reasons.append("roles with it: " + (", ".join(role for role in permitted if permitted[role]) or "none"))
    allowed = active and (is_granted or any(permitted.get(role) for role in user.role_names))
    return PermissionCheck(
        login=user.login, permission=name, allowed=allowed, reasons=reasons if explain else ()
    )
