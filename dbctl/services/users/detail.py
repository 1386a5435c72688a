"""Details of users: their rows, permissions, tokens, settings and statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dbctl.engines.contract.database import Condition, Order, Readable
from dbctl.model import Page, Row, Struct
from dbctl.profiles.codecs import read_time
from dbctl.profiles.payloads import RowStep, parse_row_path
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column, has_all
from dbctl.services.app.results import is_time, time_columns
from dbctl.services.app.secrets import find_secret_columns, mask
from dbctl.services.app.user_table import User, UserSelector, UserTable, open_users, users_database
from dbctl.services.roles.queries import read_permissions
from dbctl.services.settings.queries import open_settings
from dbctl.services.settings.store import find_section
from dbctl.services.users.ownership import follow_steps
from dbctl.services.users.queries import mask_secrets
from dbctl.services.users.second_factors import SecondFactorState, read_state
from dbctl.services.users.sign_in_state import Tokens, count_tokens, failed_attempts


class Activity(Struct, frozen=True, kw_only=True):
    """One action in the app's audit log."""

    action: str
    at: datetime | None


class UserShown(Struct, frozen=True, kw_only=True):
    """All details of one user; None for details that the app does not store."""

    id: object
    login: str
    username: str | None
    email: str | None
    name: str | None
    role: str | None
    roles: Sequence[str] | None
    active: bool | None
    created_at: datetime | None
    updated_at: datetime | None
    last_login_at: datetime | None
    permissions: Sequence[str] | None
    tokens: Tokens | None
    second_factor: SecondFactorState | None
    #: failed sign-ins with any spelling of the login, or from the same addresses; see ``users unlock``
    failed_attempts: int | None
    settings: Mapping[str, object] | None
    statistics: Mapping[str, object] | None
    last_activity: Activity | None
    extra: Mapping[str, object] = {}


class UsersShown(Page[UserShown], frozen=True, kw_only=True):
    """The details of several users."""

    def summary(self) -> Row:
        return {f"{user.login} (id {user.id})": user for user in self.items}


def show_users(app: App, selector: UserSelector) -> UserShown | UsersShown:
    """Return the details of the selected user, or a page with those of several users."""
    users = open_users(app)
    selected = users.find_users(selector)
    masked = mask_secrets(users, selected)
    details = [_create_detail(users, *pair) for pair in zip(selected, masked, strict=True)]
    return details[0] if len(details) == 1 else UsersShown(items=details, total=len(details))


def _create_detail(users: UserTable, user: User, masked: User) -> UserShown:
    """Return the details of a user, with the fields of ``masked``, which has no secrets."""
    app = users.app
    shown = {field: getattr(masked, field) for field in User.__struct_fields__}
    shown["extra"] = {**masked.extra, **_read_names(users, user), **_read_related(users, user)}
    return UserShown(
        **shown,
        permissions=read_permissions(app, users.db, user),
        tokens=count_tokens(users, user),
        second_factor=read_state(users, user),
        failed_attempts=_failed_attempts(users, user),
        settings=open_settings(app, users.db, user).values() if find_section(app, "user") else None,
        statistics=statistics(users, user),
        last_activity=_last_activity(app, users.db, user),
    )


def _read_names(users: UserTable, user: User) -> dict[str, object]:
    """Return the names of the rows to which fields of the user refer, as ``FIELD_name``."""
    names: dict[str, object] = {}
    for field, lookup in users.lookups.items():
        key = user.extra.get(field)
        if key is not None:
            rows = users.db.select(lookup.table, [lookup.name], [Condition(lookup.key, "=", key)])
            names[f"{field}_name"] = rows[0][0] if rows else None
    return names


def _read_related(users: UserTable, user: User) -> dict[str, object]:
    """Return the rows that the profile lists for a user, by name; without those that the deployment lacks."""
    tables, related = users.db.tables(), dict[str, object]()
    for name, section in users.section.related.items():
        steps = parse_row_path(section.rows)
        table, order = steps[0].table, section.order.removeprefix("-")
        columns = [
            column.removesuffix("?")
            for column in section.columns
            if not column.endswith("?") or has_all(tables, [f"{table}.{column.removesuffix('?')}"])
        ]
        needed = [f"{table}.{column}" for column in [*columns, *([order] if order else [])]]
        if not has_all(tables, [*(step.path for step in steps), *needed]):
            continue
        live = LiveTable(users.app.core, users.db, table, name)
        secret = find_secret_columns(users.app, users_database(users.app), users.db, [table]).get(table, ())
        time_names = time_columns(users.app, users_database(users.app), live)
        times = {name for name, column in live.table.columns.items() if is_time(users.db, column, time_names)}
        rows = users.db.select(
            table,
            columns,
            [follow_steps(users.db, steps, [user.id])],
            order_by=[Order([order], descending=section.order.startswith("-"), time=order in times)]
            if order
            else [],
            limit=section.limit,
        )
        masked = [mask(dict(zip(columns, row, strict=True)), secret) for row in rows]
        decoded = [
            {column: read_time(value) if column in times else value for column, value in row.items()}
            for row in masked
        ]
        related[name] = [row[columns[0]] for row in decoded] if len(columns) == 1 else decoded
    return related


def _failed_attempts(users: UserTable, user: User) -> int | None:
    lockout = users.section.lockout
    if lockout is None or lockout.table not in users.db.tables():
        return None
    return users.db.count(lockout.table, failed_attempts(users, [user]))


def statistics(users: UserTable, user: User) -> Mapping[str, object] | None:
    """Return the statistics of a user: stored by the app, or counted as the profile defines; None if the app has none."""
    section, counts = users.section.statistics, users.section.counts
    if counts:
        return {name: _count_rows(users, user, parse_row_path(steps)) for name, steps in counts.items()}
    if section is None or section.table not in users.db.tables():
        return None
    live = LiveTable(users.app.core, users.db, section.table, "statistics")
    columns = [column for name in section.columns if (column := live.optional_column(name))]
    rows = users.db.select(section.table, columns, [Condition(live.column(section.user), "=", user.id)])
    values = dict(zip(columns, rows[0], strict=True)) if rows else dict.fromkeys(columns)
    return {name: read_time(value) if name.endswith("_at") else value for name, value in values.items()}


def _count_rows(users: UserTable, user: User, steps: Sequence[RowStep]) -> int | None:
    """Return the number of rows to which ``steps`` lead; None if the deployment lacks a table or column."""
    if not has_all(users.db.tables(), [step.path for step in steps]):
        return None
    return users.db.count(steps[0].table, [follow_steps(users.db, steps, [user.id])])


def _last_activity(app: App, db: Readable, user: User) -> Activity | None:
    audit = app.core.audit
    if audit is None or audit.table not in db.tables():
        return None
    live = LiveTable(app.core, db, audit.table, "the audit log")
    user_column, time_column, action_column = (
        find_column(live.table, audit.fields.get(field)) for field in ("user", "at", "action")
    )
    if not (user_column and time_column and action_column):
        return None
    rows = db.select(
        audit.table,
        [action_column, time_column],
        [Condition(user_column, "=", user.id)],
        order_by=[Order([time_column], descending=True, time=True)],
        limit=1,
    )
    return Activity(action=str(rows[0][0]), at=read_time(rows[0][1])) if rows else None
