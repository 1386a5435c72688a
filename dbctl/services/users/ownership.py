"""Rows of users that no foreign key deletes: deleted in the order of the profile, or transferred to another user."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from dbctl.engines.contract.checks import PlannedRows
from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Condition,
    InSubquery,
    Not,
    Readable,
    Where,
    Writable,
)
from dbctl.engines.sql.query_builder import match_rows
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import SchemaMismatchError
from dbctl.model import RetainedRows, Struct, format_count
from dbctl.profiles.model.users import Users
from dbctl.profiles.payloads import KEY_IN_TEXT, RowStep, parse_row_path
from dbctl.services.app.live_table import find_column
from dbctl.services.app.row_writes import write_rows
from dbctl.services.app.user_roles.form import BOOLEAN_LABELS, is_boolean
from dbctl.services.app.user_table import User, UserTable
from dbctl.services.deletion.cascade import AffectedRows, describe_cleared, describe_deleted
from dbctl.services.users.companions import CompanionRows
from dbctl.services.users.sign_in_state import require_single_key


class Duplicates(Struct, frozen=True, kw_only=True):
    """Rows of one table that cannot be transferred, because the new owner has rows with the same unique key."""

    table: str
    key: Sequence[str]  #: the columns that are unique together with the user
    rows: int
    where: Where


class _TransferTable(Struct, frozen=True, kw_only=True):
    """A ``Transfer`` with the names of the live schema."""

    table: str
    column: str
    once: Sequence[str]


class OwnershipTransfer:
    """The transfer of rows of deleted users to another user, the new owner."""

    def __init__(self, users: UserTable, leaving: Sequence[User], new_owner: User) -> None:
        self._db, self._leaving, self.new_owner = users.db, [user.id for user in leaving], new_owner
        tables = users.db.tables()
        self._tables = [
            _TransferTable(
                table=name,
                column=transfer.column,
                once=[column for item in transfer.once if (column := find_column(tables[name], item))],
            )
            for transfer in users.section.transfer
            if (name := transfer.table.removesuffix("?")) in tables
        ]
        self.keys = [f"{item.table}.{item.column}" for item in self._tables]
        # Selected in advance: some databases do not allow a change of a table to query the same table.
        self.duplicates = list[Duplicates]()
        for item in self._tables:
            if item.once and (keys := self._select_duplicates(item)):
                # a row that several transfers of a table contain counts once
                where = AllOf([match_rows(self._key(item), list(keys)), *self._not_duplicate(item)])
                if rows := self._db.count(item.table, [where]):
                    self.duplicates.append(
                        Duplicates(table=item.table, key=item.once, rows=rows, where=where)
                    )

    def plan_rows(self) -> Iterator[PlannedRows]:
        """Yield the transferred rows with their new owner."""
        for item in self._tables:
            values = {item.column: self.new_owner.id}
            yield PlannedRows(table=item.table, where=self._transferable_rows(item), values=values)

    def affected_rows(self) -> Iterator[AffectedRows]:
        """Yield the transferred rows, column by column."""
        for item in self._tables:
            where = self._transferable_rows(item)
            if row_count := self._db.count(item.table, where):
                step = f"transfer {format_count(row_count, 'row')} of {item.table} to {self.new_owner.login}"
                yield AffectedRows(
                    table=item.table, rows=row_count, step=step, kind="transferred", where=AllOf(where)
                )

    def apply(self, db: Writable) -> None:
        for item in self._tables:
            write_rows(db, item.table, self._transferable_rows(item), {item.column: self.new_owner.id})

    def _transferable_rows(self, item: _TransferTable) -> list[Where]:
        return [Condition(item.column, "in", self._leaving), *self._not_duplicate(item)]

    def _not_duplicate(self, item: _TransferTable) -> list[Where]:
        return [Not(duplicates.where) for duplicates in self.duplicates if duplicates.table == item.table]

    def _key(self, item: _TransferTable) -> list[str]:
        return self._db.tables()[item.table].primary_key or [item.column, *item.once]

    def _select_duplicates(self, item: _TransferTable) -> set[tuple[object, ...]]:
        """Return the keys of rows whose unique values the new owner or an earlier deleted user has too."""
        keys, owners = self._key(item), [self.new_owner.id]
        duplicates = set[tuple[object, ...]]()
        for user in self._leaving:
            # the database compares: a collation may ignore case, and a NULL is never equal
            is_owned = InSubquery(item.once, item.table, item.once, [Condition(item.column, "in", [*owners])])
            selected = self._db.select(item.table, keys, [Condition(item.column, "=", user), is_owned])
            duplicates.update(map(tuple, selected))
            owners.append(user)
        return duplicates


class OwnedRows:
    """Rows that are deleted before their users or, if the users refer to them, after them, in the order of deletion; and references that are cleared."""

    def __init__(self, users: UserTable, leaving: Sequence[User], transfer: OwnershipTransfer | None) -> None:
        self._db, ids, tables = users.db, [user.id for user in leaving], users.db.tables()
        self._new_owner = transfer.new_owner.login if transfer else ""
        self._duplicates = transfer.duplicates if transfer else []
        self.conditions: dict[str, list[Where]] = {}
        self.keys: list[str] = []
        self._cleared = dict[str, list[Where]]()
        for path in [*users.section.clear, *users.section.owned]:
            steps = parse_row_path(path)
            missing = [step for step in steps if step.table not in tables]
            if missing and (path in (*users.section.clear, *users.section.cascade)):
                _require_optional(users, missing)
            if missing:
                continue  # the deployment lacks the table
            if transfer and steps[-1].path in transfer.keys:
                continue  # it is transferred, or has duplicates, which are added below
            where = follow_steps(users.db, steps, ids)
            self.keys.append(steps[0].path)
            if path in users.section.clear:
                _require_nullable(users, steps[0], where)
                self._cleared.setdefault(steps[0].path, []).append(where)
            else:
                self.conditions.setdefault(steps[0].table, []).append(where)
        companions = CompanionRows(users)
        for owned in companions.find_owned(ids):
            if owned.key not in (*self.keys, *(transfer.keys if transfer else ())):
                self.conditions.setdefault(owned.table, []).append(owned.where)
                self.keys.append(owned.key)
        self.later_conditions: dict[str, list[Where]] = {}
        for owned in companions.find_owned_later(ids):
            self.later_conditions.setdefault(owned.table, []).append(owned.where)
            self.keys.append(owned.key)
        for item in self._duplicates:
            self.conditions.setdefault(item.table, []).append(item.where)

    def plan_cleared_rows(self) -> Iterator[PlannedRows]:
        """Yield the rows whose reference is set to NULL."""
        for path, referring in self._cleared.items():
            table, _, column = path.partition(".")
            yield PlannedRows(table=table, where=[AnyOf(referring)], values={column: None})

    def affected_rows(self, deleted: Mapping[str, Sequence[Where]]) -> Iterator[AffectedRows]:
        """Yield the rows that remain with a reference set to NULL, and the deleted rows, table by table.

        ``deleted`` are, by table, the conditions of all deleted rows, also of those whose reference is cleared before.
        """
        for path, referring in self._cleared.items():
            table, _, column = path.partition(".")
            remaining: list[Where] = [AnyOf(referring), Not(AnyOf(deleted.get(table, ())))]
            yield from describe_cleared(self._db, table, [column], remaining)
        for table, where in self.conditions.items():
            duplicates = [item for item in self._duplicates if item.table == table]
            others = [Not(item.where) for item in duplicates]
            yield from describe_deleted(self._db, table, [AnyOf(where), *others])
            for item in duplicates:
                note = f", which {self._new_owner} has too ({', '.join(item.key)})"
                yield from describe_deleted(self._db, table, [item.where], note)
        for table, where in self.later_conditions.items():
            yield from describe_deleted(self._db, table, [AnyOf(where)])

    def clear(self, db: Writable) -> None:
        """Set the references to NULL."""
        for path, referring in self._cleared.items():
            table, _, column = path.partition(".")
            write_rows(db, table, [AnyOf(referring)], {column: None})


def _require_optional(users: UserTable, missing: Sequence[RowStep]) -> None:
    """Refuse a path over a table that the deployment lacks, unless the profile declares it as optional: its rows might remain."""
    for step in missing:
        if not step.is_optional:
            raise SchemaMismatchError(
                target=users.db.target, missing=f"table {step.table}", purpose="the deletion of users"
            )


def _require_nullable(users: UserTable, step: RowStep, where: Where) -> None:
    column = users.db.tables()[step.table].columns.get(step.column)
    if column and not column.nullable and users.db.count(step.table, [where]):
        raise ConstraintError(
            target=users.db.target, reason=f"{step.path} of users.clear cannot be set to NULL"
        )


def delete_rows(db: Writable, conditions: Mapping[str, Sequence[Where]]) -> None:
    """Delete rows that meet one of the conditions of their table."""
    for table, where in conditions.items():
        write_rows(db, table, [AnyOf(where)])


NOT_TRANSFERRED = "they are not transferred to another user (--transfer-to)"


def find_retained_rows(
    users: UserTable,
    leaving: Sequence[User],
    handled_keys: Collection[str],
    deleted: Mapping[str, Sequence[Where]],
) -> list[RetainedRows]:
    """Return the rows of the profile that still refer to the users after their deletion.

    Args:
        users: the users.
        leaving: the users to delete.
        handled_keys: the columns (``table.column``) whose rows are deleted, cleared or transferred.
        deleted: by table, the conditions of deleted rows, one of which each row meets.
    """
    tables = users.db.tables()
    references = users.db.references(users.live.name)
    foreign_keys = {f"{key.table}.{column}" for key in references for column in key.columns}
    paths = {steps[0].path: (steps, reason) for steps, reason in _list_retained_paths(users.section)}
    retained = []
    for path, (steps, reason) in paths.items():
        step = steps[0]
        if any(item.table not in tables for item in steps) or path in (*handled_keys, *foreign_keys):
            continue
        is_deleted = AnyOf(deleted.get(step.table, ()))
        where = [follow_steps(users.db, steps, [user.id for user in leaving]), Not(is_deleted)]
        if row_count := users.db.count(step.table, where):
            rows = RetainedRows(table=step.table, column=step.column, rows=row_count, reason=reason)
            retained.append(rows)
    return retained


def _list_retained_paths(section: Users) -> Iterator[tuple[Sequence[RowStep], str]]:
    for transfer in section.transfer:
        yield parse_row_path(f"{transfer.table}.{transfer.column}"), NOT_TRANSFERRED
    for path, reason in section.retained.items():
        yield parse_row_path(path), reason


def follow_steps(db: Readable, steps: Sequence[RowStep], ids: Sequence[object]) -> Where:
    """Return the condition that ``steps`` lead from a row to one of the users.

    Raises:
        SchemaMismatchError: a table of the path has no primary key of one column, and the path does not name a column.
    """
    step, *later_steps = steps
    owners = [step.text.replace(KEY_IN_TEXT, str(key)) for key in ids] if step.text else ids
    where: Where = Condition(step.column, "in", owners)
    if later_steps:
        parent = later_steps[0]
        key = parent.key or require_single_key(db, parent.table, "rows of users")
        where = InSubquery([step.column], parent.table, [key], [follow_steps(db, later_steps, ids)])
    return AllOf([where, Condition(step.filter, "=", _filter_value(db, step))]) if step.filter else where


def _filter_value(db: Readable, step: RowStep) -> object:
    """Return the value of a filter in the type of its column."""
    column = db.tables()[step.table].columns.get(step.filter)
    if column and step.value in BOOLEAN_LABELS and is_boolean(column):
        return BOOLEAN_LABELS[step.value]
    return int(step.value) if column and "INT" in column.type and step.value.isdecimal() else step.value
