"""Create, update and delete roles, and grant and revoke permissions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Condition, Readable, Where, Writable
from dbctl.errors import (
    AlreadyExistsError,
    BuiltInRoleError,
    NotSupportedError,
    RoleInUseError,
    SchemaMismatchError,
)
from dbctl.model import ChangeResult, KeyText, Plan, now
from dbctl.profiles import KEYS
from dbctl.services.app import (
    App,
    Change,
    PreparedChange,
    audit,
    check_rule,
    require_row_count,
    users_database,
)
from dbctl.services.deletion import find_affected_rows
from dbctl.services.roles.built_in import BuiltInPermissions
from dbctl.services.roles.queries import Role, RoleTable, read_role_names


class RoleChangeResult(ChangeResult, frozen=True, kw_only=True):
    """Result of a change to a role."""

    role: Role
    changed: Sequence[str]  #: names of fields, or the granted or revoked permissions


class RoleDeleteResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``roles delete``."""

    role: Role


def create_role(
    app: App, name: str, *, description: str, priority: int | None, permissions: Sequence[str]
) -> Change[RoleChangeResult]:
    """Add a role with permissions."""

    def draft(db: Readable) -> PreparedChange[RoleChangeResult]:
        table = _require_role_table(app, db)
        check_rule("role name", name, table.section.rules.get("name"))
        if db.count(table.live.name, [Condition(table.fields["name"], "same", name)]):
            raise AlreadyExistsError(
                target=db.target, kind="a role", name=name, hint="dbctl roles update changes it."
            )
        granted = table.match_permissions(permissions)
        fields = {"name": name, "description": description or None, "priority": priority}
        values = _stored_values(table, {word: value for word, value in fields.items() if value is not None})
        missing = table.live.missing_required_columns({table.section.key, *values})
        if missing:
            missing_value = f"a value for {', '.join(missing)}"
            raise SchemaMismatchError(target=db.target, missing=missing_value, purpose="a new role")
        steps = [f"add role {name}"] + ([f"grant it {', '.join(granted)}"] if granted else [])

        def work(db: Writable) -> RoleChangeResult:
            generator = KEYS[table.section.codec]
            key_value = {table.section.key: generator()} if generator else {}
            key = db.insert(table.live.name, values | key_value, returning=table.section.key)
            _insert_links(table, db, key, granted)
            audit.record(app, db, "roles.create", "roles", key, {"name": name, "permissions": granted})
            return RoleChangeResult(role=table.find(name), changed=granted)

        rows = {table.live.name: 1} | _linked_rows(table, len(granted))
        return PreparedChange(
            Plan(title=f"Create role {name}", target=db.target, steps=steps, rows=rows), work
        )

    return Change(app, users_database(app), "roles create", draft)


def update_role(app: App, name: str | KeyText, fields: Mapping[str, object]) -> Change[RoleChangeResult]:
    """Change a role's name, description or priority."""

    def draft(db: Readable) -> PreparedChange[RoleChangeResult]:
        table = _require_role_table(app, db)
        role = _require_custom_role(table, name)
        new = str(fields.get("name", role.name))
        if new != role.name:  # the stored name may violate the rule
            _refuse_admin(table, role)
            check_rule("role name", new, table.section.rules.get("name"))
        same_name = db.select(
            table.live.name, [table.section.key], [Condition(table.fields["name"], "same", new)]
        )
        if any(key != role.id for (key,) in same_name):
            raise AlreadyExistsError(target=db.target, kind="a role", name=new, hint="Choose another name.")
        differing = {word: value for word, value in fields.items() if _input_value(role, word) != value}
        values = _stored_values(
            table, {word: None if value == "" else value for word, value in differing.items()}
        )
        steps = [f"change {', '.join(differing)} of role {role.name}"] if differing else []

        def work(db: Writable) -> RoleChangeResult:
            if differing:
                changed = db.update(table.live.name, values, [Condition(table.section.key, "=", role.id)])
                require_row_count(changed, 1, db)
                audit.record(
                    app, db, "roles.update", "roles", role.id, {"name": role.name, "changed": list(differing)}
                )
            return RoleChangeResult(role=table.find(KeyText(str(role.id))), changed=list(differing))

        rows = {table.live.name: 1} if differing else {}
        return PreparedChange(
            Plan(title=f"Update role {role.name}", target=db.target, steps=steps, rows=rows), work
        )

    return Change(app, users_database(app), "roles update", draft)


def delete_role(app: App, name: str | KeyText) -> Change[RoleDeleteResult]:
    """Delete a role without users."""

    def draft(db: Readable) -> PreparedChange[RoleDeleteResult]:
        table = _require_role_table(app, db)
        role = _require_custom_role(table, name)
        _refuse_admin(table, role)
        if role.users:
            raise RoleInUseError(name=role.name, count=role.users)
        conditions: list[Where] = [Condition(table.section.key, "=", role.id)]
        affected = find_affected_rows(db, table.live.name, conditions)
        steps = [f"delete role {role.name}", *(rows_affected.step for rows_affected in affected)]
        rows = {table.live.name: 1}
        for rows_affected in affected:
            rows[rows_affected.table] = rows.get(rows_affected.table, 0) + rows_affected.rows

        def work(db: Writable) -> RoleDeleteResult:
            require_row_count(db.delete(table.live.name, conditions), 1, db)
            audit.record(app, db, "roles.delete", "roles", role.id, {"name": role.name})
            return RoleDeleteResult(role=role)

        plan = Plan(
            title=f"Delete role {role.name}", target=db.target, steps=steps, rows=rows, destructive=True
        )
        return PreparedChange(plan, work)

    return Change(app, users_database(app), "roles delete", draft)


def grant(app: App, name: str | KeyText, permissions: Sequence[str]) -> Change[RoleChangeResult]:
    """Grant permissions to a role.

    A built-in role accepts only the permissions of the profile.

    Raises (when planned and when applied):
        BuiltInRoleError: a permission does not belong to the built-in role.
    """

    def draft(db: Readable) -> PreparedChange[RoleChangeResult]:
        table = RoleTable(app, db, "permissions")
        role = table.find(name)
        granted = [
            permission
            for permission in table.match_permissions(permissions)
            if permission not in (role.permissions or ())
        ]
        built_in = BuiltInPermissions(table)
        if role.built_in and not (
            built_in.is_listed(role) and all(built_in.may_have(role, permission) for permission in granted)
        ):
            raise BuiltInRoleError(name=role.name, profile=app.profile.title)

        def work(db: Writable) -> RoleChangeResult:
            _insert_links(table, db, role.id, granted)
            return _record_permissions(table, db, role, granted, "roles.grant")

        steps = [f"grant {', '.join(granted)}"] if granted else []
        rows = _linked_rows(table, len(granted)) | _stamped_rows(table, granted)
        plan = Plan(title=f"Grant to role {role.name}", target=db.target, steps=steps, rows=rows)
        return PreparedChange(plan, work)

    return Change(app, users_database(app), "roles grant", draft)


def revoke(app: App, name: str | KeyText, permissions: Sequence[str]) -> Change[RoleChangeResult]:
    """Revoke permissions of a role; of a built-in role only those that the profile does not list.

    Raises (when planned and when applied):
        BuiltInRoleError: a permission belongs to the built-in role.
    """

    def draft(db: Readable) -> PreparedChange[RoleChangeResult]:
        table = RoleTable(app, db, "permissions")
        role = table.find(name)
        revoked = [
            permission
            for permission in table.match_permissions(permissions)
            if permission in (role.permissions or ())
        ]
        built_in = BuiltInPermissions(table)
        if role.built_in and (
            not built_in.is_listed(role)
            or any(built_in.must_have(role, permission) for permission in revoked)
        ):
            raise BuiltInRoleError(name=role.name, profile=app.profile.title)
        section = app.require_section(table.section.permissions, "permissions")

        def work(db: Writable) -> RoleChangeResult:
            keys = table.permission_keys()
            owned = Condition(section.link.role, "=", role.id)
            db.delete(
                section.link.table,
                [
                    owned,
                    Condition(section.link.permission, "in", [keys[permission] for permission in revoked]),
                ],
            )
            return _record_permissions(table, db, role, revoked, "roles.revoke")

        steps = [f"revoke {', '.join(revoked)}"] if revoked else []
        rows = _linked_rows(table, len(revoked)) | _stamped_rows(table, revoked)
        plan = Plan(title=f"Revoke from role {role.name}", target=db.target, steps=steps, rows=rows)
        return PreparedChange(plan, work)

    return Change(app, users_database(app), "roles revoke", draft)


def _record_permissions(
    table: RoleTable, db: Writable, role: Role, changed: Sequence[str], action: str
) -> RoleChangeResult:
    if changed:
        stamp = _stored_values(table, {})
        if stamp:
            db.update(table.live.name, stamp, [Condition(table.section.key, "=", role.id)])
        audit.record(
            table.app, db, action, "roles", role.id, {"name": role.name, "permissions": list(changed)}
        )
    return RoleChangeResult(role=table.find(KeyText(str(role.id))), changed=changed)


def _stored_values(table: RoleTable, fields: Mapping[str, object]) -> dict[str, object]:
    """Return the stored values of fields, with the time of the change if the table has it."""
    values: dict[str, object] = {}
    for field, value in fields.items():
        if field not in table.fields:
            known = ", ".join(table.fields)
            raise NotSupportedError(
                feature=f"a {field}", subject=f"the roles of {table.db.target}", hint=f"They have: {known}."
            )
        values[table.fields[field]] = value
    if "updated_at" in table.fields:
        values[table.fields["updated_at"]] = table.live.encode(table.fields["updated_at"], now())
    return values


def _insert_links(table: RoleTable, db: Writable, role: object, permissions: Sequence[str]) -> None:
    section = table.section.permissions
    if section is not None and permissions:
        keys = table.permission_keys()
        db.insert_many(
            section.link.table,
            [section.link.role, section.link.permission],
            [(role, keys[permission]) for permission in permissions],
        )


def _linked_rows(table: RoleTable, count: int) -> dict[str, int]:
    section = table.section.permissions
    return {section.link.table: count} if section is not None and count else {}


def _input_value(role: Role, field: str) -> object:
    """Return the value of a field as users enter it: an empty text for None."""
    value = getattr(role, field)
    return "" if value is None else value


def _stamped_rows(table: RoleTable, changed: Sequence[str]) -> dict[str, int]:
    return {table.live.name: 1} if changed and "updated_at" in table.fields else {}


def _require_custom_role(table: RoleTable, name: str | KeyText) -> Role:
    """Return the role with this name or ID.

    Raises:
        BuiltInRoleError: the role is built in.
    """
    role = table.find(name)
    if role.built_in:
        raise BuiltInRoleError(name=role.name, profile=table.app.profile.title)
    return role


def _refuse_admin(table: RoleTable, role: Role) -> None:
    """Refuse the role of admins: the guard of the last admin depends on its name.

    Raises:
        BuiltInRoleError: it is the role of admins.
    """
    users = table.app.profile.users
    if users and users.admin and role.name.casefold() == users.admin.casefold():
        raise BuiltInRoleError(name=role.name, profile=table.app.profile.title)


def _require_role_table(app: App, db: Readable) -> RoleTable:
    """Return the table of roles.

    Raises:
        NotSupportedError: roles are values in the rows of users, without a table.
    """
    users = app.profile.users
    if app.profile.roles is None and users and users.role:
        known = ", ".join(role.name for role in read_role_names(app, db))
        place = users.role.table or f"{users.table}.{users.role.column}"
        hint = f"Roles are values of {place} ({known}). Change the role of a user with: dbctl users set-role"
        raise NotSupportedError(feature="changing roles", subject=app.profile.title, hint=hint)
    return RoleTable(app, db)
