"""Roles and their permissions."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.roles.built_in import BuiltInPermissions
    from dbctl.services.roles.changes import RoleChangeResult, RoleDeleteResult
    from dbctl.services.roles.queries import Matrix, Permission, PermissionCheck, read_permissions
    from dbctl.services.roles.role_table import PermissionNames, Role, RoleTable
