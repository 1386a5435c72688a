"""New values of columns: parsed from arguments, and refused where the app has a dedicated command."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from dbctl.errors.base import Remedy
from dbctl.errors.usage import UsageError, UseDedicatedCommandError, ValueInvalidError
from dbctl.model import Secret
from dbctl.services.app.live_table import find_column
from dbctl.services.app.secrets import MASK
from dbctl.services.app.user_table import TIMES, UserTable
from dbctl.services.app.validation import truncate
from dbctl.services.data.table import DataTable

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
    if duplicates or not (new_values or nulls or secrets):
        raise UsageError(
            detail=f"{duplicates[0]} has a value and --null"
            if duplicates
            else "nothing to set: add COLUMN=VALUE"
        )
    fields = {}
    values: dict[str, object] = {}
    user_columns = user_fields(table)
    for name in [*new_values, *nulls]:
        _refuse_unsupported_column(table, name, null=name in nulls)
        if name in user_columns and name in new_values:
            fields[name] = new_values[name]
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
    """Whether the table is in the database of users and roles."""
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
