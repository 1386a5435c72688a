"""Rules for the rows of an app's tables. Every code path that writes rows from users, files or backups checks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from functools import partial

from dbctl.engines.contract.database import AllOf, AnyOf, Condition, Not, Readable, Where, Writable
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import SchemaMismatchError
from dbctl.model import Row, format_count
from dbctl.profiles.codecs import read_boolean, read_time
from dbctl.profiles.model.base import Rule
from dbctl.profiles.model.integrity import Exclusive, Values
from dbctl.profiles.model.settings import Settings
from dbctl.profiles.model.users import Users
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_column
from dbctl.services.app.row_writes import update_exactly
from dbctl.services.app.user_table import TIMES
from dbctl.services.app.validation import rule_problem, value_problem
from dbctl.services.rules.columns import (
    ColumnRule,
    OpenSession,
    PasswordHash,
    RowRule,
    SettingColumns,
    StateTransition,
    SystemSetting,
    UserRole,
    UserSetting,
    UserText,
    find_object_violation,
)
from dbctl.services.rules.roles import BuiltInRole, Permission, PermissionOfRole
from dbctl.services.settings.rows import SettingRows
from dbctl.services.users.last_admin import guard_holders
from dbctl.services.users.passwords import Passwords


class SingleTrueUpdate:
    """Rows whose column becomes false because it becomes true in another row."""

    def __init__(
        self,
        app: App,
        database: str,
        live: LiveTable,
        row_conditions: Sequence[Where],
        before: Mapping[str, object],
        after: Mapping[str, object],
    ) -> None:
        """Find the rows for a change of the row with these conditions; ``after`` has its changed columns."""
        self.columns = set[str]()  #: columns of the row that a rule covers
        self._live, self._updates = live, dict[str, tuple[list[Where], int]]()
        row = {**before, **after}
        for rule in _find_rules(app, database, live):
            column, within = _columns(live, rule)
            if column is None or not ({column, within} & set(after)):
                continue
            self.columns.add(column)
            where: list[Where] = [_is_set(live, column), Not(AllOf(row_conditions))]
            where += [Condition(within, "=", row[within])] if within else []
            if read_boolean(row[column]) and (number := live.db.count(live.name, where)):
                self._updates[column] = (where, number)

    def plan_steps(self) -> list[str]:
        unset = {column: self._live.encode(column, False) for column in self._updates}  # noqa: FBT003 - the value itself
        return [
            f"change {column} of {format_count(number, 'other row')} to {unset[column]}"
            for column, (_, number) in self._updates.items()
        ]

    @property
    def row_count(self) -> int:
        """The number of changed rows."""
        return sum(number for _, number in self._updates.values())

    @property
    def changed_columns(self) -> list[str]:
        return list(self._updates)

    def apply(self, db: Writable) -> None:
        """Set the columns to false."""
        for column, (where, number) in self._updates.items():
            unset = {column: self._live.encode(column, False)}  # noqa: FBT003 - the value itself
            update_exactly(db, self._live.name, unset, where, number)


@contextmanager
def guard_single_true(app: App, database: str, live: LiveTable, columns: Collection[str]) -> Iterator[None]:
    """Refuse added or changed rows, of which ``columns`` are written, that make a column true in several rows.

    Raises:
        ConstraintError: the number of such rows has grown; existing violations are ignored.
    """
    # also if another column moves rows to another group, or if a new row gets the default
    rules = [rule for rule in _find_rules(app, database, live) if columns and _columns(live, rule)[0]]
    before = [_count_true(live, rule) for rule in rules]
    yield
    for rule, count_before in zip(rules, before, strict=True):
        conflicts = [
            owner for owner, count in _count_true(live, rule).items() if count > max(1, count_before[owner])
        ]
        if conflicts:
            scope = f" of one {rule.within}" if rule.within else ""
            others = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
            owner_text = f": {conflicts[0]}{others}" if rule.within else ""
            reason = f"{rule.column} of {live.name} may be true in a single row{scope}, but would be in several{owner_text}"
            raise ConstraintError(target=live.db.target, reason=reason)


def _find_rules(app: App, database: str, live: LiveTable) -> list[Exclusive]:
    rules = app.profile.exclusive
    return [rule for rule in rules if rule.table == live.name and app.resolve_database(rule) == database]


def _count_true(live: LiveTable, rule: Exclusive) -> Counter[object]:
    """Return the number of rows in which the column is true, by the value of ``within``."""
    where, within = [_is_set(live, live.column(rule.column))], find_column(live.table, rule.within)
    if within is None:
        return Counter({None: live.db.count(live.name, where)})
    return Counter(owner for (owner,) in live.db.select(live.name, [within], where))


def _columns(live: LiveTable, rule: Exclusive) -> tuple[str | None, str | None]:
    return find_column(live.table, rule.column), find_column(live.table, rule.within)


def _is_set(live: LiveTable, column: str) -> Where:
    unset = [Condition(column, "=", None), Condition(column, "=", live.encode(column, False))]  # noqa: FBT003 - the value itself
    return Not(AnyOf(unset))


class RowRules:
    """All rules for the rows of one table of an open database."""

    def __init__(self, app: App, database: str, live: LiveTable) -> None:
        self._rules = list(find_rules(app, database, live))

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def columns(self) -> set[str]:
        """The columns of an existing row on which the rules depend."""
        return {column for rule in self._rules for column in rule.columns}

    @property
    def protects(self) -> bool:
        """Whether replaced and removed rows are also checked."""
        return any(rule.protects for rule in self._rules)

    def prepare(self) -> None:
        """Read the data that the rules need; called before rows are streamed into the database."""
        for rule in self._rules:
            rule.prepare()

    def check_added(self, row: Row) -> None:
        """Refuse a row that violates a rule.

        Raises:
            ValueInvalidError: a value of a column is not allowed.
            BuiltInRoleError: the row grants a built-in role a permission that the profile does not list.
            AlreadyExistsError: the role exists.
        """
        for rule in self._rules:
            rule.check_added(row)

    def check_changed(self, before: Row, after: Row, *, any_state: bool = False) -> None:
        """Refuse a change that violates a rule; unchanged columns are not checked.

        With ``any_state``, a state may follow any other one.

        Raises:
            TransitionRefusedError: the profile does not allow this transition.
            Others: see ``check_added``.
        """
        changed = _changed_columns(before, after)
        for rule in self._rules:
            if any_state and isinstance(rule, StateTransition):
                rule.check_replaced(before, changed)
            else:
                rule.check_changed(before, changed)

    def check_replaced(self, before: Row, after: Row) -> None:
        """Check a row of a backup that replaces another one; unchanged columns are not checked."""
        changed = _changed_columns(before, after)
        for rule in self._rules:
            rule.check_replaced(before, changed)

    def check_removed(self, row: Row) -> None:
        """Refuse the removal of a protected row.

        Raises:
            BuiltInRoleError: a built-in role would lose a permission of the profile.
        """
        for rule in self._rules:
            rule.check_removed(row)


@contextmanager
def guard_constraints(
    app: App, database: str, db: Readable, columns: Mapping[str, Collection[str]]
) -> Iterator[None]:
    """Check constraints over several rows at the end of the block; the transaction must be open.

    ``columns`` are the changed tables, each with the columns of rows that are added or replaced.

    Raises:
        LastAdminError: no active admin would remain.
        RoleExclusiveError: several users, or none, would have the exclusive role.
        ConstraintError: a column would be true in more rows than allowed.
    """
    with ExitStack() as guards:
        guards.enter_context(guard_holders(app, database, db, columns))
        for table, written in columns.items():
            live = LiveTable(app.profile, db, table, "data")
            guards.enter_context(guard_single_true(app, database, live, written))
        yield


def _changed_columns(before: Row, after: Row) -> dict[str, object]:
    return {name: value for name, value in after.items() if not is_equal_stored(before.get(name), value)}


def find_unlisted(section: Values, value: object) -> str:
    """Return why a column must not have a value by its list or format; empty: it is allowed."""
    if section.format and value != "":
        return rule_problem(str(value), Rule(format=section.format))
    return value_problem(value, section.allowed)


def is_equal_stored(stored: object, value: object) -> bool:
    """Whether two stored values are equal, independent of the types of drivers and files."""
    if stored is None or value is None:
        return stored is value
    if stored == value or str(stored) == str(value):
        return True
    are_times = isinstance(stored, date) and isinstance(value, date)  # also with a time of day
    return are_times and read_time(stored) == read_time(value)


# Rules of a table -------------------------------------------------------------------------------------------


def find_rules(app: App, database: str, live: LiveTable) -> Iterator[RowRule]:
    """Yield the rules for the rows of a table; missing columns have none."""
    profile, main = app.profile, app.main_database
    users = profile.users
    for state in profile.states:
        column = find_column(live.table, state.column)
        if column and ((state.database or main), state.table) == (database, live.name):
            yield StateTransition(live, column, state)
    for listed in profile.values:
        column = find_column(live.table, listed.column)
        if column and ((listed.database or main), listed.table.removesuffix("?")) == (database, live.name):
            yield ColumnRule(live, column, partial(find_unlisted, listed))
    for settings in profile.settings:
        if ((settings.database or main), settings.table) == (database, live.name):
            yield from _find_setting_rules(app, live, settings)
    if database == ((users.database if users else "") or main):
        yield from _find_user_rules(app, live, users) if users else ()
        yield from _find_role_rules(app, live)


def _find_setting_rules(app: App, live: LiveTable, settings: Settings) -> Iterator[RowRule]:
    if settings.object:
        if column := find_column(live.table, settings.fields["value"]):
            yield ColumnRule(live, column, find_object_violation)
    elif settings.row:
        yield SettingColumns(live, settings)
    elif settings.scope != "system":
        yield UserSetting(live, settings)
    else:
        with suppress(SchemaMismatchError):  # an unknown variant of the table has no rules
            yield SystemSetting(SettingRows(app, live.db, settings))


def _find_user_rules(app: App, live: LiveTable, users: Users) -> Iterator[RowRule]:
    for sign_in_table in users.signed_in:
        if sign_in_table.table.removesuffix("?") == live.name:
            yield OpenSession(live, sign_in_table)
    if users.table != live.name:
        return
    if users.password and all(find_column(live.table, name) for name in users.password.columns):
        yield PasswordHash(Passwords(app, live), live)
    if users.role and not users.role.table and (column := find_column(live.table, users.role.column or None)):
        yield UserRole(app, live, column)
    for field, name in users.fields.items():
        column = find_column(live.table, name)
        if column and field not in ("active", *TIMES) and field not in users.lookup:
            yield UserText(live, column, field, users.rules.get(field))


def _find_role_rules(app: App, live: LiveTable) -> Iterator[RowRule]:
    section = app.profile.roles
    if section is None:
        return
    if live.name == section.table:
        yield BuiltInRole(app, live)
    if section.permissions and live.name == section.permissions.table:
        yield Permission(app, live)
    if section.permissions and live.name == section.permissions.link.table:
        yield PermissionOfRole(app, live)
