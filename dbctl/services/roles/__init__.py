"""Roles and their permissions."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.services.roles.built_in import BuiltInPermissions
    from dbctl.services.roles.changes import RoleChanged, RoleDeleted
    from dbctl.services.roles.queries import Can, Matrix, Permission, Role, RoleTable, permissions_of
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "built_in": "BuiltInPermissions",
            "changes": "RoleChanged RoleDeleted",
            "queries": "Can Matrix Permission Role RoleTable permissions_of",
        },
    )
