"""Failures of users, roles, permissions, and settings."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit


class DuplicateRowsError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {login} already has rows with the same key as {rows}"
    remedy = "Nothing was changed. Change these rows first, or delete them with the user: --delete-duplicates"


class PermissionMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "no permission {name!r} in {target}"
    remedy = "List permissions with: `roles permissions`"


class SettingMissingError(DbctlError, status=Exit.NOT_FOUND):
    misspelled = "key"
    sentence, remedy = "no setting {key!r} in {target}", "{hint}"
    default_hint = "List settings with: `settings list`"


class ObjectMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence = "no row of {table} in {target} has the key or name {name!r}"
    remedy = "List them with: `data rows {table}`"


class CategoryMissingError(DbctlError, status=Exit.NOT_FOUND):
    sentence, remedy = "no settings of category {name!r} in {target}", "Categories: {names}."


class SessionsUnlistedError(DbctlError, status=Exit.USAGE):
    sentence = "{app} ({profile}) has sessions that cannot be listed: {reason}"
    remedy = "{hint}"


class ActingUserInactiveError(DbctlError, status=Exit.REFUSED):
    sentence = "{login!r} is not active in {target} and cannot act as author of a change"
    remedy = "Nothing was changed. Pass an active user with --acting-as."


class LastAdminError(DbctlError, status=Exit.REFUSED):
    sentence = "{target} would have no active {role!r} left: {logins}"
    remedy = "Nothing was changed. Assign that role to another active user first with: `users set-role LOGIN {role}`"


class DecisionOpenError(DbctlError, status=Exit.REFUSED):
    sentence = "profile {profile} leaves open what {feature} requires: {decisions}"
    remedy = "Nothing was changed. Decide it in the profile, then delete the entry {topic} from its section [undecided]."


class CommandUnprovenError(DbctlError, status=Exit.REFUSED):
    sentence = "{command} is not proven for {app}, which requires it: {reason}"
    remedy = (
        "Nothing was changed. {first}Record the action in the app with: `profiles learn {action} --to {profile}`;"
        " then replay it with: `profiles prove {profile}`"
    )


class AdminUndecidedError(DbctlError, status=Exit.REFUSED):
    sentence = "profile {profile} does not say which users are admins{reason}"
    remedy = (
        "Nothing was changed: a user could be the last admin. Name the role of admins in users.role and users.admin of the profile,"
        " or write admin = false if the app has no admins among its users."
    )


class RoleExclusiveError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: exactly one user has the role {role!r}; now: {logins}"
    remedy = "Nothing was changed. Assign the role to another user, and another role to its present user, with: `users set-role LOGIN {role} --demote-to ROLE`"


class RoleFormError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: the profile contradicts the roles of users: {reason} ({key})"
    remedy = "Nothing was changed. Correct the key of the profile; list all contradictions with: `apps check`"


class RoleStoredError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {row} is not a single map from names to true or false, the form that dbctl changes"
    remedy = "Nothing was changed. Change the role in the app."


class RoleInheritedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: the user with the key {user} has the role {role!r} as a member of a group"
    remedy = "Nothing was changed. Remove the user from the group in the app, or delete the row of the member with: `data delete {table} KEY`"


class PasswordFormatError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: users have password hashes in a format that the profile does not declare: {formats}"
    remedy = (
        "Nothing was changed: the app may not accept the new hash. If it does, add {names} to users.password.accepts"
        " of the profile; otherwise correct users.password.writes."
    )


class PasswordUnknownError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: {count} stored passwords have an unknown format"
    remedy = (
        "Nothing was changed: the app may not accept the new hash. If the values mark accounts without password sign-in, add"
        " their pattern to users.password.unusable of the profile; otherwise set the password in the app."
    )


class HashExpensiveError(DbctlError, status=Exit.REFUSED):
    sentence = "the stored {format} hash was not computed: it demands too much time or memory"
    remedy = "Set a new password with: `users set-password LOGIN`"


class PepperMissingError(DbctlError, status=Exit.USAGE):
    sentence = "the secret that {app} appends to passwords is not available: {reason}"
    remedy = "Write it to a file, and set pepper_file to its path in [apps.{app}] of the configuration, or pepper_env to the name of a secret. If the app has none, the file is empty."


class PasswordKeyMissingError(DbctlError, status=Exit.REFUSED):
    """Context: ``target``, ``table`` and the ``reason``, which does not contain the key."""

    sentence = "{target}: the key that the app applies to passwords before it hashes them is missing: {reason} in {table}"
    remedy = "Nothing was changed. Start the app, which creates the key, or correct users.password.hmac_key of the profile."


class InvariantViolatedError(DbctlError, status=Exit.REFUSED):
    sentence = "{target}: after the deletion there would be further {name}: {keys}"
    remedy = "Nothing was changed. Change the rows that refer to the user first, or transfer them."


class RoleInUseError(DbctlError, status=Exit.REFUSED):
    sentence = "role {name!r} is in use (users: {count}, other rows: {others})"
    remedy = "Nothing was changed. Assign them another role first with: `users set-role LOGIN ROLE`"


class BuiltInRoleError(DbctlError, status=Exit.REFUSED, code="role-built-in"):
    sentence = "role {name!r} is built into {profile}"
    remedy = "Nothing was changed. {advice}Create another role with: `roles create NAME`"
