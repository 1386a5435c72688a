"""Guard: no command removes the last active admin of an app."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dbctl.engines.contract import Readable
from dbctl.errors import LastAdminError
from dbctl.services.app import App, User, UserTable


def refuse_last_admin(users: UserTable, leaving: Iterable[User]) -> None:
    """Refuse a change that would remove the last active user with the admin role; call it inside the transaction.

    Raises:
        LastAdminError: the ``leaving`` users, who lose the role or are deleted, are the last.
        RoleFormError: the profile contradicts the stored roles, so the last admin is not known.
    """
    leaving_ids = {user.id for user in leaving}
    if not leaving_ids:
        return
    _require_consistent_roles(users)
    admins = _active_admins(users)
    if admins and all(user.id in leaving_ids for user in admins):
        raise _create_error(users, admins)


@contextmanager
def guard_last_admin(app: App, database: str, db: Readable) -> Iterator[None]:
    """Refuse, at the end, changes of the open transaction that removed the last active user with the admin role.

    Raises:
        LastAdminError: there was an active admin before, and there is none now.
        RoleFormError: see ``refuse_last_admin``.
    """
    section = app.profile.users
    if not (section and section.admin and (section.database or app.main()) == database):
        yield
        return
    users = UserTable(app, db)
    _require_consistent_roles(users)
    admins_before = _active_admins(users)
    yield
    if admins_before and not _active_admins(UserTable(app, db)):  # the change may have deleted roles
        raise _create_error(users, admins_before)


def _require_consistent_roles(users: UserTable) -> None:
    if users.roles and users.section.admin:
        users.roles.require_consistent()


def _active_admins(users: UserTable) -> list[User]:
    # The rows are locked: the app may remove the role of another admin concurrently.
    return [user for user in list_admins(users, for_update=True) if may_sign_in(users, user)]


def _create_error(users: UserTable, admins: Iterable[User]) -> LastAdminError:
    logins = ", ".join(user.login for user in admins)
    return LastAdminError(target=users.db.target, role=admin_role(users), logins=logins)


def list_admins(users: UserTable, *, for_update: bool = False) -> list[User]:
    """Return the users with the admin role, unless it may expire; empty if the app has no such role."""
    role = admin_role(users)
    if not (users.roles and role):
        return []
    return users.read([users.roles.where_lasting(role, for_update=for_update)], for_update=for_update)


def admin_role(users: UserTable) -> str:
    """Return the name of the admin role, as the app spells it; empty if the app has none."""
    return next((name for name in users.roles.names() if is_admin(users, name)), "") if users.roles else ""


def may_sign_in(users: UserTable, user: User) -> bool:
    """Return whether a user is active; always true if the app does not store it."""
    return bool(user.active) or "active" not in users.field_names


def is_admin(users: UserTable, role: str | None) -> bool:
    """Return whether ``role`` is the admin role."""
    admin = users.section.admin
    return bool(role and admin) and str(role).casefold() == admin.casefold()
