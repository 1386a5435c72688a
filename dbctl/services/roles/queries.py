"""Read roles, permissions and their matrix, and check a permission of a user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import structs

from dbctl.engines.contract import Condition, Readable, Where
from dbctl.errors import PermissionMissingError, RoleMissingError, UsageError
from dbctl.model import KeyText, Page, PageRequest, Row, Struct
from dbctl.profiles.model import Roles
from dbctl.services.app import (
    App,
    LiveTable,
    User,
    UserTable,
    paginate,
    suggest_sentence,
    text_or_none,
    truncate,
    users_database,
)


class Role(Struct, frozen=True, kw_only=True):
    """One role; ``permissions`` is None if the app has no permissions."""

    id: object
    name: str
    description: str | None = None
    priority: int | None = None
    users: int
    permissions: Sequence[str] | None = None
    built_in: bool = False

    def summary(self) -> Row:
        count = None if self.permissions is None else len(self.permissions)
        return {word: getattr(self, word) for word in self.__struct_fields__} | {"permissions": count}


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

    def summary(self) -> Row:
        """Return the row, with the reasons if there are any."""
        row = {name: getattr(self, name) for name in ("login", "permission", "allowed")}
        return row | ({"because": self.reasons} if self.reasons else {})


class RoleTable:
    """The roles of one open database, in a table."""

    def __init__(self, app: App, db: Readable, feature: str = "roles") -> None:
        """Open the table; ``feature`` is named in the error message.

        Raises:
            FeatureMissingError: the app has no table of roles.
        """
        self.app, self.db = app, db
        self.section: Roles = app.require_section(app.profile.roles, feature)
        self.live = LiveTable(app.profile, db, self.section.table, "roles")
        self.fields = self.live.map_columns(self.section.fields)

    def read(self, where: Sequence[Where] = ()) -> list[Role]:
        """Return roles with their permissions and numbers of users."""
        columns = [self.section.key, *self.fields.values()]
        rows = self.db.select(self.live.name, columns, where)
        user_counts = self._count_users()
        permitted = self.permissions_by_role()
        roles = []
        for row in rows:
            record = dict(zip(columns, row, strict=True))
            key = record[self.section.key]
            values = {word: record[column] for word, column in self.fields.items()}
            roles.append(
                Role(
                    id=key,
                    name=str(values["name"]),
                    description=text_or_none(values.get("description")),
                    priority=values.get("priority"),  # type: ignore[arg-type]  # any stored value
                    users=user_counts.get(key, 0),
                    permissions=permitted.get(key, []) if self.section.permissions else None,
                    built_in=key in self.section.built_in.ids
                    or str(values["name"]) in self.section.built_in.names,
                )
            )
        return roles

    def find(self, name: str | KeyText) -> Role:
        """Return the role with this name, ignoring case, or with this ID.

        Raises:
            RoleMissingError: no such role exists.
        """
        if isinstance(name, KeyText):
            return find_by_id(self.read(), name, self.db)
        roles = self.read([Condition(self.fields["name"], "same", name)]) if name.isprintable() else []
        if not roles:
            names = ", ".join(role.name for role in self.read())
            raise RoleMissingError(name=name, target=self.db.target, names=names)
        return next((role for role in roles if role.name == name), roles[0])

    def permission_keys(self) -> dict[str, object]:
        """Return the keys of all permissions by name."""
        section = self.app.require_section(self.section.permissions, "permissions")
        return {str(name): key for name, key in self.db.select(section.table, [section.name, section.key])}

    def permissions_by_role(self) -> dict[object, list[str]]:
        """Return the names of permissions by the key of the role, in the order of the app."""
        section = self.section.permissions
        if section is None:
            return {}
        names = {key: name for name, key in self.permission_keys().items()}
        pairs = self.db.select(section.link.table, [section.link.role, section.link.permission])
        linked: dict[object, set[object]] = {}
        for role, permission in pairs:
            linked.setdefault(role, set()).add(permission)
        return {role: [name for key, name in names.items() if key in keys] for role, keys in linked.items()}

    def match_permissions(self, patterns: Sequence[str]) -> list[str]:
        """Return the permissions that match the names or patterns such as ``games.*``.

        Raises:
            PermissionMissingError: a pattern matches no permission.
        """
        known = list(self.permission_keys()) if patterns else []
        matched: list[str] = []
        for pattern in patterns:
            matches = [name for name in known if fnmatchcase(name, pattern)] if "*" in pattern else [pattern]
            if not matches or not set(matches) <= set(known):
                raise PermissionMissingError(
                    name=pattern, target=self.db.target, suggestion=suggest_sentence(pattern, known)
                )
            matched += matches
        return list(dict.fromkeys(matched))

    def _count_users(self) -> Mapping[object, int]:
        users = UserTable(self.app, self.db) if self.app.profile.users else None
        return users.roles.count_users() if users and users.roles else {}


def role_permissions(app: App, db: Readable, user: User) -> Sequence[str] | None:
    """Return the permissions of a user's roles, or None if the app has no permissions or no such role exists."""
    roles = [role for role in RoleTable(app, db).read() if role.name in user.role_names]
    names = dict.fromkeys(name for role in roles for name in role.permissions or ())
    return list(names) if roles and roles[0].permissions is not None else None


def list_roles(app: App, page_request: PageRequest) -> Page[Role]:
    """Return all roles, also those that are only values in the rows of users."""
    db = app.reader(users_database(app))
    return paginate(
        RoleTable(app, db).read() if app.profile.roles else read_role_names(app, db), Role, page_request
    )


def find_by_id(roles: Sequence[Role], selector: KeyText, db: Readable) -> Role:
    """Return the role with this ID.

    Raises:
        RoleMissingError: no such role exists.
    """
    by_key = {str(role.id): role for role in roles}
    if selector.text not in by_key:
        known = ", ".join(f"{key} ({role.name})" for key, role in by_key.items())
        raise RoleMissingError(name=f"id {truncate(selector.text)}", target=db.target, names=known)
    return by_key[selector.text]


def show_role(app: App, name: str | KeyText) -> RoleDetail:
    """Return one role."""
    db = app.reader(users_database(app))
    if app.profile.roles:
        return RoleDetail(**structs.asdict(RoleTable(app, db).find(name)))
    roles = read_role_names(app, db)
    if isinstance(name, KeyText):
        return RoleDetail(**structs.asdict(find_by_id(roles, name, db)))
    for role in roles:
        if role.name.casefold() == name.casefold():
            return RoleDetail(**structs.asdict(role))
    raise RoleMissingError(name=name, target=db.target, names=", ".join(role.name for role in roles))


def list_permissions(app: App, page_request: PageRequest) -> Page[Permission]:
    """Return all permissions."""
    table = RoleTable(app, app.reader(users_database(app)), "permissions")
    section = app.require_section(table.section.permissions, "permissions")
    live = LiveTable(app.profile, table.db, section.table, "permissions")
    fields = ("name", "description", "resource", "action")
    columns = live.map_columns({field: getattr(section, field) for field in fields})
    roles, items = table.read(), []
    for row in table.db.select(section.table, list(columns.values())):
        values = dict(zip(columns, map(text_or_none, row), strict=True))
        name = str(values["name"])
        items.append(
            Permission(
                name=name,
                description=values.get("description"),
                resource=values.get("resource"),
                action=values.get("action"),
                roles=[role.name for role in roles if name in (role.permissions or ())],
            )
        )
    return paginate(items, Permission, page_request)


def read_matrix(app: App) -> Matrix:
    """Return the roles with their permissions."""
    table = RoleTable(app, app.reader(users_database(app)), "permissions")
    return Matrix(items=table.read(), permissions=list(table.permission_keys()))


def check_permission(app: App, login: str | KeyText, permission: str, *, explain: bool) -> PermissionCheck:
    """Check whether a user has a permission; with ``explain``, return the reasons."""
    db = app.reader(users_database(app))
    table, user = RoleTable(app, db, "permissions"), UserTable(app, db).find_by_login(login)
    if "*" in permission:
        raise UsageError(detail="specify a single permission, without *")
    name = table.match_permissions([permission])[0]
    permitted = {role.name: name in (role.permissions or ()) for role in table.read()}
    active = user.active is not False
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
    reasons.append("roles with it: " + (", ".join(role for role in permitted if permitted[role]) or "none"))
    allowed = active and any(permitted.get(role) for role in user.role_names)
    return PermissionCheck(
        login=user.login, permission=name, allowed=allowed, reasons=reasons if explain else ()
    )


def read_role_names(app: App, db: Readable) -> list[Role]:
    """Return roles that are values in the rows of users: those of the profile, and all others that users have."""
    users = UserTable(app, db)
    roles = users.require_roles()
    user_counts = roles.count_users()
    known = roles.keys()
    unknown = {key: str(key) for key in user_counts if key is not None and key not in known}
    return [
        Role(id=name, name=name, users=user_counts.get(key, 0)) for key, name in {**known, **unknown}.items()
    ]
