"""Roles and permissions: who may do what, and why."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from msgspec import structs

from dbctl.engines.contract import Condition, Readable, Where
from dbctl.errors import PermissionMissingError, RoleMissingError, UsageError
from dbctl.model import Id, Page, Row, Value, Window
from dbctl.profiles.model import Roles
from dbctl.services.app import App, Live, UserTable, cut, database_of, hint, page_of, text


class Role(Value, frozen=True, kw_only=True):
    """One role; ``permissions`` is None where the app keeps none."""

    id: object
    name: str
    description: str | None = None
    priority: int | None = None
    users: int
    permissions: Sequence[str] | None = None
    built_in: bool = False

    def brief(self) -> Row:
        count = None if self.permissions is None else len(self.permissions)
        return {word: getattr(self, word) for word in self.__struct_fields__} | {"permissions": count}


class RoleShown(Role, frozen=True, kw_only=True):
    """Answer of ``roles show``: a table names the permissions, too."""

    def brief(self) -> Row:
        return {}


class Permission(Value, frozen=True, kw_only=True):
    """One permission, and the roles that have it."""

    name: str
    description: str | None
    resource: str | None
    action: str | None
    roles: Sequence[str]


class Matrix(Value, frozen=True, kw_only=True):
    """Answer of ``roles matrix``: the roles, each with its permissions."""

    items: Sequence[Role]
    permissions: Sequence[str]  #: every permission there is, in the app's order

    def brief(self) -> Sequence[Row]:
        """Return a row per permission with a column per role, as a person reads it."""
        return [
            {"permission": name, **{role.name: name in (role.permissions or ()) for role in self.items}}
            for name in self.permissions
        ]


class Can(Value, frozen=True, kw_only=True):
    """Answer of ``roles can``."""

    login: str
    permission: str
    allowed: bool
    reasons: Sequence[str]

    def brief(self) -> Row:
        """Return one reason a line, and nothing of them where they were not asked for."""
        told: dict[str, object] = {
            "login": self.login,
            "permission": self.permission,
            "allowed": self.allowed,
        }
        return told | ({"because": self.reasons} if self.reasons else {})


class RoleTable:
    """The roles of one open database: rows of a table of their own."""

    def __init__(self, app: App, db: Readable, ability: str = "roles") -> None:
        """Look the table up; ``ability`` is what it is wanted for.

        Raises:
            AbilityMissingError: the app keeps no roles in a table.
        """
        self.app, self.db = app, db
        self.told: Roles = app.ability(app.profile.roles, ability)
        self.live = Live(app.profile, db, self.told.table, "roles")
        self.fields = {
            word: column for word, name in self.told.fields.items() if (column := self.live.find(name))
        }

    def read(self, where: Sequence[Where] = ()) -> list[Role]:
        """Return roles with how many users hold each and what each permits."""
        columns = [self.told.key, *self.fields.values()]
        rows = self.db.select(self.live.name, columns, where)
        held = self._held()
        permitted = self.permitted()
        found = []
        for row in rows:
            told = dict(zip(columns, row, strict=True))
            key = told[self.told.key]
            values = {word: told[column] for word, column in self.fields.items()}
            found.append(
                Role(
                    id=key,
                    name=str(values["name"]),
                    description=text(values.get("description")),
                    priority=values.get("priority"),  # type: ignore[arg-type]  # as the app stores it
                    users=held.get(key, 0),
                    permissions=permitted.get(key, []) if self.told.permissions else None,
                    built_in=key in self.told.built_in.ids or str(values["name"]) in self.told.built_in.names,
                )
            )
        return found

    def one(self, name: str | Id) -> Role:
        """Return the role of that name, whose case does not count, or of that id.

        Raises:
            RoleMissingError: there is none.
        """
        if isinstance(name, Id):
            return by_id(self.read(), name, self.db)
        found = self.read([Condition(self.fields["name"], "same", name)]) if name.isprintable() else []
        if not found:
            names = ", ".join(role.name for role in self.read())
            raise RoleMissingError(name=name, target=self.db.target, names=names)
        return next((role for role in found if role.name == name), found[0])

    def permission_keys(self) -> dict[str, object]:
        """Return the name and key of every permission there is."""
        told = self.app.ability(self.told.permissions, "permissions")
        return {str(name): key for name, key in self.db.select(told.table, [told.name, told.key])}

    def permitted(self) -> dict[object, list[str]]:
        """Return, by role, the names of its permissions in the app's order."""
        told = self.told.permissions
        if told is None:
            return {}
        names = {key: name for name, key in self.permission_keys().items()}
        pairs = self.db.select(told.link.table, [told.link.role, told.link.permission])
        linked: dict[object, set[object]] = {}
        for role, permission in pairs:
            linked.setdefault(role, set()).add(permission)
        return {role: [name for key, name in names.items() if key in keys] for role, keys in linked.items()}

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """Return the permissions that are named, ``games.*`` meaning all that fit.

        Raises:
            PermissionMissingError: one names, or fits, none.
        """
        known = list(self.permission_keys()) if patterns else []
        found: list[str] = []
        for pattern in patterns:
            fitting = [name for name in known if fnmatchcase(name, pattern)] if "*" in pattern else [pattern]
            if not fitting or not set(fitting) <= set(known):
                raise PermissionMissingError(name=pattern, target=self.db.target, near=hint(pattern, known))
            found += fitting
        return list(dict.fromkeys(found))

    def _held(self) -> dict[object, int]:
        users = self.app.profile.users
        if users is None or users.role is None:
            return {}
        return self.db.tally(users.table, users.role.column)


def permissions_of(app: App, db: Readable, role: str | None) -> Sequence[str] | None:
    """Return the permissions of a role; None where the app keeps none, or the role is not there."""
    table = RoleTable(app, db)
    found = [one for one in table.read() if one.name == role]
    return found[0].permissions if found else None


def list_roles(app: App, window: Window) -> Page[Role]:
    """Return the roles there are, also those that are only a word in a user's row."""
    db = app.reader(database_of(app))
    return page_of(RoleTable(app, db).read() if app.profile.roles else words(app, db), Role, window)


def by_id(roles: Sequence[Role], wanted: Id, db: Readable) -> Role:
    """Return the role of that id.

    Raises:
        RoleMissingError: there is none.
    """
    found = {str(role.id): role for role in roles}
    if wanted.text not in found:
        known = ", ".join(f"{key} ({role.name})" for key, role in found.items())
        raise RoleMissingError(name=f"id {cut(wanted.text)}", target=db.target, names=known)
    return found[wanted.text]


def show_role(app: App, name: str | Id) -> RoleShown:
    """Return one role."""
    db = app.reader(database_of(app))
    if app.profile.roles:
        role = RoleTable(app, db).one(name)
    elif isinstance(name, Id):
        role = by_id(words(app, db), name, db)
    else:
        known = {one.name.casefold(): one for one in words(app, db)}
        if name.casefold() not in known:
            names = ", ".join(one.name for one in known.values())
            raise RoleMissingError(name=name, target=db.target, names=names)
        role = known[name.casefold()]
    return RoleShown(**structs.asdict(role))


def list_permissions(app: App, window: Window) -> Page[Permission]:
    """Return the permissions there are."""
    table = RoleTable(app, app.reader(database_of(app)), "permissions")
    told = app.ability(table.told.permissions, "permissions")
    live = Live(app.profile, table.db, told.table, "permissions")
    words = {
        "name": told.name,
        "description": told.description,
        "resource": told.resource,
        "action": told.action,
    }
    columns = {word: column for word, name in words.items() if (column := live.find(name))}
    roles = table.read()
    items = []
    for row in table.db.select(told.table, list(columns.values())):
        values = dict(zip(columns, row, strict=True))
        name = str(values["name"])
        items.append(
            Permission(
                name=name,
                description=text(values.get("description")),
                resource=text(values.get("resource")),
                action=text(values.get("action")),
                roles=[role.name for role in roles if name in (role.permissions or ())],
            )
        )
    return page_of(items, Permission, window)


def matrix(app: App) -> Matrix:
    """Return which role has which permission."""
    table = RoleTable(app, app.reader(database_of(app)), "permissions")
    return Matrix(items=table.read(), permissions=list(table.permission_keys()))


def can(app: App, login: str | Id, permission: str, *, explain: bool) -> Can:
    """Say whether a user may do something, and why where that is asked."""
    db = app.reader(database_of(app))
    table, user = RoleTable(app, db, "permissions"), UserTable(app, db).one(login)
    if "*" in permission:
        raise UsageError(detail="name one permission")
    name = table.matching([permission])[0]
    roles = {role.name: role for role in table.read()}
    role = roles.get(user.role or "")
    active = user.active is not False
    permitted = role is not None and name in (role.permissions or ())
    reasons = [
        f"{user.login} is {'active' if active else 'deactivated: may do nothing'}",
        f"{user.login} has the role {user.role}"
        if role
        else f"{user.login} has no role that exists ({user.role})",
        f"role {user.role} {'has' if permitted else 'lacks'} {name}",
        "roles with it: "
        + (", ".join(one.name for one in roles.values() if name in (one.permissions or ())) or "none"),
    ]
    return Can(
        login=user.login, permission=name, allowed=active and permitted, reasons=reasons if explain else ()
    )


def words(app: App, db: Readable) -> list[Role]:
    """Return the roles that are a word in each user's row: those that the app knows, and any other that is held."""
    users = UserTable(app, db)
    app.ability(users.section.role, "roles")
    held = db.tally(users.live.name, users.role_column())
    known = users.roles() | {key: str(key) for key in held if key is not None and key not in users.roles()}
    return [Role(id=name, name=name, users=held.get(key, 0)) for key, name in known.items()]
