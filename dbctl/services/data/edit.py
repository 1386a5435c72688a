"""Change or delete one row of any table, within the rules of the app."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from dbctl.engines.contract import Readable, Where, Writable
from dbctl.errors import UsageError, UseDedicatedCommandError, ValueInvalidError
from dbctl.model import ChangeResult, Plan, Row, Secret, Struct, now
from dbctl.services.app import (
    MASK,
    TIMES,
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
from dbctl.services.data.table import DataTable, row_key, selected_database
from dbctl.services.deletion import (
    CrossDatabaseDeletion,
    deletion_conditions,
    find_affected_rows,
    find_cascading_tables,
    find_written_databases,
    list_unchanged_databases,
)
from dbctl.services.rules import RowRules, SingleTrueUpdate, guard_constraints, is_equal_stored
from dbctl.services.search import add_repair_hint
from dbctl.services.users import UsersChanged, UserUpdate, delete_users, prepare_update

R = TypeVar("R")


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


class RowDeleteResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data delete``."""

    table: str
    key: Row
    rows: Mapping[str, int]  #: deleted rows, and rows whose reference became NULL, by table
    remaining: Sequence[str] = ()  #: warnings about remaining rows

    @property
    def remarks(self) -> Sequence[str]:
        return self.remaining


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
        before = table.find(key)
        fields, values = read_changes(table, new_values, nulls, secrets)
        user_change = _prepare_user_change(table, before, fields) if fields else None
        RowRules(app, table.database, table.live).check_changed(
            before, values | _parse_role_key(table, new_values)
        )
        single_true = SingleTrueUpdate(
            app, table.database, table.live, table.key_conditions(key), before, values
        )
        return _plan_update(table, key, before, values, user_change, single_true)

    return Change(app, selected_database(app), "data set", draft)


def delete_row(app: App, name: str, key: Sequence[str]) -> Change[RowDeleteResult]:
    """Delete one row, with the rows that foreign keys delete.

    Raises (when planned and when applied):
        RowNotFoundError: the row does not exist.
        ConstraintError: rows without ON DELETE action reference it.
        BuiltInRoleError: a built-in role would lose a permission.
        LastAdminError: no active admin would remain.
        UseDedicatedCommandError: the table has a dedicated command.
    """

    def draft(db: Readable) -> PreparedChange[RowDeleteResult]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        refuse_role_table(table)
        row = table.find(key)
        key_text = " ".join(truncate(part) for part in key)
        title = f"Delete {name} {key_text}"
        if is_users_table(table):
            return _plan_user_deletion(table, row, title)
        RowRules(app, table.database, table.live).check_removed(row)
        stored = row_key(table, row)

        def create_result(rows: Mapping[str, int], remaining: Sequence[str]) -> RowDeleteResult:
            return RowDeleteResult(table=name, key=stored, rows=rows, remaining=remaining)

        deletion = RowDeletion(
            where=table.key_conditions(key),
            row_count=1,
            title=title,
            step=f"delete {name} {key_text}",
            audit_key=" ".join(key),
        )
        return draft_deletion(table, deletion, create_result)

    return Change(
        app,
        selected_database(app),
        "data delete",
        draft,
        cascade_databases=lambda: find_cascade_databases(app, name),
    )


class RowDeletion(Struct, frozen=True, kw_only=True):
    """Rows of one table to delete."""

    where: Sequence[Where]
    row_count: int
    title: str  #: of the plan
    step: str  #: the step of the plan
    audit_key: str  #: the key for the audit log of the app


def draft_deletion(
    table: DataTable, deletion: RowDeletion, create_result: Callable[[Mapping[str, int], Sequence[str]], R]
) -> PreparedChange[R]:
    """Prepare a deletion, with the rows that foreign keys and links of the profile delete.

    Args:
        table: the table of the rows.
        deletion: the rows.
        create_result: creates the result from the numbers of rows by table and the warnings.

    Raises:
        ConstraintError: rows without ON DELETE action reference the rows.
    """
    app, db, name = table.app, table.db, table.name
    rows, steps = {name: deletion.row_count}, [deletion.step]
    related = CrossDatabaseDeletion(app, table.database, db, deletion_conditions(db, name, deletion.where))
    for touched in [*find_affected_rows(db, name, deletion.where), *related.plan_steps()]:
        rows[touched.table] = rows.get(touched.table, 0) + touched.rows
        steps.append(touched.step)

    def work(db: Writable) -> R:
        with guard_constraints(app, table.database, db), add_repair_hint(app.profile.search, name, db):
            require_row_count(db.delete(name, deletion.where), deletion.row_count, db)
        audit.record(app, db, "data.delete", name, deletion.audit_key, {"rows": rows})
        related.delete()
        remaining = (
            list_unchanged_databases(app, table.database)
            if find_cascade_databases(app, name) or app.only
            else []
        )
        return create_result(rows, remaining)

    plan = Plan(title=deletion.title, target=db.target, steps=steps, rows=rows, destructive=True)
    return PreparedChange(plan, work)


def find_cascade_databases(app: App, name: str) -> Sequence[str]:
    """Return the other databases that a deletion in this table writes."""
    db = app.reader(selected_database(app))
    return (
        find_written_databases(app, selected_database(app), find_cascading_tables(db, name))
        if name in db.tables()
        else []
    )


def refuse_role_table(table: DataTable) -> None:
    """Refuse to delete rows of the table of roles.

    Raises:
        UseDedicatedCommandError: the table is that of roles.
    """
    roles = table.app.profile.roles
    if roles and _is_users_database(table.app, table) and table.name == roles.table:
        raise UseDedicatedCommandError(operation=f"deleting a row of {table.name}", command="roles delete")


# Plans --------------------------------------------------------------------------------------------------------


def _plan_update(
    table: DataTable,
    key: Sequence[str],
    before: Row,
    values: dict[str, object],
    user_change: _UserChange | None,
    single_true: SingleTrueUpdate,
) -> PreparedChange[RowChangeResult]:
    values = {name: value for name, value in values.items() if not is_equal_stored(before[name], value)}
    changed_columns = [*values, *(user_change.columns if user_change else ())]
    steps = [
        f"change {name} from {quote_value(table, name, before[name])} to {quote_value(table, name, value)}"
        for name, value in values.items()
    ]
    changed_rows = (1 if steps else 0) + single_true.row_count
    steps += single_true.plan_steps()
    stamp = find_column(table.live.table, table.app.database(table.database).updated_at)
    if stamp and stamp not in values and not set(values) <= single_true.columns:
        values[stamp] = table.live.encode(stamp, now())

    def work(db: Writable) -> RowChangeResult:
        result = user_change.draft.work(db) if user_change else None
        single_true.apply(db)
        if values:
            with (
                guard_constraints(table.app, table.database, db),
                add_repair_hint(table.app.profile.search, table.name, db),
            ):
                require_row_count(db.update(table.name, values, table.key_conditions(key)), 1, db)
            changes = {
                name: [table.mask_value(name, before[name]), table.mask_value(name, values[name])]
                for name in values
                if name != stamp
            }
            audit.record(table.app, db, "data.set", table.name, " ".join(key), {"changed": changes})
        after = table.find(key)
        changed = [*changed_columns, *([stamp] if stamp and stamp in values else [])]
        return RowChangeResult(
            table=table.name,
            key=row_key(table, before),
            before={name: table.mask_value(name, before[name]) for name in changed},
            after={name: table.mask_value(name, after[name]) for name in changed},
            changed=bool(steps or (user_change and not user_change.draft.plan.is_empty)),
            ended_sessions=result.ended_sessions if result else 0,
        )

    rows = {table.name: changed_rows} if steps else {}
    if user_change:
        steps = [*user_change.draft.plan.steps, *steps]
        rows = {**user_change.draft.plan.rows, **rows}
    title = f"Set {', '.join(changed_columns or single_true.changed_columns) or 'nothing'} of {table.name} {' '.join(truncate(part) for part in key)}"
    return PreparedChange(Plan(title=title, target=table.db.target, steps=steps, rows=rows), work)


class _UserChange:
    """The columns of a change that ``users update`` would change, and its plan."""

    def __init__(self, columns: Sequence[str], draft: PreparedChange[UsersChanged]) -> None:
        self.columns, self.draft = columns, draft


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
        if users.password and name == users.password.column:
            raise UseDedicatedCommandError(operation=f"{table.name}.{name}", command="users set-password")
        role = UserTable(table.app, table.db).role
        if null and name in {role, find_column(table.live.table, users.fields.get("active"))}:
            raise UseDedicatedCommandError(
                operation=f"{table.name}.{name}", command="users set-role (or users deactivate)"
            )
    if name in table.hidden and not (null or secret):
        reason = f"secrets are not accepted as arguments; use --secret {name} or --null {name}"
        raise ValueInvalidError(name=f"{table.name}.{name}", value=MASK, reason=reason)


def refuse_dedicated_tables(table: DataTable, columns: Collection[str]) -> None:
    for section in table.app.profile.settings:
        is_settings_table = (
            section.table == table.name and (section.database or table.app.main()) == table.database
        )
        if is_settings_table and (
            not section.object or find_column(table.live.table, section.fields["value"]) in columns
        ):
            command = "settings set --user LOGIN" if section.scope == "user" else "settings set"
            raise UseDedicatedCommandError(operation=f"setting a row of {table.name}", command=command)
    roles = table.app.profile.roles
    if roles and _is_users_database(table.app, table) and roles.table == table.name:
        raise UseDedicatedCommandError(operation=f"setting a row of {table.name}", command="roles update")


def _is_users_database(app: App, table: DataTable) -> bool:
    """Whether the table is in the database of users and roles."""
    users = app.profile.users
    return ((users.database if users else "") or app.main()) == table.database


def is_users_table(table: DataTable) -> bool:
    users = table.app.profile.users
    return users is not None and users.table == table.name and _is_users_database(table.app, table)


def user_fields(table: DataTable) -> dict[str, str]:
    """Return the columns of users that have rules, with the names of their fields."""
    if not is_users_table(table):
        return {}
    users = UserTable(table.app, table.db)
    fields_by_column = {column: field for field, column in users.fields.items() if field not in TIMES}
    return fields_by_column | ({users.role: "role"} if users.role else {})


def _parse_role_key(table: DataTable, new_values: Mapping[str, str]) -> dict[str, object]:
    """Return the stored value of a new role, which may be a state with transitions."""
    users = UserTable(table.app, table.db) if is_users_table(table) else None
    if users is None or users.role is None or users.role not in new_values:
        return {}
    names = {str(key): name for key, name in users.roles().items()}
    return {users.role: users.role_key(names.get(new_values[users.role], new_values[users.role]))}


def _prepare_user_change(table: DataTable, row: Row, new_values: Mapping[str, str]) -> _UserChange:
    users = UserTable(table.app, table.db)
    matches = users.find_users(UserSelector(ids=[str(row[users.id])]))
    field_names = user_fields(table)
    fields = {field_names[name]: text for name, text in new_values.items()}
    if "role" in fields:  # the row contains the key of a role, users enter its name
        names = {str(key): name for key, name in users.roles().items()}
        fields["role"] = names.get(fields["role"], fields["role"])
    prepared = prepare_update(users, matches, UserUpdate(fields=fields), "", "users.update")
    return _UserChange(list(new_values), prepared)


def _plan_user_deletion(table: DataTable, row: Row, title: str) -> PreparedChange[RowDeleteResult]:
    users = UserTable(table.app, table.db)
    prepared = delete_users(table.app, UserSelector(ids=[str(row[users.id])])).draft(table.db)

    def work(db: Writable) -> RowDeleteResult:
        result = prepared.work(db)
        return RowDeleteResult(
            table=table.name, key=row_key(table, row), rows=result.rows, remaining=result.remaining
        )

    plan = prepared.plan
    return PreparedChange(
        Plan(title=title, target=plan.target, steps=plan.steps, rows=plan.rows, destructive=True), work
    )


def quote_value(table: DataTable, name: str, value: object) -> str:
    return "NULL" if value is None else repr(truncate(str(table.mask_value(name, value))))
