"""Roles and their permissions."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.roles.built_in import BuiltInPermissions
    from dbctl.services.roles.changes import RoleChangeResult, RoleDeleteResult
    from dbctl.services.roles.queries import (
        Matrix,
        Permission,
        PermissionCheck,
        Role,
        RoleTable,
        role_permissions,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "built_in": "BuiltInPermissions",
            "changes": "RoleChangeResult RoleDeleteResult",
            "queries": "Matrix Permission PermissionCheck Role RoleTable role_permissions",
        },
    )
