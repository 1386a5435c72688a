"""Rules for the rows of roles, of permissions, and of the permissions that roles have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property

from dbctl.errors.base import Remedy
from dbctl.errors.databases import AlreadyExistsError
from dbctl.errors.users import BuiltInRoleError
from dbctl.model import Row
from dbctl.profiles.model.roles import Link
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.validation import check_rule
from dbctl.services.roles.role_table import BuiltInPermissions, PermissionNames, Role, RoleTable
from dbctl.services.rules.columns import RowRule


class _RoleRule(RowRule):
    """Common base of the rules for roles and permissions."""

    protects = True

    def __init__(self, app: App, live: LiveTable) -> None:
        self._app, self._live = app, live

    @cached_property
    def _table(self) -> RoleTable:
        return RoleTable(self._app, self._live.db)

    @cached_property
    def _built_in(self) -> BuiltInPermissions:
        return BuiltInPermissions(self._table)

    def prepare(self) -> None:
        _ = self._built_in

    def _create_error(self, role: Role) -> BuiltInRoleError:
        return BuiltInRoleError(name=role.name, profile=self._app.profile.title, advice="")


class BuiltInRole(_RoleRule):
    """A role: its name must follow the rule of ``roles create``; a built-in role cannot be changed."""

    def check_added(self, row: Row) -> None:
        column = self._table.fields["name"]
        if (name := row.get(column)) is None:
            return
        check_rule("role name", str(name), self._table.section.rules.get("name"))
        if str(name).casefold() in self._names:
            hint = Remedy("Change it with: `roles update {name}`")
            raise AlreadyExistsError(target=self._live.db.target, kind="a role", name=str(name), hint=hint)

    def prepare(self) -> None:
        super().prepare()
        _ = self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(role.name.casefold() for role in self._table.read())

    def check_changed(self, before: Row, after: Row) -> None:
        fields = {column for field, column in self._table.fields.items() if field != "updated_at"}
        role = self._built_in.role(before[self._table.section.key])
        if role and fields & set(after):
            raise self._create_error(role)
        column = self._table.fields["name"]
        if column in after:
            check_rule("role name", str(after[column]), self._table.section.rules.get("name"))


class Permission(_RoleRule):
    """A permission that the app defines for a built-in role cannot be renamed or removed."""

    @property
    def columns(self) -> Collection[str]:
        return self._names.columns

    @cached_property
    def _names(self) -> PermissionNames:
        section = self._app.require_section(self._table.section.permissions, "permissions")
        return PermissionNames(self._live.db, section)

    def prepare(self) -> None:
        super().prepare()
        _ = self._names

    def check_changed(self, before: Row, after: Row) -> None:
        if not after.keys().isdisjoint(self.columns):
            self.check_removed(before)

    def check_removed(self, row: Row) -> None:
        name = self._names.join([row[column] for column in self.columns])
        for role in self._built_in.roles:
            if self._built_in.must_have(role, name):
                raise self._create_error(role)


class PermissionOfRole(_RoleRule):
    """A permission of a built-in role cannot be added or removed, unless the profile allows it."""

    @property
    def columns(self) -> Collection[str]:
        return [self._link.role, self._link.permission]

    def check_added(self, row: Row) -> None:
        role, permission = self._pair(row)
        if role and permission and not self._built_in.may_have(role, permission):
            raise self._create_error(role)

    def check_changed(self, before: Row, after: Row) -> None:
        link = self._link
        if {link.role, link.permission} & set(after):
            self.check_removed(before)
            self.check_added({**before, **after})

    def check_removed(self, row: Row) -> None:
        role, permission = self._pair(row)
        if role and permission and self._built_in.must_have(role, permission):
            raise self._create_error(role)

    def prepare(self) -> None:
        super().prepare()
        _ = self._names

    @cached_property
    def _link(self) -> Link:
        return self._app.require_section(self._table.section.permissions, "permissions").link

    @cached_property
    def _names(self) -> Mapping[str, str]:
        return {str(key): name for name, key in self._table.permission_keys().items()}

    def _pair(self, row: Row) -> tuple[Role | None, str]:
        """Return the built-in role and the permission of a row; None for a row of another role."""
        role = self._built_in.role(row.get(self._link.role))
        return role, self._names.get(str(row.get(self._link.permission)), "")
