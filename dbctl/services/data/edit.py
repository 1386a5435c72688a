"""Change columns of one row, or of the rows that match a filter, in any table, within the rules of the app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import structs

from dbctl.engines.contract.checks import PlannedRows
from dbctl.engines.contract.database import AnyOf, Condition, Not, Readable, Where, Writable
from dbctl.errors.base import Remedy
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import UsageError, UseDedicatedCommandError, ValueInvalidError
from dbctl.model import ChangeResult, Effect, Plan, Row, Secret, format_count, now
from dbctl.profiles.codecs import find_time_form
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change
from dbctl.services.app.row_writes import update_exactly
from dbctl.services.app.user_roles.form import is_boolean
from dbctl.services.app.user_table import UserSelector, UserTable
from dbctl.services.app.validation import truncate
from dbctl.services.data.add import (
    is_users_table,
    quote_value,
    read_changes,
    refuse_dedicated_tables,
    user_fields,
)
from dbctl.services.data.key_checks import check_references, check_unique, check_unique_rows
from dbctl.services.data.table import CONFLICT_HINT, DataTable, Filters, row_key, selected_database
from dbctl.services.deletion.cascade import add_changed_rows, count_affected_rows, find_changed_rows
from dbctl.services.rules.rows import RowRules, SingleTrueUpdate, guard_constraints
from dbctl.services.search.fulltext import add_repair_hint
from dbctl.services.users.last_admin import refuse_planned
from dbctl.services.users.update import UpdateUsers, UserUpdate

#: The rows that foreign keys changed, in the closing line.
_FOLLOWED = "rows changed by foreign keys"
_USERS = Remedy(
    "Use: `users update LOGIN`; or: `users set-role LOGIN ROLE`; or: `users activate LOGIN`; or: `users deactivate LOGIN`"
)


class RowChangeResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data set``."""

    table: str
    key: Row
    before: Row  #: of the changed columns
    after: Row
    changed: bool
    followed: Mapping[str, int] = {}  #: rows that foreign keys changed with it, by table
    ended_sessions: int = 0

    @property
    def effect(self) -> Effect | None:
        if not self.changed:
            return None
        return Effect(
            "changed",
            "row",
            count=1,
            place=f"of {self.table}",
            details=[*self.after],
            counts={_FOLLOWED: sum(self.followed.values()), "sessions ended": self.ended_sessions},
        )

    listed = ("key", "before", "after", "ended_sessions")


class RowsChangeResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data set`` with a filter."""

    table: str
    matched: int
    changed: int  #: matched rows with other values
    values: Row
    followed: Mapping[str, int] = {}  #: rows that foreign keys changed with them, by table

    @property
    def effect(self) -> Effect | None:
        if not self.changed:
            return None
        counts = {"matched": self.matched, _FOLLOWED: sum(self.followed.values())}
        return Effect("changed", "row", count=self.changed, place=f"of {self.table}", counts=counts)


def set_row(
    app: App,
    name: str,
    key: Sequence[str],
    new_values: Mapping[str, str],
    nulls: Sequence[str],
    *,
    secrets: Mapping[str, Secret],
    any_state: bool = False,
) -> Change[RowChangeResult]:
    """Change columns of one row; ``nulls`` become NULL, ``secrets`` are values of secret columns.

    With ``any_state``, a state may follow any other one.

    Raises (when planned and when applied):
        RowNotFoundError: the row does not exist.
        ValueInvalidError: a value is invalid for its column.
        TransitionRefusedError: the profile does not allow this transition.
        BuiltInRoleError: a built-in role would get or lose a permission.
        LastAdminError: no active admin would remain.
        UseDedicatedCommandError: the table has a dedicated command.
    """

    def draft(db: Readable) -> UpdateRow:
        table = _open_table(app, db, name, {*new_values, *nulls, *secrets})
        return UpdateRow(table, key, new_values, nulls, secrets, any_state=any_state)

    return Change(app, selected_database(app), draft)


def set_rows(
    app: App, name: str, filters: Filters, new_values: Mapping[str, str], nulls: Sequence[str], *, limit: int
) -> Change[RowsChangeResult]:
    """Change columns of all rows that match the filters, at most ``limit``; ``nulls`` become NULL.

    Raises (when planned and when applied):
        LimitExceededError: more rows match.
        TransitionRefusedError, ValueInvalidError, LastAdminError, UseDedicatedCommandError: see ``set_row``.
    """

    def draft(db: Readable) -> UpdateRows:
        table = _open_table(app, db, name, {*new_values, *nulls})
        user_columns = [column for column in user_fields(table) if column in new_values]
        if user_columns:
            operation = f"setting {name}.{user_columns[0]} of several rows"
            raise UseDedicatedCommandError(operation=operation, hint=_USERS)
        _, values = read_changes(table, new_values, nulls)
        where = table.conditions(filters)
        return UpdateRows(table, where, values, table.count_matches(where, limit))

    return Change(app, selected_database(app), draft, conflict_hint=CONFLICT_HINT)


def _open_table(app: App, db: Readable, name: str, columns: set[str]) -> DataTable:
    table = DataTable(app, db, name)
    table.refuse_reserved()
    if table.live.table.is_view:
        raise UsageError(detail=f"{name} is a view; its rows cannot be changed")
    refuse_dedicated_tables(table, columns)
    return table


def _refuse_planned(table: DataTable, where: Sequence[Where], values: Mapping[str, object]) -> None:
    changes = [PlannedRows(table=table.name, where=where, values=values)] if values else []
    refuse_planned(table.app, table.database, table.db, changes)


class UpdateRow:
    """Change columns of one row, in three parts: fields of a user, other rows of a single true column, the other columns."""

    def __init__(
        self,
        table: DataTable,
        key: Sequence[str],
        new_values: Mapping[str, str],
        nulls: Sequence[str],
        secrets: Mapping[str, Secret],
        *,
        any_state: bool,
    ) -> None:
        """Read the row and check the rules of the app; the errors are those of ``set_row``."""
        key = table.complete_key(key)
        self._table, self._key, self._before = table, key, table.find(key)
        fields, values = read_changes(table, new_values, nulls, secrets)
        self._user_update = _prepare_user_update(table, self._before, fields) if fields else None
        rules = RowRules(table.app, table.database, table.live)
        rules.check_changed(self._before, values | _parse_role_key(table, new_values), any_state=any_state)
        where = table.key_conditions(key)
        self._single_true = SingleTrueUpdate(
            table.app, table.database, table.live, where, self._before, values
        )
        self._values = {
            name: value
            for name, value in values.items()
            if not (name in new_values and self._is_stored(name, new_values[name], value))
            and _count_different(table, where, {name: value})
        }
        self._changed_columns = [*self._values, *fields]
        # A single true column is a state of several rows, and no change of this one.
        needs_stamp = not set(self._values) <= self._single_true.columns
        self._stamp = table.find_stamp(self._values) if needs_stamp else None
        affected = find_changed_rows(table.db, table.name, self._values, where)
        self._followed = count_affected_rows(table.db, affected)
        self.plan = add_changed_rows(self._create_plan(), table.db, affected)

    def _is_stored(self, name: str, typed: str, value: object) -> bool:
        """Whether a typed text is the stored one, although its value would be written in another way.

        A boolean, and a time in another form than that of its column, is written in the form of the app: this corrects such columns.
        """
        before = self._before[name]
        if before != typed or is_boolean(self._table.column(name)):
            return False
        return find_time_form(before) in (None, find_time_form(value))

    def _create_plan(self) -> Plan:
        table = self._table
        steps = [
            f"change {name} from {quote_value(table, name, self._before[name])} to {quote_value(table, name, value)}"
            for name, value in self._values.items()
        ]
        row_count = bool(steps) + self._single_true.row_count
        steps += self._single_true.plan_steps()
        rows = {table.name: row_count} if steps else {}
        names = ", ".join(self._changed_columns or self._single_true.changed_columns) or "nothing"
        title = f"Set {names} of {table.name} {' '.join(truncate(part) for part in self._key)}"
        if self._user_update is None:
            return Plan(title=title, target=table.db.target, steps=steps, rows=rows)
        plan = self._user_update.plan
        return structs.replace(plan, title=title, steps=[*plan.steps, *steps], rows={**plan.rows, **rows})

    def check_plan(self) -> None:
        """Compare the keys of the changed columns with the stored ones, and apply the guards."""
        where = self._table.key_conditions(self._key)
        _refuse_planned(self._table, where, self._values)
        check_unique(self._table, self._before, self._values, where)
        check_references(self._table, self._before, self._values)

    def apply(self, db: Writable) -> RowChangeResult:
        table = self._table
        users_changed = self._user_update.apply(db) if self._user_update else None
        self._single_true.apply(db)
        if self._values:
            self._update_columns(db)
        after = table.find(self._key)
        # of several fields of a user, some may have had the value
        changed = [name for name in self._changed_columns if after[name] != self._before[name]]
        columns = [*changed, *([self._stamp] if self._stamp else [])]
        return RowChangeResult(
            table=table.name,
            key=row_key(table, self._before),
            before={name: table.mask_value(name, self._before[name]) for name in columns},
            after={name: table.mask_value(name, after[name]) for name in columns},
            changed=not self.plan.is_empty,
            followed=self._followed,
            ended_sessions=users_changed.ended_sessions if users_changed else 0,
        )

    def _update_columns(self, db: Writable) -> None:
        table, app = self._table, self._table.app
        where = table.key_conditions(self._key)
        guard = guard_constraints(app, table.database, db, {table.name: ()})
        with guard, add_repair_hint(app.profile.search, table.name, db):
            update_exactly(db, table.name, self._values, where, 1, stamps=_create_stamp(table, self._stamp))
        changes = {
            name: [table.mask_value(name, self._before[name]), table.mask_value(name, value)]
            for name, value in self._values.items()
        }
        audit.record(app, db, "data.set", table.name, " ".join(self._key), {"changed": changes})


class UpdateRows:
    """Change columns of the rows that match conditions and have other values."""

    def __init__(
        self, table: DataTable, where: Sequence[Where], values: dict[str, object], matched: int
    ) -> None:
        """Check the rules of the app for each row; the errors are those of ``set_rows``."""
        self._table, self._values, self._matched = table, values, matched
        _check_changes(table, where, values)
        self._where = [*where, _differs(values)]
        self._changed = changed = _count_different(table, where, values)
        counts = {name: _count_different(table, where, {name: value}) for name, value in values.items()}
        differing = [name for name, count in counts.items() if count]
        affected = find_changed_rows(table.db, table.name, differing, self._where)
        self._followed = count_affected_rows(table.db, affected)
        plan = Plan(
            title=f"Set {', '.join(values)} of {format_count(matched, 'row')} of {table.name}",
            target=table.db.target,
            steps=[
                f"change {name} of {format_count(counts[name], 'row')} to {quote_value(table, name, values[name])}"
                for name in differing
            ],
            rows={table.name: changed} if changed else {},
            destructive=bool(changed),
        )
        self.plan = add_changed_rows(plan, table.db, affected)

    def check_plan(self) -> None:
        """Compare the keys and references of the rows with the stored rows, and apply the guards."""
        if self._changed:
            _refuse_planned(self._table, self._where, self._values)
            check_unique_rows(self._table, self._where, self._values)
            check_references(self._table, {}, self._values)

    def apply(self, db: Writable) -> RowsChangeResult:
        table, values, changed = self._table, self._values, self._changed
        masked_values = {column: table.mask_value(column, value) for column, value in values.items()}
        if changed:
            stamps = _create_stamp(table, table.find_stamp(values))
            with guard_constraints(table.app, table.database, db, {table.name: values}):
                update_exactly(db, table.name, values, self._where, changed, stamps=stamps)
            details = {"rows": changed, "values": masked_values}
            audit.record(table.app, db, "data.set", table.name, "", details)
        return RowsChangeResult(
            table=table.name,
            matched=self._matched,
            changed=changed,
            values=masked_values,
            followed=self._followed,
        )


def _differs(values: Mapping[str, object]) -> Where:
    """Return the condition for rows that have another value than a new one."""
    return AnyOf([Not(Condition(column, "identical", value)) for column, value in values.items()])


def _count_different(table: DataTable, where: Sequence[Where], values: Mapping[str, object]) -> int:
    """Return the number of the matching rows that the new values change.

    Raises:
        ValueInvalidError: a type whose text only the server parses, such as a range, does not have a value.
    """
    try:
        return table.db.count(table.name, [*where, _differs(values)])
    except QueryFailedError as error:
        reason = str(error.context["reason"])
        raise ValueInvalidError(name=", ".join(values), value="given", reason=reason) from error


def _create_stamp(table: DataTable, stamp: str | None) -> dict[str, object]:
    return {stamp: table.live.encode(stamp, now())} if stamp else {}


def _check_changes(table: DataTable, where: Sequence[Where], values: Mapping[str, object]) -> None:
    """Refuse a change that violates a rule in any of the rows."""
    rules = RowRules(table.app, table.database, table.live)
    columns = [column for column in table.columns if column in rules.columns]
    rows: Sequence[tuple[object, ...]] = []
    if len(columns) == 1:  # the column has few distinct values
        rows = [(value,) for value in table.db.count_by(table.name, columns[0], where)]
    elif columns:
        rows = table.db.select(table.name, columns, where)
    for row in rows:
        rules.check_changed(dict(zip(columns, row, strict=True)), values)


def _parse_role_key(table: DataTable, new_values: Mapping[str, str]) -> dict[str, object]:
    """Return the stored value of a new role, which may be a state with transitions."""
    roles = UserTable(table.app, table.db).roles if is_users_table(table) else None
    if roles is None or roles.column not in new_values:
        return {}
    return roles.encode([roles.resolve(roles.parse_name(new_values[roles.column]))])


def _prepare_user_update(table: DataTable, row: Row, new_values: Mapping[str, str]) -> UpdateUsers:
    """Return the change of ``users update`` for columns of a user."""
    users, field_names = UserTable(table.app, table.db), user_fields(table)
    fields = {field_names[name]: text for name, text in new_values.items()}
    if "role" in fields:
        fields["role"] = users.require_roles().parse_name(fields["role"])
    selected = users.find_users(UserSelector(ids=[str(row[users.id])]))
    return UpdateUsers(users, selected, UserUpdate(fields=fields), "", "users.update")
