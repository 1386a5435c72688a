"""Create, update and delete roles, and grant and revoke permissions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from msgspec import structs

from dbctl.engines.contract.database import AllOf, Condition, Readable, Where, Writable
from dbctl.errors.base import Remedy
from dbctl.errors.databases import AlreadyExistsError
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError, UsageError
from dbctl.errors.users import BuiltInRoleError, RoleInUseError
from dbctl.model import ChangeResult, Effect, KeyText, Plan, now
from dbctl.profiles.codecs import KEYS
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change, require_row_count
from dbctl.services.app.live_table import list_uncovered
from dbctl.services.app.row_writes import delete_exactly, update_exactly, write_rows
from dbctl.services.app.user_table import UserTable, users_database
from dbctl.services.app.validation import check_rule, require_encodable
from dbctl.services.deletion.cascade import (
    add_changed_rows,
    add_dependent_rows,
    describe_deleted,
    find_changed_rows,
)
from dbctl.services.roles.queries import read_roles
from dbctl.services.roles.role_table import BuiltInPermissions, Role, RoleTable


class RoleChangeResult(ChangeResult, frozen=True, kw_only=True):
    """Result of a change to a role."""

    role: Role
    created: bool = False  #: by this command
    changed: Sequence[str]  #: names of fields, or the granted or revoked permissions

    @property
    def effect(self) -> Effect | None:
        if not (self.created or self.changed):
            return None
        return Effect(
            "created" if self.created else "changed",
            "role",
            [self.role.name],
            details=[name for name in self.changed if not (self.created and name == "name")],
        )


class RoleDeleteResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``roles delete``."""

    role: Role

    @property
    def effect(self) -> Effect | None:
        return Effect("deleted", "role", [self.role.name])


ROLES_HINT = Remedy(
    "Roles are values of {place} ({known}). Change the role of a user with: `users set-role LOGIN ROLE`"
)


def create_role(
    app: App, name: str, *, description: str, priority: int | None, permissions: Sequence[str]
) -> Change[RoleChangeResult]:
    fields = {"name": name, "description": description or None, "priority": priority}
    values = {word: value for word, value in fields.items() if value is not None}
    return Change(app, users_database(app), lambda db: CreateRole(app, db, values, permissions))


class CreateRole:
    """Add one role with permissions."""

    def __init__(
        self, app: App, db: Readable, fields: Mapping[str, object], permissions: Sequence[str]
    ) -> None:
        """Check the rules of the app.

        Raises:
            AlreadyExistsError: another role has the name.
            ValueInvalidError, PermissionMissingError, SchemaMismatchError: a value is invalid or missing.
        """
        self._table, self._name = _require_role_table(app, db), str(fields["name"])
        check_rule("role name", self._name, self._table.section.rules.get("name"))
        _refuse_duplicate(self._table, self._name, Remedy("Change it with: `roles update {name}`"))
        self._granted = self._table.match_permissions(permissions)
        self._values = _stored_values(self._table, fields)
        self._changed = [*fields, *self._granted]
        if created := self._table.fields.get("created_at"):
            self._values[created] = self._table.live.encode(created, now())
        live, key = self._table.live, self._table.section.key
        if missing := list_uncovered(live.table, {key, *self._values}):
            missing_value = f"a value for {', '.join(missing)}"
            raise SchemaMismatchError(target=db.target, missing=missing_value, purpose="a new role")
        grants = [f"grant it {', '.join(self._granted)}"] if self._granted else []
        self.plan = Plan(
            title=f"Create role {self._name}",
            target=db.target,
            steps=[f"add role {self._name}", *grants],
            rows={live.name: 1} | _linked_rows(self._table, self._granted),
        )

    def apply(self, db: Writable) -> RoleChangeResult:
        table, section = self._table, self._table.section
        generator = KEYS[section.codec]
        values = self._values | ({section.key: generator()} if generator else {})
        key = db.insert(table.live.name, values, returning=section.key)
        _insert_links(table, db, key, self._granted)
        details = {"name": self._name, "permissions": self._granted}
        audit.record(table.app, db, "roles.create", "roles", key, details)
        return RoleChangeResult(role=table.find(self._name), created=True, changed=self._changed)


def update_role(app: App, name: str | KeyText, fields: Mapping[str, object]) -> Change[RoleChangeResult]:
    """Change a role's name, description or priority."""
    return Change(
        app,
        users_database(app),
        lambda db: UpdateRole(app, db, name, fields),
        expendable_tables=frozenset,
        changed_table=app.core.roles.table if app.core.roles else "",
    )


class UpdateRole:
    """Change the fields of one role that differ."""

    def __init__(self, app: App, db: Readable, name: str | KeyText, fields: Mapping[str, object]) -> None:
        """Check the rules of the app.

        Raises:
            BuiltInRoleError: the role is built in, or the role of admins or the exclusive role would get another name.
            UsageError: the name is the key of the roles.
            RoleInUseError: the rows of users contain the name, and would not follow.
            AlreadyExistsError, ValueInvalidError: another role has the name, or the app does not accept it.
        """
        self._table = table = _require_role_table(app, db)
        self._role = role = _require_custom_role(table, name)
        new = str(fields.get("name", role.name))
        if new != role.name:  # the stored name may violate the rule
            _refuse_guarded_role(table, role)
            check_rule("role name", new, table.section.rules.get("name"))
            _refuse_referenced_name(table, role)
        _refuse_duplicate(table, new, "Choose another name.", except_id=role.id)
        current = {word: "" if (value := getattr(role, word)) is None else value for word in fields}
        differing = {word: value for word, value in fields.items() if current[word] != value}
        new_values = {word: None if value == "" else value for word, value in differing.items()}
        self._changed, self._values = list(differing), _stored_values(table, new_values)
        plan = Plan(
            title=f"Update role {role.name}",
            target=db.target,
            steps=[f"change {', '.join(differing)} of role {role.name}"] if differing else [],
            rows={table.live.name: 1} if differing else {},
        )
        self._where = [Condition(table.section.key, "=", role.id)]
        followed = find_changed_rows(db, table.live.name, self._values, self._where)
        self.plan = add_changed_rows(plan, db, followed)

    def apply(self, db: Writable) -> RoleChangeResult:
        """Update the row, if a field differs."""
        table, role = self._table, self._role
        if self._changed:
            stamp = _stored_values(table, {})
            values = {name: value for name, value in self._values.items() if name not in stamp}
            update_exactly(db, table.live.name, values, self._where, 1, stamps=stamp)
            details = {"name": role.name, "changed": self._changed}
            audit.record(table.app, db, "roles.update", "roles", role.id, details)
        return RoleChangeResult(role=table.find(KeyText(str(role.id))), changed=self._changed)


def delete_role(app: App, name: str | KeyText) -> Change[RoleDeleteResult]:
    """Delete a role without users."""
    return Change(app, users_database(app), lambda db: DeleteRole(app, db, name))


class DeleteRole:
    """Delete one role, with the rows that foreign keys delete."""

    def __init__(self, app: App, db: Readable, name: str | KeyText) -> None:
        """Find the rows.

        Raises:
            BuiltInRoleError: the role is built in, or it is the role of admins or the exclusive role.
            RoleInUseError: users have the role, or rows that do not belong to users contain it.
        """
        self._table = table = _require_role_table(app, db)
        self._role = role = _require_custom_role(table, name)
        _refuse_guarded_role(table, role)
        if holders := table.count_users(with_others=True).get(role.id, 0):
            raise RoleInUseError(name=role.name, count=role.users, others=holders - role.users)
        self._where = [Condition(table.section.key, "=", role.id)]
        self._links = dict(_where_links(table, role))
        links = [item for name, where in self._links.items() for item in describe_deleted(db, name, where)]
        plan = Plan(
            title=f"Delete role {role.name}",
            target=db.target,
            steps=[f"delete role {role.name}", *(item.step for item in links)],
            rows={table.live.name: 1, **{item.table: item.rows for item in links}},
            destructive=True,
        )
        self.plan = add_dependent_rows(plan, db, {**self._links, table.live.name: self._where})

    def apply(self, db: Writable) -> RoleDeleteResult:
        """Delete the rows."""
        table, role = self._table, self._role
        for name, where in self._links.items():
            write_rows(db, name, where)
        delete_exactly(db, table.live.name, self._where, 1)
        audit.record(table.app, db, "roles.delete", "roles", role.id, {"name": role.name})
        return RoleDeleteResult(role=role)


def _where_links(table: RoleTable, role: Role) -> Iterator[tuple[str, list[Where]]]:
    """Yield the permissions of a role that no foreign key deletes: a later role with the same key would have them."""
    section = table.section.permissions
    link = section.link if section else None
    if link and not any(
        key.table == link.table and list(key.columns) == [link.role] and key.on_delete == "CASCADE"
        for key in table.db.references(table.live.name)
    ):
        yield link.table, [Condition(link.role, "=", role.id)]


def change_permissions(
    app: App, name: str | KeyText, permissions: Sequence[str], *, granted: bool, built_in: bool = False
) -> Change[RoleChangeResult]:
    """Grant permissions to a role, or revoke them.

    A built-in role accepts only the permissions of the profile, and loses only others, unless ``built_in`` is set.

    Raises (when planned and when applied):
        BuiltInRoleError: a granted permission does not belong to the built-in role, or a revoked one does; with ``built_in``,
            a permission of the role of admins is revoked.
    """

    def draft(db: Readable) -> ChangePermissions:
        table = RoleTable(app, db, "permissions")
        return ChangePermissions(table, name, permissions, granted=granted, built_in=built_in)

    def list_expendable_tables() -> set[str]:
        section = app.core.roles.permissions if app.core.roles else None
        return {section.link.table} if section and not granted else set()

    return Change(app, users_database(app), draft, expendable_tables=list_expendable_tables)


grant, revoke = partial(change_permissions, granted=True), partial(change_permissions, granted=False)


class ChangePermissions:
    """Grant permissions to one role, or revoke them."""

    def __init__(
        self,
        table: RoleTable,
        name: str | KeyText,
        permissions: Sequence[str],
        *,
        granted: bool,
        built_in: bool,
    ) -> None:
        """Select the permissions that the role does not have yet, or has; raises as ``change_permissions``."""
        self._table, self._granted = table, granted
        self._role = role = table.find(name)
        self._link = table.app.require_section(table.section.permissions, "permissions").link
        self._changed = changed = [
            permission
            for permission in table.match_permissions(permissions)
            if (permission in (role.permissions or ())) != granted
        ]
        if role.built_in and not (built_in and (granted or not _is_guarded_role(table, role))):
            _refuse_permissions(table, role, changed, granted=granted)
        is_stamped = bool(changed) and "updated_at" in table.fields
        plan = Plan(
            title=f"{'Grant to' if granted else 'Revoke from'} role {role.name}",
            target=table.db.target,
            steps=[f"{'grant' if granted else 'revoke'} {', '.join(changed)}"] if changed else [],
            rows=(_linked_rows(table, changed) if granted else {})
            | ({table.live.name: 1} if is_stamped else {}),
        )
        self._deleted: dict[str, list[Where]] = {}
        if changed and not granted:
            keys = table.permission_keys()
            revoked = Condition(self._link.permission, "in", [keys[permission] for permission in changed])
            self._deleted[self._link.table] = [AllOf([Condition(self._link.role, "=", role.id), revoked])]
        revoked_rows = {name: table.db.count(name, where) for name, where in self._deleted.items()}
        plan = structs.replace(plan, rows={**revoked_rows, **plan.rows})
        self.plan = add_dependent_rows(plan, table.db, self._deleted)

    def apply(self, db: Writable) -> RoleChangeResult:
        """Insert or delete the rows, and record the change."""
        table, role, changed = self._table, self._role, self._changed
        if self._granted:
            _insert_links(table, db, role.id, changed)
        for name, where in self._deleted.items():
            write_rows(db, name, where)
        if changed:
            if stamp := _stored_values(table, {}):
                db.update(table.live.name, stamp, [Condition(table.section.key, "=", role.id)])
            action, details = "roles.grant" if self._granted else "roles.revoke", {"name": role.name}
            audit.record(table.app, db, action, "roles", role.id, {**details, "permissions": changed})
        return RoleChangeResult(role=table.find(KeyText(str(role.id))), changed=changed)


def _refuse_duplicate(table: RoleTable, name: str, hint: Remedy | str, *, except_id: object = None) -> None:
    same = [Condition(table.fields["name"], "same", name)]
    if any(key != except_id for (key,) in table.db.select(table.live.name, [table.section.key], same)):
        raise AlreadyExistsError(target=table.db.target, kind="a role", name=name, hint=hint)


def _stored_values(table: RoleTable, fields: Mapping[str, object]) -> dict[str, object]:
    """Return the stored values of fields, with the time of the change if the table has it."""
    values: dict[str, object] = {}
    for field, value in fields.items():
        if field not in table.fields:
            known = ", ".join(table.fields)
            raise NotSupportedError(
                feature=f"a {field}", subject=f"the roles of {table.db.target}", hint=f"They have: {known}."
            )
        if isinstance(value, str):
            require_encodable(field, value)
        if isinstance(value, int):  # refuses a number that the column cannot store
            table.db.codec.text_parser(table.live.name, table.fields[field])(str(value))
        values[table.fields[field]] = value
    if "updated_at" in table.fields:
        values[table.fields["updated_at"]] = table.live.encode(table.fields["updated_at"], now())
    return values


def _insert_links(table: RoleTable, db: Writable, role: object, permissions: Sequence[str]) -> None:
    section = table.section.permissions
    if section is not None and permissions:
        link, keys = section.link, table.permission_keys()
        granted = [keys[permission] for permission in permissions]
        inserted = db.insert_many(link.table, [link.role, link.permission], [(role, key) for key in granted])
        require_row_count(inserted, len(granted), db)
        stored = db.count(
            link.table, [Condition(link.role, "=", role), Condition(link.permission, "in", granted)]
        )
        require_row_count(min(stored, len(granted)), len(granted), db)


def _linked_rows(table: RoleTable, permissions: Sequence[str]) -> dict[str, int]:
    section = table.section.permissions
    return {section.link.table: len(permissions)} if section is not None and permissions else {}


def _require_custom_role(table: RoleTable, name: str | KeyText) -> Role:
    """Return the role with this name or ID.

    Raises:
        BuiltInRoleError: the role is built in.
    """
    role = table.find(name)
    if role.built_in:
        raise BuiltInRoleError(name=role.name, profile=table.app.core.title, advice="")
    return role


def _refuse_referenced_name(table: RoleTable, role: Role) -> None:
    """Refuse another name of a role if rows refer to it that would not follow; raises as ``UpdateRole``."""
    name = table.fields["name"]
    if name == table.section.key:
        raise UsageError(detail=f"{table.live.name}.{name} is the key of the roles and cannot be changed")
    roles = UserTable(table.app, table.db).roles if table.app.core.users else None
    if roles is None or table.referenced != name:
        return
    is_followed = any(
        key.table in roles.tables and key.on_update == "CASCADE" and name in key.to
        for key in table.db.references(table.live.name)
    )
    if not is_followed and (holders := table.count_users(with_others=True).get(role.id, 0)):
        raise RoleInUseError(name=role.name, count=role.users, others=holders - role.users)


def _refuse_guarded_role(table: RoleTable, role: Role) -> None:
    """Refuse the role of admins and the exclusive role: the guards of their holders depend on the names.

    Raises:
        BuiltInRoleError: it is one of them.
    """
    if _is_guarded_role(table, role):
        raise BuiltInRoleError(name=role.name, profile=table.app.core.title, advice="")


def _is_guarded_role(table: RoleTable, role: Role) -> bool:
    users = table.app.core.users
    names = [users.admin_role, users.role.exclusive if users.role else ""] if users else []
    return role.name.casefold() in map(str.casefold, filter(None, names))


def _refuse_permissions(table: RoleTable, role: Role, changed: Sequence[str], *, granted: bool) -> None:
    """Refuse to grant or revoke permissions that the profile does not declare so for a built-in role.

    Raises:
        BuiltInRoleError: there is such a permission.
    """
    built_in = BuiltInPermissions(table)
    is_allowed = built_in.is_listed(role) and all(
        built_in.may_have(role, permission) if granted else not built_in.must_have(role, permission)
        for permission in changed
    )
    if not is_allowed:
        has_option = granted or not _is_guarded_role(table, role)
        advice = "Change it nevertheless with --built-in. " if has_option else ""
        raise BuiltInRoleError(name=role.name, profile=table.app.core.title, advice=advice)


def _require_role_table(app: App, db: Readable) -> RoleTable:
    """Return the table of roles.

    Raises:
        NotSupportedError: roles are values in the rows of users, without a table.
    """
    users = app.core.users
    if app.core.roles is None and users and users.role:
        known = ", ".join(role.name for role in read_roles(app, db))
        section = users.role
        place = section.role_table or f"{users.table}.{section.column}" if section.column else "users"
        raise NotSupportedError(
            feature="changing roles", subject=app.core.title, hint=ROLES_HINT, place=place, known=known
        )
    return RoleTable(app, db)
