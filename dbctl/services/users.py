"""Users: who there is, and whether a password is theirs."""

from __future__ import annotations

from dbctl.engines.base import Condition
from dbctl.errors import PasswordWrongError, UsageError
from dbctl.model import Page, Secret, Value, Window
from dbctl.profiles.codecs import HASHES
from dbctl.services.apps import App
from dbctl.services.user_filters import Filter, conditions
from dbctl.services.user_table import User, UserTable, Who, database_of


class PasswordChecked(Value, frozen=True, kw_only=True):
    """Answer of ``users check-password``."""

    login: str
    matches: bool


def table(app: App) -> UserTable:
    """Return the users of the app, opened for reading."""
    return UserTable(app, app.reader(database_of(app)))


def list_users(app: App, wanted: Filter, window: Window) -> Page[User]:
    """Return the users that meet every part of ``wanted``."""
    users = table(app)
    where = conditions(users, wanted)
    items = users.read(where, window=window)
    total = users.db.count(users.live.name, where)
    fields = dict.fromkeys([*User.__struct_fields__, *users.fields])
    names = [field for field in fields if field != "extra"]
    return Page(items=items, total=total, limit=window.limit, offset=window.offset, names=names)


def single(app: App, who: Who) -> User:
    """Return the one user who is meant, before anybody is asked for a password.

    Raises:
        AbilityMissingError: the app has no passwords.
        UsageError: nobody or several were named.
        UserMissingError, AmbiguousLoginError: a login fits nobody, or several.
    """
    people = table(app)
    app.ability(people.told.password, "passwords")
    found = people.find(who)
    if len(found) != 1:
        raise UsageError(detail="name one user")
    return found[0]


def check_password(app: App, user: User, password: Secret) -> PasswordChecked:
    """Say that a password fits what is stored.

    Raises:
        PasswordWrongError: it does not.
    """
    users = table(app)
    told = app.ability(users.told.password, "passwords")
    stored = users.db.select(
        users.live.name, [users.live.get(told.column)], [Condition(users.id, "=", user.id)]
    )
    if not (stored and HASHES[told.codec].fits(password, str(stored[0][0]))):
        raise PasswordWrongError(login=user.login)
    return PasswordChecked(login=user.login, matches=True)
