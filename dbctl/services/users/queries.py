"""Users: who there is, and whether a password is theirs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from dbctl.engines.contract import AllOf, AnyOf, Condition, Where
from dbctl.errors import PasswordWrongError, UsageError
from dbctl.model import Page, Secret, Value, Window
from dbctl.profiles import HASHES
from dbctl.services.app import TIMES, App, User, UserTable, Who, database_of, read_moment, read_word


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


class Filter(Value, frozen=True, kw_only=True):
    """Which users a list is about: those that meet everything said."""

    role: str = ""
    active: bool | None = None
    never_signed_in: bool = False
    inactive: timedelta | None = None
    fields: Mapping[str, str] = {}  #: a mapped field and the value it must have


def conditions(users: UserTable, wanted: Filter) -> list[Where]:
    """Return what a user's row must meet.

    Raises:
        UsageError: the profile maps no such field.
        ValueInvalidError, RoleMissingError: a field can never hold that.
    """
    where = [field_holds(users, field, given) for field, given in wanted.fields.items()]
    if wanted.role:
        where.append(field_holds(users, "role", wanted.role))
    if wanted.active is not None:
        where.append(users.where_active(active=wanted.active))
    if wanted.never_signed_in:
        where.append(users.where_never_signed_in())
    if wanted.inactive is not None:
        where.append(users.where_inactive(wanted.inactive))
    return where


def field_holds(users: UserTable, field: str, wanted: str) -> Where:
    """Return the condition that a field holds ``wanted``; a time is meant by its day, in UTC."""
    if field == "id":
        return Condition(users.id, "=", wanted)
    if field == "login":
        return AnyOf([Condition(column, "same", wanted) for column in users.login_columns()])
    if field == "role":
        return Condition(users.role_column(), "=", users.role_key(wanted))
    if field == "active":
        return users.where_active(active=read_word(field, wanted))
    column = users.column(field)
    if field in TIMES:
        day = read_moment(field, wanted)
        return AllOf([Condition(column, ">=", day), Condition(column, "<", _day_after(day))])
    said: Where = Condition(column, "same", wanted)
    keys = [key for key, _ in users.meant(field, wanted)]
    return AnyOf([said, Condition(column, "in", keys)]) if keys else said


def _day_after(day: datetime) -> datetime:
    try:
        return day + timedelta(days=1)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
