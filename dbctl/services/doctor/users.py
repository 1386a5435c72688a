"""Checks of users: an active admin, known roles, and no published passwords."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import AnyOf, Condition
from dbctl.errors import HashExpensiveError
from dbctl.model import Finding, Secret, format_count
from dbctl.profiles.model import KnownLogin
from dbctl.services.app import App, UserTable, open_users
from dbctl.services.doctor.context import CheckContext
from dbctl.services.users import Passwords, admin_role, list_admins, may_sign_in

EXAMPLES = 5
MAX_IDS = 50  #: ids in one hint


def find_users_database(app: App) -> str:
    """Return the name of the database with the app's users, or an empty string."""
    section = app.profile.users
    return app.resolve_database(section) if section else ""


def check_roles(context: CheckContext) -> Iterator[Finding]:
    """Yield a missing admin, and users with an unknown role."""
    user_table = open_users(context.app)
    if not user_table.roles:
        return
    problems = list(user_table.roles.find_problems())
    for key, reason in problems:
        hint = f"Correct users.{'.'.join(map(str, key))} of the profile."
        yield context.create_finding("error", "role-form", reason, hint)
    if not problems:  # otherwise the roles of users are not known
        yield from _check_admin(context, user_table)
        yield from _check_unknown_roles(context, user_table)


def check_known_login(context: CheckContext, account: KnownLogin) -> Iterator[Finding]:
    """Yield accounts with a published password; findings never contain the password."""
    user_table = open_users(context.app)
    passwords = Passwords(context.app, user_table.live)
    is_login = AnyOf([Condition(column, "same", account.login) for column in user_table.login_columns()])
    for user in user_table.read([is_login]):
        where = [Condition(user_table.id, "=", user.id)]
        rows = user_table.db.select(user_table.live.name, passwords.columns, where)
        stored = (passwords.join(rows[0]) if rows else None) or ""
        hint = account.hint or context.command("users", "set-password", "--id", str(user.id), "--generate")
        try:
            matches = passwords.verify(Secret(account.password), stored)
        except HashExpensiveError:
            message = f"{user.login} (id {user.id}) was not checked: its password hash is too expensive"
            yield context.create_finding("warning", "not-tried", message, hint)
            continue
        if matches:
            active = may_sign_in(user_table, user)
            inactive_note = "" if active else ", and is not active"
            message = f"{user.login} (id {user.id}) has a published password ({account.name}){inactive_note}"
            yield context.create_finding(account.severity if active else "info", "known-login", message, hint)


def _check_admin(context: CheckContext, user_table: UserTable) -> Iterator[Finding]:
    role, holders = admin_role(user_table), list_admins(user_table, for_update=False)
    if not user_table.section.admin_role or any(may_sign_in(user_table, user) for user in holders):
        return
    if holders:
        message = f"no {role} is active, so no user can administer the app"
        command = context.command("users", "activate", "--id", str(holders[0].id))
        yield context.create_finding("error", "no-admin", message, command)
    elif user_table.db.count(user_table.live.name):
        message = f"no user has the role {user_table.section.admin_role}, so no user can administer the app"
        command = context.command("users", "set-role", "LOGIN", role or user_table.section.admin_role)
        yield context.create_finding("error", "no-admin", message, command)
    else:
        message = "no users exist yet"
        command = context.command(
            "users", "create", "LOGIN", "--email", "ADDRESS", "--role", user_table.section.admin_role
        )
        yield context.create_finding("warning", "no-admin", message, command)


def _check_unknown_roles(context: CheckContext, user_table: UserTable) -> Iterator[Finding]:
    roles = user_table.require_roles()
    affected = user_table.read([roles.where_unknown()])
    if not affected:
        return
    role = roles.section.default if roles.section.default in roles.names() else "ROLE"
    examples = ", ".join(f"{user.login} {', '.join(user.role_names)}" for user in affected[:EXAMPLES])
    examples += " …" if len(affected) > EXAMPLES else ""
    message = f"{format_count(len(affected), 'user')} with an unknown role may be locked out: {examples}"
    id_options = [option for user in affected[:MAX_IDS] for option in ("--id", str(user.id))]
    yield context.create_finding(
        "error", "role-unknown", message, context.command("users", "set-role", *id_options, role)
    )
