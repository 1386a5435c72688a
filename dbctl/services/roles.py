"""Roles and permissions: who may do what, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from dbctl.engines.base import Condition, Order, Readable, Where, Writable
from dbctl.errors import (
    AbilityMissingError,
    AlreadyExistsError,
    BuiltInRoleError,
    PermissionMissingError,
    RoleHeldError,
    RoleMissingError,
    UsageError,
)
from dbctl.model import Done, Page, Plan, Row, Value, Window, now
from dbctl.profiles.codecs import KEYS
from dbctl.profiles.model import Roles
from dbctl.services import audit
from dbctl.services.apps import App
from dbctl.services.change import Change, Draft
from dbctl.services.deletion import reach
from dbctl.services.live import Live
from dbctl.services.rules import check_rule
from dbctl.services.user_table import UserTable, database_of, text


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


class RoleChanged(Done, frozen=True, kw_only=True):
    """Answer of a change to a role."""

    role: Role
    changed: Sequence[str]  #: fields, or the permissions that came or went


class RoleDeleted(Done, frozen=True, kw_only=True):
    """Answer of ``roles delete``."""

    role: Role


class RoleTable:
    """The roles of one open database: rows of a table of their own."""

    def __init__(self, app: App, db: Readable) -> None:
        self.app, self.db = app, db
        self.told: Roles = app.ability(app.profile.roles, "roles")
        self.live = Live(app.profile, db, self.told.table, "roles")
        self.fields = {
            word: column for word, name in self.told.fields.items() if (column := self.live.find(name))
        }

    def read(self, where: Sequence[Where] = (), window: Window = Window()) -> list[Role]:  # noqa: B008 - a frozen value
        """Return roles with how many users hold each and what each permits."""
        columns = [self.told.key, *self.fields.values()]
        order = self._order(window.sort)
        rows = self.db.select(
            self.live.name, columns, where, order_by=order, limit=window.limit, offset=window.offset
        )
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

    def one(self, name: str) -> Role:
        """Return the role of that name, whose case does not count.

        Raises:
            RoleMissingError: there is none.
        """
        found = self.read([Condition(self.fields["name"], "same", name)]) if name.isprintable() else []
        if not found:
            names = ", ".join(role.name for role in self.read())
            raise RoleMissingError(name=name, target=self.db.target, names=names)
        return next((role for role in found if role.name == name), found[0])

    def changeable(self, name: str) -> Role:
        """Return the role of that name.

        Raises:
            BuiltInRoleError: the app relies on it.
        """
        role = self.one(name)
        if role.built_in:
            raise BuiltInRoleError(name=role.name, profile=self.app.profile.title)
        return role

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
        known = list(self.permission_keys())
        found: list[str] = []
        for pattern in patterns:
            fitting = [name for name in known if fnmatchcase(name, pattern)] if "*" in pattern else [pattern]
            if not fitting or not set(fitting) <= set(known):
                near = get_close_matches(pattern, known, n=3)
                hint = f" Near: {', '.join(near)}." if near else ""
                raise PermissionMissingError(name=pattern, target=self.db.target, near=hint)
            found += fitting
        return list(dict.fromkeys(found))

    def _held(self) -> dict[object, int]:
        users = self.app.profile.users
        if users is None or users.role is None:
            return {}
        return self.db.tally(users.table, users.role.column)

    def _order(self, sort: str) -> list[Order]:
        if not sort:
            return []
        descending, field = sort.startswith("-"), sort.lstrip("-")
        if field != "id" and field not in self.fields:
            raise UsageError(detail=f"roles have no field {field!r}; they have: id, {', '.join(self.fields)}")
        return [
            Order(
                [self.fields.get(field, self.told.key)], descending, nocase=field in ("name", "description")
            )
        ]


def permissions_of(app: App, db: Readable, role: str | None) -> Sequence[str] | None:
    """Return the permissions of a role; None where the app keeps none, or the role is not there."""
    table = RoleTable(app, db)
    found = [one for one in table.read() if one.name == role]
    return found[0].permissions if found else None


def list_roles(app: App, window: Window) -> Page[Role]:
    """Return the roles there are, also those that are only a word in a user's row."""
    db = app.reader(database_of(app))
    if app.profile.roles is None:
        items = _words(app, db)
        return Page(
            items=items[window.offset :][: window.limit],
            total=len(items),
            limit=window.limit,
            offset=window.offset,
        )
    table = RoleTable(app, db)
    return Page(
        items=table.read(window=window),
        total=db.count(table.live.name),
        limit=window.limit,
        offset=window.offset,
    )


def show_role(app: App, name: str) -> Role:
    """Return one role."""
    db = app.reader(database_of(app))
    if app.profile.roles:
        return RoleTable(app, db).one(name)
    known = _words(app, db)
    for role in known:
        if role.name.casefold() == name.casefold():
            return role
    raise RoleMissingError(name=name, target=db.target, names=", ".join(role.name for role in known))


def list_permissions(app: App, window: Window) -> Page[Permission]:
    """Return the permissions there are."""
    table = RoleTable(app, app.reader(database_of(app)))
    told = app.ability(table.told.permissions, "permissions")
    live = Live(app.profile, table.db, told.table, "permissions")
    names = [
        told.name,
        *(live.find(name) or told.name for name in (told.description, told.resource, told.action)),
    ]
    present = [live.find(name) is not None for name in (told.description, told.resource, told.action)]
    roles = table.read()
    items = []
    for name, *rest in table.db.select(told.table, names, limit=window.limit, offset=window.offset):
        description, resource, action = (
            text(value) if there else None for value, there in zip(rest, present, strict=True)
        )
        holders = [role.name for role in roles if name in (role.permissions or ())]
        items.append(
            Permission(
                name=str(name), description=description, resource=resource, action=action, roles=holders
            )
        )
    return Page(items=items, total=table.db.count(told.table), limit=window.limit, offset=window.offset)


def matrix(app: App) -> Matrix:
    """Return which role has which permission."""
    table = RoleTable(app, app.reader(database_of(app)))
    return Matrix(items=table.read(), permissions=list(table.permission_keys()))


def can(app: App, login: str, permission: str, *, explain: bool) -> Can:
    """Say whether a user may do something, and why where that is asked."""
    db = app.reader(database_of(app))
    table, user = RoleTable(app, db), UserTable(app, db).one(login)
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


def create_role(
    app: App, name: str, *, description: str, priority: int | None, permissions: Sequence[str]
) -> Change[RoleChanged]:
    """Add a role with permissions."""

    def draft(db: Readable) -> Draft[RoleChanged]:
        table = RoleTable(app, db)
        check_rule("role name", name, table.told.rules.get("name"))
        if db.count(table.live.name, [Condition(table.fields["name"], "same", name)]):
            raise AlreadyExistsError(
                target=db.target, what="a role", name=name, instead="dbctl roles update changes it."
            )
        granted = table.matching(permissions)
        values = _values(table, {"name": name, "description": description or None, "priority": priority})
        steps = [f"add role {name}"] + ([f"grant it {', '.join(granted)}"] if granted else [])

        def work(db: Writable) -> RoleChanged:
            generator = KEYS[table.told.codec]
            given = {table.told.key: generator()} if generator else {}
            key = db.insert(table.live.name, values | given, returning=table.told.key)
            _link(table, db, key, granted)
            audit.record(app, db, "roles.create", "roles", key, {"name": name, "permissions": granted})
            return RoleChanged(role=table.one(name), changed=granted)

        rows = {table.live.name: 1} | _linked(table, len(granted))
        return Draft(Plan(title=f"Create role {name}", target=db.target, steps=steps, rows=rows), work)

    return Change(app, database_of(app), "roles create", draft)


def update_role(app: App, name: str, fields: Mapping[str, object]) -> Change[RoleChanged]:
    """Change a role's name, description or priority."""

    def draft(db: Readable) -> Draft[RoleChanged]:
        table = RoleTable(app, db)
        role = table.changeable(name)
        new = str(fields.get("name", role.name))
        check_rule("role name", new, table.told.rules.get("name"))
        taken = db.select(table.live.name, [table.told.key], [Condition(table.fields["name"], "same", new)])
        if any(key != role.id for (key,) in taken):
            raise AlreadyExistsError(
                target=db.target, what="a role", name=new, instead="Choose another name."
            )
        differing = {word: value for word, value in fields.items() if getattr(role, word) != value}
        values = _values(table, differing) if differing else {}
        steps = [f"change {', '.join(differing)} of role {role.name}"] if differing else []

        def work(db: Writable) -> RoleChanged:
            if values:
                db.update(table.live.name, values, [Condition(table.told.key, "=", role.id)])
                audit.record(
                    app, db, "roles.update", "roles", role.id, {"name": role.name, "changed": list(differing)}
                )
            return RoleChanged(role=table.one(new), changed=list(differing))

        rows = {table.live.name: 1} if differing else {}
        return Draft(Plan(title=f"Update role {role.name}", target=db.target, steps=steps, rows=rows), work)

    return Change(app, database_of(app), "roles update", draft)


def delete_role(app: App, name: str) -> Change[RoleDeleted]:
    """Delete a role that nobody holds."""

    def draft(db: Readable) -> Draft[RoleDeleted]:
        table = RoleTable(app, db)
        role = table.changeable(name)
        if role.users:
            raise RoleHeldError(name=role.name, count=role.users)
        doomed: list[Where] = [Condition(table.told.key, "=", role.id)]
        touched = reach(db, table.live.name, doomed)
        steps = [f"delete role {role.name}", *(one.step for one in touched)]
        rows = {table.live.name: 1, **{one.table: one.rows for one in touched}}

        def work(db: Writable) -> RoleDeleted:
            db.delete(table.live.name, doomed)
            audit.record(app, db, "roles.delete", "roles", role.id, {"name": role.name})
            return RoleDeleted(role=role)

        plan = Plan(
            title=f"Delete role {role.name}", target=db.target, steps=steps, rows=rows, destructive=True
        )
        return Draft(plan, work)

    return Change(app, database_of(app), "roles delete", draft)


def grant(app: App, name: str, permissions: Sequence[str]) -> Change[RoleChanged]:
    """Give a role permissions; those it has already stay as they are."""

    def draft(db: Readable) -> Draft[RoleChanged]:
        table = RoleTable(app, db)
        role = table.changeable(name)
        new = [one for one in table.matching(permissions) if one not in (role.permissions or ())]

        def work(db: Writable) -> RoleChanged:
            _link(table, db, role.id, new)
            return _permissions_changed(table, db, role, new, "roles.grant")

        steps = [f"grant {', '.join(new)}"] if new else []
        plan = Plan(
            title=f"Grant to role {role.name}", target=db.target, steps=steps, rows=_linked(table, len(new))
        )
        return Draft(plan, work)

    return Change(app, database_of(app), "roles grant", draft)


def revoke(app: App, name: str, permissions: Sequence[str]) -> Change[RoleChanged]:
    """Take permissions from a role."""

    def draft(db: Readable) -> Draft[RoleChanged]:
        table = RoleTable(app, db)
        role = table.changeable(name)
        gone = [one for one in table.matching(permissions) if one in (role.permissions or ())]
        told = app.ability(table.told.permissions, "permissions")

        def work(db: Writable) -> RoleChanged:
            keys = table.permission_keys()
            owned = Condition(told.link.role, "=", role.id)
            db.delete(
                told.link.table, [owned, Condition(told.link.permission, "in", [keys[one] for one in gone])]
            )
            return _permissions_changed(table, db, role, gone, "roles.revoke")

        steps = [f"revoke {', '.join(gone)}"] if gone else []
        plan = Plan(
            title=f"Revoke from role {role.name}",
            target=db.target,
            steps=steps,
            rows=_linked(table, len(gone)),
        )
        return Draft(plan, work)

    return Change(app, database_of(app), "roles revoke", draft)


def _permissions_changed(
    table: RoleTable, db: Writable, role: Role, changed: Sequence[str], action: str
) -> RoleChanged:
    if changed:
        stamp = _values(table, {})
        if stamp:
            db.update(table.live.name, stamp, [Condition(table.told.key, "=", role.id)])
        audit.record(
            table.app, db, action, "roles", role.id, {"name": role.name, "permissions": list(changed)}
        )
    return RoleChanged(role=table.one(role.name), changed=changed)


def _values(table: RoleTable, fields: Mapping[str, object]) -> dict[str, object]:
    """Return what is stored for fields of a role, with the time of the change where the app keeps it."""
    values: dict[str, object] = {}
    for word, value in fields.items():
        if word in table.fields:
            values[table.fields[word]] = value
        elif value is not None:
            raise UsageError(detail=f"roles of {table.db.target} have no {word}")
    if "updated_at" in table.fields:
        values[table.fields["updated_at"]] = table.live.encode(table.fields["updated_at"], now())
    return values


def _link(table: RoleTable, db: Writable, role: object, permissions: Sequence[str]) -> None:
    told = table.told.permissions
    if told is not None and permissions:
        keys = table.permission_keys()
        db.insert_many(
            told.link.table,
            [told.link.role, told.link.permission],
            [(role, keys[one]) for one in permissions],
        )


def _linked(table: RoleTable, count: int) -> dict[str, int]:
    told = table.told.permissions
    return {told.link.table: count} if told is not None and count else {}


def _words(app: App, db: Readable) -> list[Role]:
    """Return the roles that are a word in each user's row."""
    users = UserTable(app, db)
    if users.role is None:
        raise AbilityMissingError(
            app=app.name, profile=app.profile.name, ability="roles", others="those with [roles]"
        )
    held = db.tally(users.live.name, users.role)
    return [Role(id=name, name=name, users=held.get(key, 0)) for key, name in users.roles().items()]
