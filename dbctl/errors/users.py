"""Failures of users, roles, permissions, and settings."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class DuplicateRowsError(DbctlError):
    code, exit_status = "duplicate-rows", Exit.REFUSED
    sentence = "{target}: {login} cannot take over {rows}: rows with the same key are there already"
    remedy = "Nothing was changed. Change these rows first, or let them be deleted with the user: --delete-duplicates."


class PermissionMissingError(DbctlError):
    code, exit_status = "permission-missing", Exit.NOT_FOUND
    sentence, remedy = "no permission {name!r} in {target}", "dbctl roles permissions lists them.{near}"


class SettingMissingError(DbctlError):
    code, exit_status = "setting-missing", Exit.NOT_FOUND
    sentence, remedy = "no setting {key!r} in {target}", "dbctl settings list shows them.{near}"


class CategoryMissingError(DbctlError):
    code, exit_status = "category-missing", Exit.NOT_FOUND
    sentence, remedy = "no settings of category {name!r} in {target}", "Known: {names}."


class ActingUserInactiveError(DbctlError):
    code, exit_status = "acting-user-inactive", Exit.REFUSED
    sentence = "{login!r} is not active in {target}, so no change is made on behalf of that user"
    remedy = "Nothing was changed. Name an active user with --acting-as."


class LastAdminError(DbctlError):
    code, exit_status = "last-admin", Exit.REFUSED
    sentence = "{target} would be left without an active {role!r}: {logins}"
    remedy = "Nothing was changed. Give another active user that role first."


class RoleHeldError(DbctlError):
    code, exit_status = "role-held", Exit.REFUSED
    sentence, remedy = (
        "role {name!r} is held (users: {count})",
        "Nothing was changed. Move them first: dbctl users set-role LOGIN ROLE.",
    )


class BuiltInRoleError(DbctlError):
    code, exit_status = "role-built-in", Exit.REFUSED
    sentence, remedy = (
        "role {name!r} is built into {profile}",
        "Nothing was changed. Create a role of your own beside it.",
    )
