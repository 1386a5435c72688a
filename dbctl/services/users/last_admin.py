"""The app never loses its last active admin, on whatever path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dbctl.engines.contract import Condition, Readable
from dbctl.errors import LastAdminError
from dbctl.services.app import App, User, UserTable


def guard(users: UserTable, leaving: Iterable[User]) -> None:
    """Refuse what would leave the app without an active holder of its admin role; call it inside the transaction.

    Raises:
        LastAdminError: the users who are ``leaving`` the role, or the app, are the last.
    """
    # Held: the app may be taking the role away from the other one at this moment.
    active = {user.id for user in admins(users, hold=True) if may_sign_in(users, user)}
    gone = {user.id: user.login for user in leaving if user.id in active}
    if active and active == set(gone):
        raise LastAdminError(target=users.db.target, role=admin_role(users), logins=", ".join(gone.values()))


@contextmanager
def kept(app: App, database: str, db: Readable) -> Iterator[None]:
    """Refuse, at the end, what has left the app without an active holder of its admin role; the transaction is open.

    Raises:
        LastAdminError: there was one, and there is none.
    """
    told = app.profile.users
    users = UserTable(app, db) if told and told.admin and (told.database or app.main()) == database else None
    before = _active(users)
    yield
    if users and before and not _active(users):
        logins = ", ".join(user.login for user in before)
        raise LastAdminError(target=db.target, role=admin_role(users), logins=logins)


def _active(users: UserTable | None) -> list[User]:
    return [user for user in admins(users, hold=True) if may_sign_in(users, user)] if users else []


def admins(users: UserTable, *, hold: bool = False) -> list[User]:
    """Return the holders of the role of which an active one must remain; none where the app has no such role."""
    role = admin_role(users)
    return users.read([Condition(users.role_column(), "=", users.role_key(role))], hold=hold) if role else []


def admin_role(users: UserTable) -> str:
    """Return the role of which an active holder must remain, as the app spells it; empty where it has none."""
    return next((name for name in users.roles().values() if is_admin(users, name)), "")


def may_sign_in(users: UserTable, user: User) -> bool:
    """Whether a user is active: as users are read and shown, also where a row holds 2, or nothing, for it."""
    return bool(user.active) or "active" not in users.fields


def is_admin(users: UserTable, role: str | None) -> bool:
    """Whether ``role`` is the one of which an active holder must remain."""
    admin = users.section.admin
    return bool(role and admin) and str(role).casefold() == admin.casefold()
