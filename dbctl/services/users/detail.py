"""All that is known of users: beside their rows their permissions, tokens, settings and statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dbctl.engines.contract import Condition, Order, Readable
from dbctl.model import Page, Row, Value
from dbctl.profiles import read_time
from dbctl.services.app import App, Live, User, UserSelector, UserTable, find_column, has
from dbctl.services.roles import permissions_of
from dbctl.services.settings import queries as settings
from dbctl.services.settings import section
from dbctl.services.users.ownership import STEP, leading
from dbctl.services.users.queries import open_user_table
from dbctl.services.users.sign_in_state import Tokens, count_tokens, failed_attempts


class Activity(Value, frozen=True, kw_only=True):
    """One action in the app's own record."""

    action: str
    at: datetime | None


class UserShown(Value, frozen=True, kw_only=True):
    """All that is known of one user; what the app does not keep is None."""

    id: object
    login: str
    username: str | None
    email: str | None
    name: str | None
    role: str | None
    active: bool | None
    created_at: datetime | None
    updated_at: datetime | None
    last_login_at: datetime | None
    permissions: Sequence[str] | None
    tokens: Tokens | None
    failed_attempts: (
        int | None
    )  #: to sign in, under any spelling or from the addresses of those; see ``users unlock``
    settings: Mapping[str, object] | None
    statistics: Mapping[str, object] | None
    last_activity: Activity | None
    extra: Mapping[str, object] = {}


class UsersShown(Page[UserShown], frozen=True, kw_only=True):
    """All that is known of several users."""

    def brief(self) -> Row:
        return {f"{user.login} (id {user.id})": user for user in self.items}


def show_users(app: App, who: UserSelector) -> UserShown | UsersShown:
    """Return all that is known of the user who is meant; a page of them where several are."""
    users = open_user_table(app)
    found = [_shown(users, user) for user in users.find(who)]
    return found[0] if len(found) == 1 else UsersShown(items=found, total=len(found))


def _shown(users: UserTable, user: User) -> UserShown:
    app = users.app
    return UserShown(
        **{field: getattr(user, field) for field in User.__struct_fields__},
        permissions=permissions_of(app, users.db, user.role) if app.profile.roles and user.role else None,
        tokens=count_tokens(users, user),
        failed_attempts=_failed_attempts(users, user),
        settings=settings.values_of(app, users.db, user) if section(app, "user") else None,
        statistics=statistics(users, user),
        last_activity=_last_activity(app, users.db, user),
    )


def _failed_attempts(users: UserTable, user: User) -> int | None:
    told = users.section.lockout
    if told is None or told.table not in users.db.tables():
        return None
    return users.db.count(told.table, failed_attempts(users, [user]))


def statistics(users: UserTable, user: User) -> Mapping[str, object] | None:
    """Return what the app itself counts for the user, or would count; None where it does not count."""
    told, counts = users.section.statistics, users.section.counts
    if counts:
        return {word: _counted(users, user, steps.split(STEP)) for word, steps in counts.items()}
    if told is None or told.table not in users.db.tables():
        return None
    live = Live(users.app.profile, users.db, told.table, "statistics")
    columns = [column for name in told.columns if (column := live.find(name))]
    rows = users.db.select(told.table, columns, [Condition(live.get(told.user), "=", user.id)])
    values = dict(zip(columns, rows[0], strict=True)) if rows else dict.fromkeys(columns)
    return {name: read_time(value) if name.endswith("_at") else value for name, value in values.items()}


def _counted(users: UserTable, user: User, steps: Sequence[str]) -> int | None:
    """Return how many rows there are of what ``steps`` name; None in a deployment without it."""
    if not has(users.db, steps):
        return None
    return users.db.count(steps[0].partition(".")[0], [leading(users.db, steps, [user.id])])


def _last_activity(app: App, db: Readable, user: User) -> Activity | None:
    told = app.profile.audit
    if told is None or told.table not in db.tables():
        return None
    live = Live(app.profile, db, told.table, "the app's record of actions")
    by, at, action = (find_column(live.table, told.fields.get(field)) for field in ("user", "at", "action"))
    if not (by and at and action):
        return None
    rows = db.select(
        told.table,
        [action, at],
        [Condition(by, "=", user.id)],
        order_by=[Order([at], descending=True, time=True)],
        limit=1,
    )
    return Activity(action=str(rows[0][0]), at=read_time(rows[0][1])) if rows else None
