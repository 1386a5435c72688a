"""Users: who there is, and whether a password is theirs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from dbctl.engines.contract import AllOf, AnyOf, Condition, Where
from dbctl.errors import PasswordWrongError, UsageError
from dbctl.model import Page, Secret, Value, Window
from dbctl.profiles import HASHES
from dbctl.services.app import TIMES, App, User, UserSelector, UserTable, database_of, read_moment, read_word


class PasswordChecked(Value, frozen=True, kw_only=True):
    """Answer of ``users check-password``."""

    login: str
    matches: bool


def open_user_table(app: App) -> UserTable:
    """Return the users of the app, opened for reading."""
    return UserTable(app, app.reader(database_of(app)))


def list_users(app: App, filters: Filter, window: Window) -> Page[User]:
    """Return the users that meet every part of ``wanted``."""
    users = open_user_table(app)
    where = conditions(users, filters)
    items = users.read(where, window=window)
    total = users.db.count(users.live.name, where)
    fields = dict.fromkeys([*User.__struct_fields__, *users.fields])
    names = [field for field in fields if field != "extra"]
    return Page(items=items, total=total, limit=window.limit, offset=window.offset, names=names)


def find_single_user(app: App, selector: UserSelector) -> User:
    """Return the one user who is meant, before anybody is asked for a password.

    Raises:
        AbilityMissingError: the app has no passwords.
        UsageError: nobody or several were named.
        UserMissingError, AmbiguousLoginError: a login fits nobody, or several.
    """
    people = open_user_table(app)
    app.ability(people.section.password, "passwords")
    users = people.find(selector)
    if len(users) != 1:
        raise UsageError(detail="name one user")
    return users[0]


def check_password(app: App, user: User, password: Secret) -> PasswordChecked:
    """Say that a password fits what is stored.

    Raises:
        PasswordWrongError: it does not.
    """
    users = open_user_table(app)
    section = app.ability(users.section.password, "passwords")
    stored = users.db.select(
        users.live.name, [users.live.get(section.column)], [Condition(users.id, "=", user.id)]
    )
    if not (stored and HASHES[section.codec].fits(password, str(stored[0][0]))):
        raise PasswordWrongError(login=user.login)
    return PasswordChecked(login=user.login, matches=True)


class Filter(Value, frozen=True, kw_only=True):
    """Which users a list is about: those that meet everything said."""

    role: str = ""
    active: bool | None = None
    never_signed_in: bool = False
    inactive: timedelta | None = None
    fields: Mapping[str, str] = {}  #: a mapped field and the value it must have


def conditions(users: UserTable, filters: Filter) -> list[Where]:
    """Return what a user's row must meet.

    Raises:
        UsageError: the profile maps no such field.
        ValueInvalidError, RoleMissingError: a field can never hold that.
    """
    where = [field_holds(users, field, given) for field, given in filters.fields.items()]
    if filters.role:
        where.append(field_holds(users, "role", filters.role))
    if filters.active is not None:
        where.append(users.where_active(active=filters.active))
    if filters.never_signed_in:
        where.append(users.where_never_signed_in())
    if filters.inactive is not None:
        where.append(users.where_inactive(filters.inactive))
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
