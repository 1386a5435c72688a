"""Changes to roles: no built-in one, none that somebody holds, each in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Condition, Readable, Where, Writable
from dbctl.errors import (
    AlreadyExistsError,
    BuiltInRoleError,
    NotSupportedError,
    RoleHeldError,
    SchemaLacksError,
)
from dbctl.model import Done, Id, Plan, now
from dbctl.profiles import KEYS
from dbctl.services.app import App, Change, Draft, audit, check_rule, database_of, exactly
from dbctl.services.deletion import reach
from dbctl.services.roles.built_in import BuiltInPermissions
from dbctl.services.roles.queries import Role, RoleTable, words


class RoleChanged(Done, frozen=True, kw_only=True):
    """Answer of a change to a role."""

    role: Role
    changed: Sequence[str]  #: fields, or the permissions that came or went


class RoleDeleted(Done, frozen=True, kw_only=True):
    """Answer of ``roles delete``."""

    role: Role


def create_role(
    app: App, name: str, *, description: str, priority: int | None, permissions: Sequence[str]
) -> Change[RoleChanged]:
    """Add a role with permissions."""

    def draft(db: Readable) -> Draft[RoleChanged]:
        table = _table_to_change(app, db)
        check_rule("role name", name, table.told.rules.get("name"))
        if db.count(table.live.name, [Condition(table.fields["name"], "same", name)]):
            raise AlreadyExistsError(
                target=db.target, what="a role", name=name, instead="dbctl roles update changes it."
            )
        granted = table.matching(permissions)
        told = {"name": name, "description": description or None, "priority": priority}
        values = _values(table, {word: value for word, value in told.items() if value is not None})
        lacking = table.live.uncovered({table.told.key, *values})
        if lacking:
            what = f"a value for {', '.join(lacking)}"
            raise SchemaLacksError(target=db.target, what=what, purpose="a new role")
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


def update_role(app: App, name: str | Id, fields: Mapping[str, object]) -> Change[RoleChanged]:
    """Change a role's name, description or priority."""

    def draft(db: Readable) -> Draft[RoleChanged]:
        table = _table_to_change(app, db)
        role = _changeable(table, name)
        new = str(fields.get("name", role.name))
        if new != role.name:  # what stands there already may be what no rule allows
            _refuse_admin(table, role)
            check_rule("role name", new, table.told.rules.get("name"))
        taken = db.select(table.live.name, [table.told.key], [Condition(table.fields["name"], "same", new)])
        if any(key != role.id for (key,) in taken):
            raise AlreadyExistsError(
                target=db.target, what="a role", name=new, instead="Choose another name."
            )
        differing = {word: value for word, value in fields.items() if _told(role, word) != value}
        values = _values(table, {word: None if value == "" else value for word, value in differing.items()})
        steps = [f"change {', '.join(differing)} of role {role.name}"] if differing else []

        def work(db: Writable) -> RoleChanged:
            if differing:
                changed = db.update(table.live.name, values, [Condition(table.told.key, "=", role.id)])
                exactly(changed, 1, db)
                audit.record(
                    app, db, "roles.update", "roles", role.id, {"name": role.name, "changed": list(differing)}
                )
            return RoleChanged(role=table.one(Id(str(role.id))), changed=list(differing))

        rows = {table.live.name: 1} if differing else {}
        return Draft(Plan(title=f"Update role {role.name}", target=db.target, steps=steps, rows=rows), work)

    return Change(app, database_of(app), "roles update", draft)


def delete_role(app: App, name: str | Id) -> Change[RoleDeleted]:
    """Delete a role that nobody holds."""

    def draft(db: Readable) -> Draft[RoleDeleted]:
        table = _table_to_change(app, db)
        role = _changeable(table, name)
        _refuse_admin(table, role)
        if role.users:
            raise RoleHeldError(name=role.name, count=role.users)
        doomed: list[Where] = [Condition(table.told.key, "=", role.id)]
        touched = reach(db, table.live.name, doomed)
        steps = [f"delete role {role.name}", *(one.step for one in touched)]
        rows = {table.live.name: 1}
        for one in touched:
            rows[one.table] = rows.get(one.table, 0) + one.rows

        def work(db: Writable) -> RoleDeleted:
            exactly(db.delete(table.live.name, doomed), 1, db)
            audit.record(app, db, "roles.delete", "roles", role.id, {"name": role.name})
            return RoleDeleted(role=role)

        plan = Plan(
            title=f"Delete role {role.name}", target=db.target, steps=steps, rows=rows, destructive=True
        )
        return Draft(plan, work)

    return Change(app, database_of(app), "roles delete", draft)


def grant(app: App, name: str | Id, permissions: Sequence[str]) -> Change[RoleChanged]:
    """Give a role permissions; those it has already stay as they are.

    A built-in role gets back what the app gives it, and nothing else.

    Raises (when planned and when applied):
        BuiltInRoleError: the app does not give the role one of them.
    """

    def draft(db: Readable) -> Draft[RoleChanged]:
        table = RoleTable(app, db, "permissions")
        role = table.one(name)
        new = [one for one in table.matching(permissions) if one not in (role.permissions or ())]
        built_in = BuiltInPermissions(table)
        if role.built_in and not (
            built_in.is_listed(role) and all(built_in.may_have(role, permission) for permission in new)
        ):
            raise BuiltInRoleError(name=role.name, profile=app.profile.title)

        def work(db: Writable) -> RoleChanged:
            _link(table, db, role.id, new)
            return _permissions_changed(table, db, role, new, "roles.grant")

        steps = [f"grant {', '.join(new)}"] if new else []
        rows = _linked(table, len(new)) | _stamped(table, new)
        plan = Plan(title=f"Grant to role {role.name}", target=db.target, steps=steps, rows=rows)
        return Draft(plan, work)

    return Change(app, database_of(app), "roles grant", draft)


def revoke(app: App, name: str | Id, permissions: Sequence[str]) -> Change[RoleChanged]:
    """Take permissions from a role; from a built-in one those that the app does not give it.

    Raises (when planned and when applied):
        BuiltInRoleError: the app gives the role one of them.
    """

    def draft(db: Readable) -> Draft[RoleChanged]:
        table = RoleTable(app, db, "permissions")
        role = table.one(name)
        gone = [one for one in table.matching(permissions) if one in (role.permissions or ())]
        built_in = BuiltInPermissions(table)
        if role.built_in and (
            not built_in.is_listed(role) or any(built_in.must_have(role, permission) for permission in gone)
        ):
            raise BuiltInRoleError(name=role.name, profile=app.profile.title)
        told = app.ability(table.told.permissions, "permissions")

        def work(db: Writable) -> RoleChanged:
            keys = table.permission_keys()
            owned = Condition(told.link.role, "=", role.id)
            db.delete(
                told.link.table, [owned, Condition(told.link.permission, "in", [keys[one] for one in gone])]
            )
            return _permissions_changed(table, db, role, gone, "roles.revoke")

        steps = [f"revoke {', '.join(gone)}"] if gone else []
        rows = _linked(table, len(gone)) | _stamped(table, gone)
        plan = Plan(title=f"Revoke from role {role.name}", target=db.target, steps=steps, rows=rows)
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
    return RoleChanged(role=table.one(Id(str(role.id))), changed=changed)


def _values(table: RoleTable, fields: Mapping[str, object]) -> dict[str, object]:
    """Return what is stored for fields of a role, with the time of the change where the app keeps it."""
    values: dict[str, object] = {}
    for word, value in fields.items():
        if word not in table.fields:
            known = ", ".join(table.fields)
            raise NotSupportedError(
                what=f"a {word}", by=f"the roles of {table.db.target}", instead=f"They have: {known}."
            )
        values[table.fields[word]] = value
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


def _told(role: Role, word: str) -> object:
    """Return a field of a role as a person would give it: empty where there is nothing."""
    value = getattr(role, word)
    return "" if value is None else value


def _stamped(table: RoleTable, changed: Sequence[str]) -> dict[str, int]:
    return {table.live.name: 1} if changed and "updated_at" in table.fields else {}


def _changeable(table: RoleTable, name: str | Id) -> Role:
    """Return the role of that name or id.

    Raises:
        BuiltInRoleError: the app relies on it.
    """
    role = table.one(name)
    if role.built_in:
        raise BuiltInRoleError(name=role.name, profile=table.app.profile.title)
    return role


def _refuse_admin(table: RoleTable, role: Role) -> None:
    """Refuse to take the role away by whose name the last admin is known.

    Raises:
        BuiltInRoleError: it is that role.
    """
    users = table.app.profile.users
    if users and users.admin and role.name.casefold() == users.admin.casefold():
        raise BuiltInRoleError(name=role.name, profile=table.app.profile.title)


def _table_to_change(app: App, db: Readable) -> RoleTable:
    """Return the table of roles.

    Raises:
        NotSupportedError: they are words in the rows of users, which no table lists.
    """
    users = app.profile.users
    if app.profile.roles is None and users and users.role:
        known = ", ".join(role.name for role in words(app, db))
        place = users.role.table or f"{users.table}.{users.role.column}"
        instead = f"The profile knows only their names in {place} ({known}); dbctl users set-role gives a user another one."
        raise NotSupportedError(what="changing roles", by=app.profile.title, instead=instead)
    return RoleTable(app, db)
