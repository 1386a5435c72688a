"""Permissions of the built-in roles of an app: dbctl restores them, and never removes them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from dbctl.services.roles.role_table import Role, RoleTable

OPTIONAL = "?"  #: the suffix of a permission that a deployment may lack


class BuiltInPermissions:
    """The built-in roles of one open database, and their permissions in the profile."""

    def __init__(self, table: RoleTable) -> None:
        self._permissions = table.section.built_in.permissions
        self.roles = [role for role in table.read() if role.built_in]

    def role(self, key: object) -> Role | None:
        """Return the built-in role with this key, or None."""
        return next((role for role in self.roles if str(role.id) == str(key)), None)

    def may_have(self, role: Role, permission: str) -> bool:
        """Whether the role has that permission in at least some deployments of the app."""
        return any(fnmatchcase(permission, item.removesuffix(OPTIONAL)) for item in self._items(role))

    def must_have(self, role: Role, permission: str) -> bool:
        """Whether the role has that permission in every deployment, or in this one if the profile lists none."""
        items = self._items(role)
        if not items:
            return permission in (role.permissions or ())
        return any(fnmatchcase(permission, item) for item in items if not item.endswith(OPTIONAL))

    def is_listed(self, role: Role) -> bool:
        """Whether the profile lists the permissions of that role."""
        return bool(self._items(role))

    def _items(self, role: Role) -> Sequence[str]:
        return self._permissions.get(str(role.id)) or self._permissions.get(role.name, ())
