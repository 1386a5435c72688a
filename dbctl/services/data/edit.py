"""Change columns of one row of any table, within the rules of the app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import Readable, Writable
from dbctl.model import ChangeResult, Plan, Row, Secret, now
from dbctl.services.app import (
    App,
    Change,
    PreparedChange,
    UserSelector,
    UserTable,
    audit,
    find_column,
    require_row_count,
    truncate,
)
from dbctl.services.data.new_values import (
    is_users_table,
    quote_value,
    read_changes,
    refuse_dedicated_tables,
    user_fields,
)
from dbctl.services.data.table import DataTable, row_key, selected_database
from dbctl.services.rules import RowRules, SingleTrueUpdate, guard_constraints, is_equal_stored
from dbctl.services.search import add_repair_hint
from dbctl.services.users import UsersChanged, UserUpdate, prepare_update


class RowChangeResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data set``."""

    table: str
    key: Row
    before: Row  #: of the changed columns
    after: Row
    changed: bool
    ended_sessions: int = 0

    def summary(self) -> Row:
        return {
            "key": self.key,
            "before": self.before,
            "after": self.after,
            "ended_sessions": self.ended_sessions,
        }


def set_row(
    app: App,
    name: str,
    key: Sequence[str],
    new_values: Mapping[str, str],
    nulls: Sequence[str],
    *,
    secrets: Mapping[str, Secret],
) -> Change[RowChangeResult]:
    """Change columns of one row; ``nulls`` become NULL, ``secrets`` are values of secret columns.

    Raises (when planned and when applied):
        RowNotFoundError: the row does not exist.
        ValueInvalidError: a value is invalid for its column.
        TransitionRefusedError: the profile does not allow this transition.
        BuiltInRoleError: a built-in role would get or lose a permission.
        LastAdminError: no active admin would remain.
        UseDedicatedCommandError: the table has a dedicated command.
    """

    def draft(db: Readable) -> PreparedChange[RowChangeResult]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        refuse_dedicated_tables(table, {*new_values, *nulls, *secrets})
        update = UpdateRow(table, key, new_values, nulls, secrets)
        return PreparedChange(update.plan(), update.apply)

    return Change(app, selected_database(app), "data set", draft)


class UpdateRow:
    """Change columns of one row, in three parts: fields of a user, other rows of a single true column, the other columns."""

    def __init__(
        self,
        table: DataTable,
        key: Sequence[str],
        new_values: Mapping[str, str],
        nulls: Sequence[str],
        secrets: Mapping[str, Secret],
    ) -> None:
        """Read the row and check the rules of the app; the errors are those of ``set_row``."""
        self._table, self._key, self._before = table, key, table.find(key)
        fields, values = read_changes(table, new_values, nulls, secrets)
        self._user_columns = list(fields)
        self._user_update = _prepare_user_update(table, self._before, fields) if fields else None
        RowRules(table.app, table.database, table.live).check_changed(
            self._before, values | _parse_role_key(table, new_values)
        )
        self._single_true = SingleTrueUpdate(
            table.app, table.database, table.live, table.key_conditions(key), self._before, values
        )
        self._values = {
            name: value for name, value in values.items() if not is_equal_stored(self._before[name], value)
        }
        self._stamp = self._find_stamp()

    def _find_stamp(self) -> str | None:
        """Return the column that gets the current time; None if only a single true column changes."""
        table = self._table
        stamp = find_column(table.live.table, table.app.database(table.database).updated_at)
        needs_stamp = stamp not in self._values and not set(self._values) <= self._single_true.columns
        return stamp if needs_stamp else None

    @property
    def _changed_columns(self) -> list[str]:
        return [*self._values, *self._user_columns]

    def plan(self) -> Plan:
        table = self._table
        steps = [
            f"change {name} from {quote_value(table, name, self._before[name])} to {quote_value(table, name, value)}"
            for name, value in self._values.items()
        ]
        row_count = bool(steps) + self._single_true.row_count
        steps += self._single_true.plan_steps()
        rows = {table.name: row_count} if steps else {}
        if self._user_update:
            steps = [*self._user_update.plan.steps, *steps]
            rows = {**self._user_update.plan.rows, **rows}
        names = ", ".join(self._changed_columns or self._single_true.changed_columns) or "nothing"
        title = f"Set {names} of {table.name} {' '.join(truncate(part) for part in self._key)}"
        return Plan(title=title, target=table.db.target, steps=steps, rows=rows)

    def apply(self, db: Writable) -> RowChangeResult:
        table = self._table
        is_changed = not self.plan().is_empty
        users_changed = self._user_update.work(db) if self._user_update else None
        self._single_true.apply(db)
        if self._values:
            self._update_columns(db)
        after = table.find(self._key)
        columns = [*self._changed_columns, *([self._stamp] if self._stamp else [])]
        return RowChangeResult(
            table=table.name,
            key=row_key(table, self._before),
            before={name: table.mask_value(name, self._before[name]) for name in columns},
            after={name: table.mask_value(name, after[name]) for name in columns},
            changed=is_changed,
            ended_sessions=users_changed.ended_sessions if users_changed else 0,
        )

    def _update_columns(self, db: Writable) -> None:
        table, app = self._table, self._table.app
        stamps = {self._stamp: table.live.encode(self._stamp, now())} if self._stamp else {}
        with (
            guard_constraints(app, table.database, db),
            add_repair_hint(app.profile.search, table.name, db),
        ):
            where = table.key_conditions(self._key)
            require_row_count(db.update(table.name, self._values | stamps, where), 1, db)
        changes = {
            name: [table.mask_value(name, self._before[name]), table.mask_value(name, value)]
            for name, value in self._values.items()
        }
        audit.record(app, db, "data.set", table.name, " ".join(self._key), {"changed": changes})


def _parse_role_key(table: DataTable, new_values: Mapping[str, str]) -> dict[str, object]:
    """Return the stored value of a new role, which may be a state with transitions."""
    users = UserTable(table.app, table.db) if is_users_table(table) else None
    if users is None or users.role is None or users.role not in new_values:
        return {}
    names = {str(key): name for key, name in users.roles().items()}
    return {users.role: users.role_key(names.get(new_values[users.role], new_values[users.role]))}


def _prepare_user_update(
    table: DataTable, row: Row, new_values: Mapping[str, str]
) -> PreparedChange[UsersChanged]:
    """Return the change of ``users update`` for columns of a user."""
    users = UserTable(table.app, table.db)
    matches = users.find_users(UserSelector(ids=[str(row[users.id])]))
    field_names = user_fields(table)
    fields = {field_names[name]: text for name, text in new_values.items()}
    if "role" in fields:  # the row contains the key of a role, users enter its name
        names = {str(key): name for key, name in users.roles().items()}
        fields["role"] = names.get(fields["role"], fields["role"])
    return prepare_update(users, matches, UserUpdate(fields=fields), "", "users.update")
