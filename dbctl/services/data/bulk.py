"""Rows of any table changed or deleted by a condition, or one row added, by the rules that the app has for its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract import AnyOf, Condition, Not, Readable, Where, Writable
from dbctl.errors import LimitExceededError, OwnCommandError, UsageError, ValueInvalidError
from dbctl.model import Done, Plan, Row, counted, now
from dbctl.services.app import MASK, App, Change, Draft, audit, exactly, find_column
from dbctl.services.data.edit import (
    Doomed,
    databases_along,
    draft_deletion,
    is_users_table,
    quote_value,
    read_changes,
    refuse_own_command,
    refuse_roles,
    user_fields,
)
from dbctl.services.data.table import DataTable, Filters, database_of
from dbctl.services.rules import RowRules, guard


class RowsChanged(Done, frozen=True, kw_only=True):
    """Answer of ``data set`` with a filter."""

    table: str
    matched: int
    changed: int  #: matched rows that did not hold the values already
    values: Row


class RowsDeleted(Done, frozen=True, kw_only=True):
    """Answer of ``data delete`` with a filter."""

    table: str
    matched: int
    rows: Mapping[str, int]  #: that went, or were cut loose, by table
    left: Sequence[str] = ()  #: what stays elsewhere, in words

    @property
    def changed(self) -> bool:
        """Whether any row was deleted."""
        return bool(self.matched)

    @property
    def remarks(self) -> Sequence[str]:
        return self.left


class RowAdded(Done, frozen=True, kw_only=True):
    """Answer of ``data add``."""

    table: str
    key: Row  #: empty where the table has no primary key
    row: Row  #: as it is stored, with the values that the database gave it


def set_rows(
    app: App, name: str, filters: Filters, given: Mapping[str, str], nulls: Sequence[str], *, limit: int
) -> Change[RowsChanged]:
    """Change columns of every row that meets all ``filters``; those of ``nulls`` become NULL.

    Args:
        app: the app.
        name: the table.
        filters: which rows.
        given: the new values, as typed.
        nulls: columns that become NULL.
        limit: how many rows may match.

    Raises (when planned and when applied):
        LimitExceededError: more rows match.
        MoveRefusedError, ValueInvalidError, LastAdminError, OwnCommandError: as ``data_changes.set_row`` does.
    """

    def draft(db: Readable) -> Draft[RowsChanged]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        refuse_own_command(table, {*given, *nulls})
        ruled = [column for column in user_fields(table) if column in given]
        if ruled:
            what = f"setting {name}.{ruled[0]} of several rows"
            raise OwnCommandError(what=what, command="users update, set-role, activate or deactivate")
        _, values = read_changes(table, given, nulls)
        where = table.conditions(filters)
        matched = _count_matches(table, where, limit)
        _check_changes(table, where, values)
        differing: list[Where] = [
            *where,
            AnyOf([_differs(column, value) for column, value in values.items()]),
        ]
        changed = db.count(name, differing)
        return _set_all(table, differing, values, matched=matched, changed=changed)

    return Change(app, database_of(app), "data set", draft)


def delete_rows(app: App, name: str, filters: Filters, *, limit: int) -> Change[RowsDeleted]:
    """Delete every row that meets all ``filters``, with all that the live foreign keys take along.

    Args:
        app: the app.
        name: the table.
        filters: which rows.
        limit: how many rows may match.

    Raises (when planned and when applied):
        LimitExceededError: more rows match.
        ConstraintError, BuiltInRoleError, OwnCommandError: as ``data_changes.delete_row`` does.
    """

    def draft(db: Readable) -> Draft[RowsDeleted]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        if table.live.table.view:
            raise UsageError(detail=f"{name} is a view, and no row of it can be deleted")
        if is_users_table(table):
            raise OwnCommandError(what=f"deleting rows of {name} by a filter", command="users delete")
        refuse_roles(table)
        where = table.conditions(filters)
        matched = _count_matches(table, where, limit)
        rules = RowRules(app, table.database, table.live)
        for row in table.read_stored(where) if rules.protects else ():
            rules.check_removed(row)
        step = f"delete {counted(matched, 'row')} of {name}"
        if not matched:
            plan = Plan(title=f"Delete rows of {name}", target=db.target, steps=[], rows={})
            return Draft(plan, lambda _: RowsDeleted(table=name, matched=0, rows={}))

        def answer(rows: Mapping[str, int], left: Sequence[str]) -> RowsDeleted:
            return RowsDeleted(table=name, matched=matched, rows=rows, left=left)

        title = f"Delete {counted(matched, 'row')} of {name}"
        doomed = Doomed(where=where, number=matched, title=title, step=step, entry="")
        return draft_deletion(table, doomed, answer)

    return Change(app, database_of(app), "data delete", draft, along=lambda: databases_along(app, name))


def add_row(app: App, name: str, given: Mapping[str, str], nulls: Sequence[str]) -> Change[RowAdded]:
    """Add one row; columns that are not given get the database's own defaults.

    Raises (when planned and when applied):
        ValueInvalidError: a column does not take its value.
        UsageError: a column that has no default is missing, or nobody writes it.
        ConstraintError: the database refuses the row.
        OwnCommandError: another command keeps the rules for it.
        BuiltInRoleError: a built-in role would get a permission.
    """

    def draft(db: Readable) -> Draft[RowAdded]:
        table = DataTable(app, db, name)
        table.refuse_ledger()
        _refuse_other_ways(table, {*given, *nulls})
        values = _new_values(table, given, nulls)
        lacking = table.live.uncovered(set(values))
        if lacking:
            raise UsageError(
                detail=f"a row of {name} has to have {', '.join(lacking)}: write {lacking[0]}=VALUE"
            )
        RowRules(app, table.database, table.live).check_added(values)
        told = ", ".join(f"{column} {quote_value(table, column, value)}" for column, value in values.items())

        def work(db: Writable) -> RowAdded:
            written = DataTable(app, db, name)
            with guard(app, table.database, db, {name: values}):
                key = _insert(written, values)
            audit.record(app, db, "data.add", name, " ".join(map(str, key.values())), {"columns": [*values]})
            stored = _stored(written, key) if key else values
            row = {column: table.shown(column, value) for column, value in stored.items()}
            return RowAdded(table=name, key={column: row[column] for column in key}, row=row)

        plan = Plan(
            title=f"Add a row to {name}",
            target=db.target,
            steps=[f"add a row to {name}" + (f": {told}" if told else "")],
            rows={name: 1},
        )
        return Draft(plan, work)

    return Change(app, database_of(app), "data add", draft)


# Within --------------------------------------------------------------------------------------------------------


def _count_matches(table: DataTable, where: Sequence[Where], limit: int) -> int:
    matched = table.db.count(table.name, where)
    if matched > limit:
        raise LimitExceededError(target=table.db.target, table=table.name, rows=matched, limit=limit)
    return matched


def _set_all(
    table: DataTable, where: Sequence[Where], values: dict[str, object], *, matched: int, changed: int
) -> Draft[RowsChanged]:
    told = {column: quote_value(table, column, value) for column, value in values.items()}
    steps = [f"change {column} of {counted(changed, 'row')} to {value}" for column, value in told.items()]
    stamp = find_column(table.live.table, table.app.database(table.database).updated_at)
    stored = values | ({stamp: table.live.encode(stamp, now())} if stamp and stamp not in values else {})

    def work(db: Writable) -> RowsChanged:
        shown = {column: table.shown(column, value) for column, value in values.items()}
        if changed:
            with guard(table.app, table.database, db, {table.name: values}):
                exactly(db.update(table.name, stored, where), changed, db)
            audit.record(table.app, db, "data.set", table.name, "", {"rows": changed, "values": shown})
        return RowsChanged(table=table.name, matched=matched, changed=changed, values=shown)

    plan = Plan(
        title=f"Set {', '.join(values)} of {counted(matched, 'row')} of {table.name}",
        target=table.db.target,
        steps=steps if changed else [],
        rows={table.name: changed} if changed else {},
        destructive=bool(changed),
    )
    return Draft(plan, work)


def _check_changes(table: DataTable, where: Sequence[Where], values: Mapping[str, object]) -> None:
    """Refuse a change that a rule forbids for any of the rows."""
    rules = RowRules(table.app, table.database, table.live)
    columns = [column for column in table.columns if column in rules.columns]
    rows: Sequence[tuple[object, ...]] = []
    if len(columns) == 1:  # however many rows there are, their values are few
        rows = [(value,) for value in table.db.tally(table.name, columns[0], where)]
    elif columns:
        rows = table.db.select(table.name, columns, where)
    for row in rows:
        rules.check_changed(dict(zip(columns, row, strict=True)), values)


def _differs(column: str, value: object) -> Where:
    return Condition(column, "!=", None) if value is None else Not(Condition(column, "=", value))


def _refuse_other_ways(table: DataTable, columns: set[str]) -> None:
    if table.live.table.view:
        raise UsageError(detail=f"{table.name} is a view, and takes no rows")
    if is_users_table(table):
        raise OwnCommandError(what=f"adding a row to {table.name}", command="users create")
    refuse_own_command(table, columns)


def _new_values(table: DataTable, given: Mapping[str, str], nulls: Sequence[str]) -> dict[str, object]:
    """Return what is stored in each column of a new row, as far as it was given."""
    values: dict[str, object] = {}
    for column in [*given, *nulls]:
        live = table.column(column)
        if column in given and column in nulls:
            raise UsageError(detail=f"{column} is given a value and NULL")
        if live.generated:
            raise UsageError(detail=f"{table.name}.{column} is made of other columns, and nobody writes it")
        if column in given and column in table.hidden:
            reason = "a secret never stands in a command; dbctl data import reads it from a file"
            raise ValueInvalidError(what=f"{table.name}.{column}", value=MASK, reason=reason)
        if column in nulls and (live.key or not live.nullable):
            raise ValueInvalidError(what=column, value="NULL", reason="the column has to have a value")
        values[column] = table.typed(column, given[column]) if column in given else None
    stamp = find_column(table.live.table, table.app.database(table.database).updated_at)
    if stamp and stamp not in values:
        values[stamp] = table.live.encode(stamp, now())
    return values


def _insert(table: DataTable, values: Mapping[str, object]) -> dict[str, object]:
    """Insert a row; return its primary key, with what the database gave it.

    Raises:
        ValueInvalidError: a column of the key would be NULL, which SQLite allows; nothing could name the row.
    """
    made = [column for column in table.key if values.get(column) is None]
    returned = table.db.insert(table.name, values, returning=made[0] if made else None)  # type: ignore[attr-defined]
    table.db.follow_keys(table.name)  # type: ignore[attr-defined]
    key = {column: returned if column in made[:1] else values.get(column) for column in table.key}
    for column, value in key.items():
        if value is None:
            raise ValueInvalidError(
                what=column, value="NULL", reason="a column of the key has to have a value"
            )
    return key


def _stored(table: DataTable, key: Mapping[str, object]) -> Row:
    """Return the row of a key, with all of its columns."""
    where: list[Where] = [Condition(column, "=", value) for column, value in key.items()]
    rows = table.read_stored(where)
    return rows[0] if rows else key
