"""Change or delete rows by a filter, and add rows, within the rules of the app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import AnyOf, Condition, Not, Readable, Where, Writable
from dbctl.errors import LimitExceededError, UsageError, UseDedicatedCommandError, ValueInvalidError
from dbctl.model import ChangeResult, Plan, Row, format_count, now
from dbctl.services.app import MASK, App, Change, PreparedChange, audit, find_column, require_row_count
from dbctl.services.data.delete import DeleteRows, find_cascade_databases
from dbctl.services.data.new_values import (
    is_users_table,
    quote_value,
    read_changes,
    refuse_dedicated_tables,
    refuse_role_table,
    user_fields,
)
from dbctl.services.data.table import DataTable, Filters, selected_database
from dbctl.services.rules import RowRules, guard_constraints


class RowsChangeResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data set`` with a filter."""

    table: str
    matched: int
    changed: int  #: matched rows with other values
    values: Row


class RowsDeleteResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data delete`` with a filter."""

    table: str
    matched: int
    rows: Mapping[str, int]  #: deleted rows, and rows whose reference became NULL, by table
    remaining: Sequence[str] = ()  #: warnings about remaining rows

    @property
    def changed(self) -> bool:
        """Whether any row was deleted."""
        return bool(self.matched)

    @property
    def remarks(self) -> Sequence[str]:
        return self.remaining


class RowAddResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``data add``."""

    table: str
    key: Row  #: empty without a primary key
    row: Row  #: the stored row, with generated values


def set_rows(
    app: App, name: str, filters: Filters, new_values: Mapping[str, str], nulls: Sequence[str], *, limit: int
) -> Change[RowsChangeResult]:
    """Change columns of all rows that match the filters.

    Args:
        app: the app.
        name: the table.
        filters: conditions of the rows.
        new_values: new values as text, by column.
        nulls: columns to set to NULL.
        limit: the maximum number of matching rows.

    Raises (when planned and when applied):
        LimitExceededError: more rows match.
        TransitionRefusedError, ValueInvalidError, LastAdminError, UseDedicatedCommandError: see ``set_row``.
    """

    def draft(db: Readable) -> PreparedChange[RowsChangeResult]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        refuse_dedicated_tables(table, {*new_values, *nulls})
        user_columns = [column for column in user_fields(table) if column in new_values]
        if user_columns:
            operation = f"setting {name}.{user_columns[0]} of several rows"
            raise UseDedicatedCommandError(
                operation=operation, command="users update, set-role, activate or deactivate"
            )
        _, values = read_changes(table, new_values, nulls)
        where = table.conditions(filters)
        matched = _count_matches(table, where, limit)
        _check_changes(table, where, values)
        differing: list[Where] = [
            *where,
            AnyOf([_differs(column, value) for column, value in values.items()]),
        ]
        changed = db.count(name, differing)
        return _plan_update(table, differing, values, matched=matched, changed=changed)

    return Change(app, selected_database(app), "data set", draft)


def delete_rows(app: App, name: str, filters: Filters, *, limit: int) -> Change[RowsDeleteResult]:
    """Delete all rows that match the filters, with the rows that foreign keys delete.

    Args:
        app: the app.
        name: the table.
        filters: conditions of the rows.
        limit: the maximum number of matching rows.

    Raises (when planned and when applied):
        LimitExceededError: more rows match.
        ConstraintError, BuiltInRoleError, UseDedicatedCommandError: see ``delete_row``.
    """

    def draft(db: Readable) -> PreparedChange[RowsDeleteResult]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        if table.live.table.is_view:
            raise UsageError(detail=f"{name} is a view; its rows cannot be deleted")
        if is_users_table(table):
            raise UseDedicatedCommandError(
                operation=f"deleting rows of {name} by a filter", command="users delete"
            )
        refuse_role_table(table)
        where = table.conditions(filters)
        matched = _count_matches(table, where, limit)
        rules = RowRules(app, table.database, table.live)
        for row in table.read_stored(where) if rules.protects else ():
            rules.check_removed(row)
        step = f"delete {format_count(matched, 'row')} of {name}"
        if not matched:
            plan = Plan(title=f"Delete rows of {name}", target=db.target, steps=[], rows={})
            return PreparedChange(plan, lambda _: RowsDeleteResult(table=name, matched=0, rows={}))

        title = f"Delete {format_count(matched, 'row')} of {name}"
        deletion = DeleteRows(table, where, matched, title=title, step=step, audit_key="")

        def work(db: Writable) -> RowsDeleteResult:
            deleted = deletion.apply(db)
            return RowsDeleteResult(
                table=name, matched=matched, rows=deleted.rows, remaining=deleted.remaining
            )

        return PreparedChange(deletion.plan(), work)

    return Change(
        app,
        selected_database(app),
        "data delete",
        draft,
        cascade_databases=lambda: find_cascade_databases(app, name),
    )


def add_row(app: App, name: str, new_values: Mapping[str, str], nulls: Sequence[str]) -> Change[RowAddResult]:
    """Add one row; omitted columns get the defaults of the database.

    Raises (when planned and when applied):
        ValueInvalidError: a value is invalid for its column.
        UsageError: a required column is missing, or a column is generated.
        ConstraintError: the database refuses the row.
        UseDedicatedCommandError: the table has a dedicated command.
        BuiltInRoleError: a built-in role would get a permission.
    """

    def draft(db: Readable) -> PreparedChange[RowAddResult]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        _refuse_unsupported_tables(table, {*new_values, *nulls})
        values = _parse_new_values(table, new_values, nulls)
        missing = table.live.missing_required_columns(set(values))
        if missing:
            raise UsageError(detail=f"a row of {name} requires {', '.join(missing)}: add {missing[0]}=VALUE")
        RowRules(app, table.database, table.live).check_added(values)
        value_list = ", ".join(
            f"{column} {quote_value(table, column, value)}" for column, value in values.items()
        )

        def work(db: Writable) -> RowAddResult:
            writable_table = DataTable(app, db, name)
            with guard_constraints(app, table.database, db, {name: values}):
                key = _insert(writable_table, values)
            audit.record(app, db, "data.add", name, " ".join(map(str, key.values())), {"columns": [*values]})
            stored = _read_row(writable_table, key) if key else values
            row = {column: table.mask_value(column, value) for column, value in stored.items()}
            return RowAddResult(table=name, key={column: row[column] for column in key}, row=row)

        plan = Plan(
            title=f"Add a row to {name}",
            target=db.target,
            steps=[f"add a row to {name}" + (f": {value_list}" if value_list else "")],
            rows={name: 1},
        )
        return PreparedChange(plan, work)

    return Change(app, selected_database(app), "data add", draft)


# Plans --------------------------------------------------------------------------------------------------------


def _count_matches(table: DataTable, where: Sequence[Where], limit: int) -> int:
    matched = table.db.count(table.name, where)
    if matched > limit:
        raise LimitExceededError(target=table.db.target, table=table.name, rows=matched, limit=limit)
    return matched


def _plan_update(
    table: DataTable, where: Sequence[Where], values: dict[str, object], *, matched: int, changed: int
) -> PreparedChange[RowsChangeResult]:
    quoted = {column: quote_value(table, column, value) for column, value in values.items()}
    steps = [
        f"change {column} of {format_count(changed, 'row')} to {value}" for column, value in quoted.items()
    ]
    stamp = find_column(table.live.table, table.app.database(table.database).updated_at)
    stored = values | ({stamp: table.live.encode(stamp, now())} if stamp and stamp not in values else {})

    def work(db: Writable) -> RowsChangeResult:
        masked_values = {column: table.mask_value(column, value) for column, value in values.items()}
        if changed:
            with guard_constraints(table.app, table.database, db, {table.name: values}):
                require_row_count(db.update(table.name, stored, where), changed, db)
            audit.record(
                table.app, db, "data.set", table.name, "", {"rows": changed, "values": masked_values}
            )
        return RowsChangeResult(table=table.name, matched=matched, changed=changed, values=masked_values)

    plan = Plan(
        title=f"Set {', '.join(values)} of {format_count(matched, 'row')} of {table.name}",
        target=table.db.target,
        steps=steps if changed else [],
        rows={table.name: changed} if changed else {},
        destructive=bool(changed),
    )
    return PreparedChange(plan, work)


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


def _differs(column: str, value: object) -> Where:
    return Condition(column, "!=", None) if value is None else Not(Condition(column, "=", value))


def _refuse_unsupported_tables(table: DataTable, columns: set[str]) -> None:
    if table.live.table.is_view:
        raise UsageError(detail=f"{table.name} is a view; rows cannot be added")
    if is_users_table(table):
        raise UseDedicatedCommandError(operation=f"adding a row to {table.name}", command="users create")
    refuse_dedicated_tables(table, columns)


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
            reason = "secrets are not accepted as arguments; use dbctl data import"
            raise ValueInvalidError(name=f"{table.name}.{column}", value=MASK, reason=reason)
        if column in nulls and (live_column.is_primary_key or not live_column.nullable):
            raise ValueInvalidError(name=column, value="NULL", reason="the column is NOT NULL")
        values[column] = table.parse_value(column, new_values[column]) if column in new_values else None
    stamp = find_column(table.live.table, table.app.database(table.database).updated_at)
    if stamp and stamp not in values:
        values[stamp] = table.live.encode(stamp, now())
    return values


def _insert(table: DataTable, values: Mapping[str, object]) -> dict[str, object]:
    """Insert a row and return its primary key, with generated values.

    Raises:
        ValueInvalidError: a column of the key would be NULL, which SQLite allows; no selector could find the row.
    """
    generated = [column for column in table.key if values.get(column) is None]
    returned = table.db.insert(table.name, values, returning=generated[0] if generated else None)  # type: ignore[attr-defined]
    table.db.advance_sequences(table.name)  # type: ignore[attr-defined]
    key = {column: returned if column in generated[:1] else values.get(column) for column in table.key}
    for column, value in key.items():
        if value is None:
            raise ValueInvalidError(
                name=column, value="NULL", reason="a column of the primary key must not be NULL"
            )
    return key


def _read_row(table: DataTable, key: Mapping[str, object]) -> Row:
    """Return all columns of the row with a key."""
    where: list[Where] = [Condition(column, "=", value) for column, value in key.items()]
    rows = table.read_stored(where)
    return rows[0] if rows else key
