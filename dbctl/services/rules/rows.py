"""What the rows of an app's tables may hold. Every path that writes rows which come from outside asks here.

A rule judges a row that is added, changed or removed. It raises the same error on every path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from dbctl.engines.contract import Readable
from dbctl.errors import SchemaLacksError
from dbctl.profiles import read_time
from dbctl.profiles.model import Settings, Users
from dbctl.services.app import TIMES, App, Live, find_column
from dbctl.services.rules import single_true
from dbctl.services.rules.columns import (
    JsonObject,
    ListedValue,
    Moves,
    OpenSession,
    PasswordHash,
    RoleOfUser,
    Row,
    RowRule,
    SettingColumns,
    SystemSetting,
    TextOfUser,
    UserSetting,
)
from dbctl.services.rules.roles import BuiltInRole, Permission, PermissionOfRole
from dbctl.services.settings import SettingTable
from dbctl.services.users import last_admin


class RowRules:
    """All rules for the rows of one table of an open database."""

    def __init__(self, app: App, database: str, live: Live) -> None:
        self._rules = list(rules_of(app, database, live))

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def columns(self) -> set[str]:
        """The columns of a row that is there on which the rules depend."""
        return {column for rule in self._rules for column in rule.columns}

    @property
    def protects(self) -> bool:
        """Whether rows that are there are protected, so that each that is replaced has to be judged."""
        return any(rule.protects for rule in self._rules)

    def prepare(self) -> None:
        """Read what the rules have to know; called before rows are streamed into the database."""
        for rule in self._rules:
            rule.prepare()

    def check_added(self, row: Row) -> None:
        """Refuse a row that breaks a rule.

        Raises:
            ValueInvalidError: a column may not hold its value.
            BuiltInRoleError: the row gives a built-in role what the app does not give it.
            AlreadyExistsError: there is such a role.
        """
        for rule in self._rules:
            rule.check_added(row)

    def check_changed(self, before: Row, after: Row) -> None:
        """Refuse a change that breaks a rule; what a row holds already is not judged again.

        Raises:
            MoveRefusedError: the profile knows no such move.
            And as ``check_added`` does.
        """
        changed = {name: value for name, value in after.items() if not same_stored(before.get(name), value)}
        for rule in self._rules:
            rule.check_changed(before, changed)

    def check_replaced(self, before: Row, after: Row) -> None:
        """Refuse a row of a backup that is about to replace another one, as ``check_changed`` does.

        A restore brings back an earlier state on purpose, so that moves are no matter.
        """
        changed = {name: value for name, value in after.items() if not same_stored(before.get(name), value)}
        for rule in self._rules:
            if not isinstance(rule, Moves):
                rule.check_changed(before, changed)
            elif changed:
                rule.check_state(changed)

    def check_removed(self, row: Row) -> None:
        """Refuse that a row is removed.

        Raises:
            BuiltInRoleError: a built-in role would lose what the app gives it.
        """
        for rule in self._rules:
            rule.check_removed(row)


@contextmanager
def guard(
    app: App, database: str, db: Readable, columns: Mapping[str, Collection[str]] = {}
) -> Iterator[None]:
    """Hold what is true of several rows at once; the transaction is open, and ends after this.

    Args:
        app: the app.
        database: the one that is written.
        db: it, open.
        columns: by table, the columns of rows that are added or replaced.

    Raises:
        LastAdminError: there was an active admin, and there is none.
        ConstraintError: several rows would be true where one may be.
    """
    with ExitStack() as guards:
        guards.enter_context(last_admin.kept(app, database, db))
        for table, written in columns.items():
            live = Live(app.profile, db, table, "data")
            guards.enter_context(single_true.kept(app, database, live, written))
        yield


def same_stored(held: object, value: object) -> bool:
    """Whether two stored values are the same, whatever types a driver and a file have for them."""
    if held is None or value is None:
        return held is value
    if held == value or str(held) == str(value):
        return True
    return (
        not isinstance(held, str)
        and not isinstance(value, str)
        and read_time(held) == read_time(value) is not None
    )


# Which rules a table has -------------------------------------------------------------------------------------------


def rules_of(app: App, database: str, live: Live) -> Iterator[RowRule]:
    """Yield the rules for the rows of one table of an open database; none for a column that it lacks."""
    profile, main = app.profile, app.main()
    users = profile.users
    for state in profile.states:
        column = find_column(live.table, state.column)
        if column and ((state.database or main), state.table) == (database, live.name):
            yield Moves(live, column, state)
    for listed in profile.values:
        column = find_column(live.table, listed.column)
        if column and ((listed.database or main), listed.table.removesuffix("?")) == (database, live.name):
            yield ListedValue(live, column, listed.among)
    for settings in profile.settings:
        if ((settings.database or main), settings.table) == (database, live.name):
            yield from _rules_of_settings(app, live, settings)
    if database == ((users.database if users else "") or main):
        yield from _rules_of_users(app, live, users) if users else ()
        yield from _rules_of_roles(app, live)


def _rules_of_settings(app: App, live: Live, told: Settings) -> Iterator[RowRule]:
    if told.object:
        if column := find_column(live.table, told.fields["value"]):
            yield JsonObject(live, column)
    elif told.row:
        yield SettingColumns(live, told)
    elif told.scope == "user":
        yield UserSetting(live, told)
    else:
        with suppress(SchemaLacksError):  # of a variant that no shape describes nothing can be judged
            yield SystemSetting(SettingTable(app, live.db))


def _rules_of_users(app: App, live: Live, told: Users) -> Iterator[RowRule]:
    for kept in told.signed_in:
        if kept.table.removesuffix("?") == live.name:
            yield OpenSession(live, kept)
    if told.table != live.name:
        return
    if told.password and (column := find_column(live.table, told.password.column)):
        yield PasswordHash(live, column, told.password)
    if told.role and not told.role.table and (column := find_column(live.table, told.role.column)):
        yield RoleOfUser(app, live, column)
    for field, name in told.fields.items():
        column = find_column(live.table, name)
        if column and field not in ("active", *TIMES) and field not in told.lookup:
            yield TextOfUser(live, column, field, told.rules.get(field))


def _rules_of_roles(app: App, live: Live) -> Iterator[RowRule]:
    told = app.profile.roles
    if told is None:
        return
    if live.name == told.table:
        yield BuiltInRole(app, live)
    if told.permissions and live.name == told.permissions.table:
        yield Permission(app, live)
    if told.permissions and live.name == told.permissions.link.table:
        yield PermissionOfRole(app, live)
