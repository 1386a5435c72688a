"""Which users a list is about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from dbctl.engines.base import AllOf, AnyOf, Condition, Where
from dbctl.model import Value
from dbctl.services.rules import read_moment, read_word
from dbctl.services.user_table import TIMES, UserTable


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
