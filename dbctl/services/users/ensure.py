"""Create a user, or change the one that exists."""

from __future__ import annotations

from dbctl.engines.contract.database import Readable
from dbctl.services.app.app import App
from dbctl.services.app.change import Change, Prepared, PreparedChange
from dbctl.services.app.user_table import UserTable, open_users, users_database
from dbctl.services.users.create import CreateUser, NewUser, UserCreated
from dbctl.services.users.update import UpdateUsers, UsersChanged, UserUpdate


def ensure_user(app: App, new: NewUser) -> Change[UserCreated]:
    """Create a user, or change the fields that differ. A second run does nothing.

    Other fields, and the password of an existing user, are unchanged: a daily script must not revert changes of the user.
    """

    def draft(db: Readable) -> Prepared[UserCreated]:
        users = UserTable(app, db)
        user = users.find_by_first_login(new.fields)
        if user is None:
            return CreateUser(users, new)
        fields = {field: text for field, text in new.fields.items() if field != users.section.login[0]}
        update = UpdateUsers(users, [user], UserUpdate(fields=fields), "Ensure user {logins}", "users.update")
        return PreparedChange(update.plan, lambda db: _ensured(update.apply(db)))

    return Change(app, users_database(app), draft)


def needs_password(app: App, new: NewUser) -> bool:
    """Return whether creating ``new`` requires a password: the app has passwords, and no user has the login."""
    users = open_users(app)
    return users.section.password is not None and users.find_by_first_login(new.fields) is None


def _ensured(result: UsersChanged) -> UserCreated:
    return UserCreated(
        user=result.users[0],
        created=False,
        changed=bool(result.changed),
        ended_sessions=result.ended_sessions,
        signed_in_for=result.signed_in_for,
    )
