"""List and filter users, and check a password."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from dbctl.engines.contract import AllOf, AnyOf, Condition, Where
from dbctl.errors import PasswordWrongError, UsageError
from dbctl.model import Page, PageRequest, Secret, Struct
from dbctl.profiles import HASHES
from dbctl.services.app import (
    TIMES,
    App,
    User,
    UserSelector,
    UserTable,
    parse_boolean,
    parse_time,
    users_database,
)


class PasswordChecked(Struct, frozen=True, kw_only=True):
    """Result of ``users check-password``."""

    login: str
    matches: bool


def open_user_table(app: App) -> UserTable:
    """Return the users table of the app, opened for reading."""
    return UserTable(app, app.reader(users_database(app)))


def list_users(app: App, filters: UserFilter, page_request: PageRequest) -> Page[User]:
    """Return the users that match all ``filters``."""
    users = open_user_table(app)
    where = build_conditions(users, filters)
    items = users.read(where, page_request=page_request)
    total = users.db.count(users.live.name, where)
    fields = dict.fromkeys([*User.__struct_fields__, *users.fields])
    names = [field for field in fields if field != "extra"]
    return Page(
        items=items, total=total, limit=page_request.limit, offset=page_request.offset, column_names=names
    )


def find_single_user(app: App, selector: UserSelector) -> User:
    """Return the selected user, before the command prompts for a password.

    Raises:
        FeatureMissingError: the app has no passwords.
        UsageError: no user or several users are selected.
        UserMissingError, AmbiguousLoginError: no user, or several users have a login.
    """
    user_table = open_user_table(app)
    app.require_section(user_table.section.password, "passwords")
    users = user_table.find_users(selector)
    if len(users) != 1:
        raise UsageError(detail="select exactly one user")
    return users[0]


def check_password(app: App, user: User, password: Secret) -> PasswordChecked:
    """Compare a password with the stored hash.

    Raises:
        PasswordWrongError: the password does not match.
    """
    users = open_user_table(app)
    section = app.require_section(users.section.password, "passwords")
    stored = users.db.select(
        users.live.name, [users.live.column(section.column)], [Condition(users.id, "=", user.id)]
    )
    if not (stored and HASHES[section.codec].matches(password, str(stored[0][0]))):
        raise PasswordWrongError(login=user.login)
    return PasswordChecked(login=user.login, matches=True)


class UserFilter(Struct, frozen=True, kw_only=True):
    """A filter of users; a user must match all fields."""

    role: str = ""
    active: bool | None = None
    never_signed_in: bool = False
    inactive_for: timedelta | None = None
    fields: Mapping[str, str] = {}  #: fields of the profile and their required values


def build_conditions(users: UserTable, filters: UserFilter) -> list[Where]:
    """Return the conditions of a filter.

    Raises:
        UsageError: the profile maps no such field.
        ValueInvalidError, RoleMissingError: a field cannot have the value.
    """
    where = [match_field(users, field, value) for field, value in filters.fields.items()]
    if filters.role:
        where.append(match_field(users, "role", filters.role))
    if filters.active is not None:
        where.append(users.where_active(active=filters.active))
    if filters.never_signed_in:
        where.append(users.where_never_signed_in())
    if filters.inactive_for is not None:
        where.append(users.where_inactive(filters.inactive_for))
    return where


def match_field(users: UserTable, field: str, value: str) -> Where:
    """Return the condition that a field has ``value``; for a time, any time of the same day in UTC."""
    if field == "id":
        return Condition(users.id, "=", value)
    if field == "login":
        return AnyOf([Condition(column, "same", value) for column in users.login_columns()])
    if field == "role":
        return Condition(users.role_column(), "=", users.role_key(value))
    if field == "active":
        return users.where_active(active=parse_boolean(field, value))
    column = users.column(field)
    if field in TIMES:
        day = parse_time(field, value)
        return AllOf([Condition(column, ">=", day), Condition(column, "<", _day_after(day))])
    condition: Where = Condition(column, "same", value)
    keys = [key for key, _ in users.lookup_rows(field, value)]
    return AnyOf([condition, Condition(column, "in", keys)]) if keys else condition


def _day_after(day: datetime) -> datetime:
    try:
        return day + timedelta(days=1)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
