"""The app never loses its last active admin, on whatever path."""

from __future__ import annotations

from collections.abc import Iterable

from dbctl.engines.base import Condition
from dbctl.errors import LastAdminError
from dbctl.services.user_table import User, UserTable


def guard(users: UserTable, leaving: Iterable[User]) -> None:
    """Refuse what would leave the app without an active holder of its admin role; call it inside the transaction.

    Raises:
        LastAdminError: the users who are ``leaving`` the role, or the app, are the last.
    """
    known = [name for name in users.roles().values() if is_admin(users, name)]
    if not known:
        return
    admins = users.read([Condition(users.role_column(), "=", users.role_key(known[0]))])
    # As the app's users are read and shown, also where a row holds 2, or nothing, for active.
    active = {user.id for user in admins if user.active or "active" not in users.fields}
    gone = {user.id: user.login for user in leaving if user.id in active}
    if active and active == set(gone):
        raise LastAdminError(target=users.db.target, role=known[0], logins=", ".join(gone.values()))


def is_admin(users: UserTable, role: str | None) -> bool:
    """Whether ``role`` is the one of which an active holder must remain."""
    admin = users.told.admin
    return bool(role and admin) and str(role).casefold() == admin.casefold()
