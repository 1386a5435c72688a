"""List, filter and select users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from msgspec import structs

from dbctl.engines.contract.database import AllOf, AnyOf, Condition, Order, Where
from dbctl.errors.usage import UsageError
from dbctl.model import Page, PageRequest, Struct
from dbctl.profiles.codecs import read_text
from dbctl.services.app.app import App
from dbctl.services.app.results import find_kind
from dbctl.services.app.user_table import KINDS, User, UserSelector, UserTable, open_users, users_database
from dbctl.services.app.validation import day_after, parse_boolean, parse_time


def list_users(
    app: App, filters: UserFilter, page_request: PageRequest, *, among: Sequence[object] | None = None
) -> Page[User]:
    """Return one page of the users that match all ``filters``; ``among``: only those with one of these keys.

    Raises:
        UsageError: a filter or the order names a field with secrets, which could reveal one step by step.
    """
    users = open_users(app)
    named = {*filters.fields, page_request.sort.removeprefix("-")}.difference(["", *User.__struct_fields__])
    if named and (secret := named & find_secret_fields(users)):
        raise UsageError(
            detail=f"{', '.join(sorted(secret))}: users cannot be selected or sorted by a secret"
        )
    where = build_conditions(users, filters)
    if among is not None:
        where.append(Condition(users.id, "in", among))
    has_several = users.roles is not None and users.roles.has_several
    fields = dict.fromkeys([*User.__struct_fields__, *users.field_names])
    items = users.read(where, page_request=page_request)
    if items and items[0].extra:
        items = mask_secrets(users, items)
    return Page(
        items=items,
        total=page_request.find_total(
            len(items), lambda: users.db.count(users.live.name, [*where, *users.only])
        ),
        limit=page_request.limit,
        offset=page_request.offset,
        column_names=[field for field in fields if field != "extra" and (has_several or field != "roles")],
        omitted_columns=[field for field in users.login_fields[:1] if field == "email"],
    )


def find_secret_fields(users: UserTable) -> set[str]:
    """Return the further fields whose columns hold secrets, by the profile, by their names or by the values of some rows."""
    from dbctl.services.app.secrets import find_table_secrets

    app, secrets = users.app, dict[str, Sequence[str]]()
    places = {field: (users.live.name, column) for field, column in users.fields.items()}
    places |= {
        field: (joined.table.removesuffix("?"), joined.column)
        for field, joined in users.section.joined.items()
        if field in users.joined.names
    }
    places = {field: place for field, place in places.items() if field not in User.__struct_fields__}
    for table in {table for table, _ in places.values()}:
        secrets[table] = find_table_secrets(app, users_database(app), users.db, table, sampled=True)
    return {field for field, (table, column) in places.items() if column in secrets[table]}


def mask_secrets(users: UserTable, items: Sequence[User]) -> list[User]:
    """Return users without the values of secret fields, and without those in the form of a secret."""
    if not any(user.extra for user in items):
        return list(items)
    from dbctl.services.app.secrets import is_secret_value, mask

    masked, fields = [], find_secret_fields(users)
    for user in items:
        hidden = {*fields, *(name for name, value in user.extra.items() if is_secret_value(value))}
        masked.append(structs.replace(user, extra=mask(user.extra, hidden)))
    return masked


def list_logins(users: UserTable, prefix: str, limit: int) -> list[str]:
    """Return logins that begin with ``prefix``, without regard to case: at most ``limit``, and the last one.

    They are those of the first login field that has any, without the rows of other tables.
    """
    for column in users.login_columns():
        where = [Condition(column, "starts", prefix), *users.only]
        first, last = (
            users.db.select(
                users.live.name, [column], where, order_by=[Order([column], descending)], limit=count
            )
            for descending, count in ((False, limit), (True, 1))
        )
        if first:
            return [read_text(value) for (value,) in [*first, *last] if value]
    return []


def find_single_user(app: App, selector: UserSelector) -> User:
    """Return the selected user, before the command prompts for a password.

    Raises:
        FeatureMissingError, NotSupportedError: the app has no passwords, or only the app can set them.
        UsageError: no user or several users are selected.
        UserMissingError, AmbiguousLoginError: no user, or several users have a login.
    """
    from dbctl.services.users.passwords import require_passwords

    users = open_users(app)
    require_passwords(app)
    return users.find_single_user(selector)


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
    fields = [*filters.fields.items(), *([("role", filters.role)] if filters.role else [])]
    where = [_match_field(users, field, value) for field, value in fields]
    if filters.active is not None:
        where.append(users.where_active(active=filters.active))
    if filters.never_signed_in:
        where.append(users.where_never_signed_in())
    if filters.inactive_for is not None:
        where.append(users.where_inactive(filters.inactive_for))
    return where


def _match_field(users: UserTable, field: str, value: str) -> Where:
    """Return the condition that a field has ``value``; for a time, that it is in the 24 hours from it."""
    if field == "id":
        return Condition(users.id, "=", value)
    if field == "login":
        return AnyOf([Condition(column, "same", value) for column in users.login_columns()])
    if field == "role":
        return users.require_roles().where(value)
    if field == "active":
        return users.where_active(active=parse_boolean(field, value))
    column = users.column(field)
    kind = KINDS[field] if field in KINDS else find_kind(users.db, users.live.table.columns[column])
    if kind == "time":
        day = parse_time(field, value)
        return AllOf([Condition(column, ">=", day), Condition(column, "<", day_after(day))])
    condition: Where = Condition(column, "same", value)
    if kind == "boolean":
        condition = Condition(column, "=", users.live.encode(column, parse_boolean(field, value)))
    keys = users.lookup_keys(field, value)
    return AnyOf([condition, Condition(column, "in", keys)]) if keys else condition
