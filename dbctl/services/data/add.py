"""Add one row to any table, within the rules of the app; new values are parsed from arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from dbctl.config.secrets import MASK
from dbctl.engines.contract.database import Condition, Writable
from dbctl.errors.base import Remedy
from dbctl.errors.usage import UsageError, UseDedicatedCommandError, ValueInvalidError
from dbctl.model import ChangeResult, Effect, Plan, Row, Secret, now
from dbctl.profiles.codecs import KEYS
from dbctl.services.app import audit
from dbctl.services.app.app import App
from dbctl.services.app.change import Change
from dbctl.services.app.live_table import find_column, list_uncovered
from dbctl.services.app.results import decode_shown
from dbctl.services.app.row_writes import require_added
from dbctl.services.app.user_table import TIMES, UserTable
from dbctl.services.app.validation import truncate
from dbctl.services.data.key_checks import check_references, check_unique
from dbctl.services.data.table import DataTable, selected_database
from dbctl.services.rules.rows import RowRules, guard_constraints

#: By the scope of the settings of the profile.
_SET = {
    "system": Remedy("Use: `settings set KEY VALUE`"),
    "user": Remedy("Use: `settings set KEY VALUE --user LOGIN`"),
    "object": Remedy("Use: `settings set KEY VALUE --of NAME`"),
}


def read_changes(
    table: DataTable,
    new_values: Mapping[str, str],
    nulls: Sequence[str],
    secrets: Mapping[str, Secret] = MappingProxyType({}),
) -> tuple[dict[str, str], dict[str, object]]:
    """Return the changes: fields of users as text, and other columns with their stored values."""
    duplicates = [name for name in nulls if name in new_values or name in secrets]
    if duplicates:
        raise UsageError(detail=f"{duplicates[0]} has a value and --null")
    if not (new_values or nulls or secrets):
        raise UsageError(detail="nothing to set: add COLUMN=VALUE")
    fields = {}
    values: dict[str, object] = {}
    user_columns = user_fields(table)
    for name in [*new_values, *nulls]:
        _refuse_unsupported_column(table, name, null=name in nulls)
        if name in user_columns and name in new_values:
            fields[name] = decode_shown(table.columns[name], new_values[name])
        elif name in new_values:
            values[name] = table.parse_value(name, new_values[name])
        elif not table.column(name).nullable:
            raise ValueInvalidError(name=name, value="NULL", reason="the column is NOT NULL")
        else:
            values[name] = None
    for name, secret in secrets.items():
        _refuse_unsupported_column(table, name, secret=True)
        if name not in table.hidden:
            raise UsageError(detail=f"{table.name}.{name} is not secret: use {name}=VALUE")
        values[name] = table.parse_value(name, secret.reveal())
    return fields, values


def _refuse_unsupported_column(
    table: DataTable, name: str, *, null: bool = False, secret: bool = False
) -> None:
    definition, users = table.column(name), table.app.profile.users
    if definition.is_generated:
        raise UsageError(detail=f"{table.name}.{name} is a generated column and cannot be set")
    if name in table.key:
        raise UsageError(detail=f"{table.name}.{name} is part of the primary key and cannot be changed")
    if users and is_users_table(table):
        if users.password and name in users.password.columns:
            raise UseDedicatedCommandError(
                operation=f"{table.name}.{name}", hint=Remedy("Use: `users set-password LOGIN`")
            )
        roles = UserTable(table.app, table.db).roles
        if null and name in {
            roles and roles.column,
            find_column(table.live.table, users.fields.get("active")),
        }:
            raise UseDedicatedCommandError(
                operation=f"{table.name}.{name}",
                hint=Remedy("Use: `users set-role LOGIN ROLE`; or: `users deactivate LOGIN`"),
            )
    if name in table.hidden and not (null or secret):
        reason = f"secrets are not accepted as arguments; use --secret {name} or --null {name}"
        raise ValueInvalidError(name=f"{table.name}.{name}", value=MASK, reason=reason)


def refuse_dedicated_tables(table: DataTable, columns: Collection[str]) -> None:
    for section in table.app.profile.settings:
        is_settings_table = (
            section.table == table.name and table.app.resolve_database(section) == table.database
        )
        if is_settings_table and (
            not section.object or find_column(table.live.table, section.fields["value"]) in columns
        ):
            raise UseDedicatedCommandError(
                operation=f"setting a row of {table.name}", hint=_SET[section.scope]
            )
    roles = table.app.profile.roles
    if roles and _is_users_database(table) and roles.table == table.name:
        raise UseDedicatedCommandError(
            operation=f"setting a row of {table.name}", hint=Remedy("Use: `roles update NAME`")
        )


def refuse_role_table(table: DataTable) -> None:
    """Refuse to delete rows of the table of roles.

    Raises:
        UseDedicatedCommandError: the table is that of roles.
    """
    roles = table.app.profile.roles
    if roles and _is_users_database(table) and table.name == roles.table:
        raise UseDedicatedCommandError(
            operation=f"deleting a row of {table.name}", hint=Remedy("Use: `roles delete NAME`")
        )


def _is_users_database(table: DataTable) -> bool:
    return table.app.resolve_database(table.app.profile.users) == table.database


def is_users_table(table: DataTable) -> bool:
    users = table.app.profile.users
    return users is not None and users.table == table.name and _is_users_database(table)


def user_fields(table: DataTable) -> dict[str, str]:
    """Return the columns of users that have rules, with the names of their fields."""
    if not is_users_table(table):
        return {}
    users = UserTable(table.app, table.db)
    fields_by_column = {column: field for field, column in users.fields.items() if field not in TIMES}
    return fields_by_column | ({users.roles.column: "role"} if users.roles and users.roles.column else {})


def quote_value(table: DataTable, name: str, value: object) -> str:
    return "NULL" if value is None else repr(truncate(str(table.mask_value(name, value))))


class RowAddResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data add``."""

    table: str
    key: Row  #: empty without a primary key
    row: Row  #: the stored row, with generated values

    @property
    def effect(self) -> Effect | None:
        details = [f"{name} {truncate(str(value))}" for name, value in self.key.items()]
        return Effect("added", "row", count=1, place=f"to {self.table}", details=details)


def add_row(app: App, name: str, new_values: Mapping[str, str], nulls: Sequence[str]) -> Change[RowAddResult]:
    """Add one row; omitted columns get the defaults of the database.

    Raises (when planned and when applied):
        ValueInvalidError: a value is invalid for its column.
        UsageError: a required column is missing, or a column is generated.
        ConstraintError: the database refuses the row.
        UseDedicatedCommandError: the table has a dedicated command.
        BuiltInRoleError: a built-in role would get a permission.
    """
    return Change(app, selected_database(app), lambda db: AddRow(DataTable(app, db, name), new_values, nulls))


class AddRow:
    def __init__(self, table: DataTable, new_values: Mapping[str, str], nulls: Sequence[str]) -> None:
        """Check the rules of the app; the errors are those of ``add_row``."""
        name = table.name
        table.refuse_reserved()
        if table.live.table.is_view:
            raise UsageError(detail=f"{name} is a view; rows cannot be added")
        if is_users_table(table):
            raise UseDedicatedCommandError(
                operation=f"adding a row to {name}", hint=Remedy("Use: `users create LOGIN`")
            )
        refuse_dedicated_tables(table, {*new_values, *nulls})
        self._table, self._values = table, _parse_new_values(table, new_values, nulls)
        self._generated = self._find_generator()
        if missing := list_uncovered(table.live.table, {*self._values, *self._generated}):
            raise UsageError(detail=f"a row of {name} requires {', '.join(missing)}: add {missing[0]}=VALUE")
        RowRules(table.app, table.database, table.live).check_added(self._values)
        values = (f"{column} {quote_value(table, column, value)}" for column, value in self._values.items())
        value_list = ", ".join([*values, *(f"{column} (new)" for column in self._generated)])
        self.plan = Plan(
            title=f"Add a row to {name}",
            target=table.db.target,
            steps=[f"add a row to {name}" + (f": {value_list}" if value_list else "")],
            rows={name: 1},
        )

    def check_plan(self) -> None:
        """Compare the keys of the row with the stored ones."""
        check_unique(self._table, {}, self._values)
        check_references(self._table, {}, self._values)

    def apply(self, db: Writable) -> RowAddResult:
        """Insert the row and record it."""
        app, name = self._table.app, self._table.name
        values = self._values | {column: create() for column, create in self._generated.items()}
        with guard_constraints(app, self._table.database, db, {name: values}):
            key = self._insert(db, values)
            require_added(db, name, key)
        audit.record(app, db, "data.add", name, " ".join(map(str, key.values())), {"columns": [*values]})
        where = [Condition(column, "=", value) for column, value in key.items()]
        rows = DataTable(app, db, name).read_stored(where) if key else [values]
        row = {column: self._table.mask_value(column, value) for column, value in (rows or [key])[0].items()}
        return RowAddResult(table=name, key={column: row[column] for column in key}, row=row)

    def _find_generator(self) -> dict[str, Callable[[], str]]:
        """Return the function that creates the primary key, by column; empty if it is given, or if the database creates it."""
        table = self._table
        codec = table.app.database(table.database).new_keys.get(table.name)
        generator = KEYS[codec] if codec else None
        column = table.key[0] if len(table.key) == 1 else ""
        is_omitted = column and column not in self._values
        return {column: generator} if generator and is_omitted else {}

    def _insert(self, db: Writable, values: Mapping[str, object]) -> dict[str, object]:
        """Insert the row and return its primary key, with generated values.

        Raises:
            ValueInvalidError: a column of the key would be NULL, which SQLite allows; no selector could find the row.
        """
        name = self._table.name
        generated = next((column for column in self._table.key if values.get(column) is None), None)
        returned = db.insert(name, values, returning=generated)
        db.advance_sequences(name)
        key = {column: returned if column == generated else values.get(column) for column in self._table.key}
        for column, value in key.items():
            if value is None:
                reason = "a column of the primary key must not be NULL"
                raise ValueInvalidError(name=column, value="NULL", reason=reason)
        return key


def _parse_new_values(
    table: DataTable, new_values: Mapping[str, str], nulls: Sequence[str]
) -> dict[str, object]:
    """Return the stored values of a new row, without omitted columns."""
    values: dict[str, object] = {}
    for column in [*new_values, *nulls]:
        live_column = table.column(column)
        if column in new_values and column in nulls:
            raise UsageError(detail=f"{column} has a value and --null")
        if live_column.is_generated:
            raise UsageError(detail=f"{table.name}.{column} is a generated column and cannot be set")
        if column in new_values and column in table.hidden:
            reason = "secrets are not accepted as arguments; import them from a file"
            raise ValueInvalidError(name=f"{table.name}.{column}", value=MASK, reason=reason)
        if column in nulls and (live_column.is_primary_key or not live_column.nullable):
            raise ValueInvalidError(name=column, value="NULL", reason="the column is NOT NULL")
        values[column] = table.parse_value(column, new_values[column]) if column in new_values else None
    if stamp := table.find_stamp(values):
        values[stamp] = table.live.encode(stamp, now())
    return values
