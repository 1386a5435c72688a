"""Rows of users that no foreign key deletes: deleted in the order of the profile, or transferred to another user."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from dbctl.engines.contract import AllOf, AnyOf, Condition, InSubquery, Not, Readable, Table, Where, Writable
from dbctl.errors import SchemaMismatchError
from dbctl.model import Struct, format_count
from dbctl.services.app import User, UserTable, find_column, require_row_count
from dbctl.services.deletion import AffectedRows

STEP_SEPARATOR = " -> "


class OwnershipTransfer:
    """The transfer of rows of deleted users to another user, the new owner."""

    def __init__(self, users: UserTable, leaving: Sequence[User], new_owner: User) -> None:
        self._users, self._leaving, self.new_owner = users, [user.id for user in leaving], new_owner
        tables = users.db.tables()
        self._parts = [
            _TransferTable(
                table=name, column=transfer.column, once=_existing_columns(tables[name], transfer.once)
            )
            for transfer in users.section.transfer
            if (name := transfer.table.removesuffix("?")) in tables
        ]
        self.keys = [f"{transfer_table.table}.{transfer_table.column}" for transfer_table in self._parts]
        # Selected in advance: some databases do not allow a change of a table to query the same table.
        self._duplicates = {
            transfer_table.table: self._select_duplicates(transfer_table)
            for transfer_table in self._parts
            if transfer_table.once
        }

    def count_rows(self) -> dict[str, int]:
        """Return the number of transferred rows by table."""
        counts = {
            transfer_table.table: self._users.db.count(
                transfer_table.table, self._transferable_rows(transfer_table)
            )
            for transfer_table in self._parts
        }
        return {table: row_count for table, row_count in counts.items() if row_count}

    def duplicate_conditions(self) -> Mapping[str, Where]:
        """Return, by table, the condition of the rows that cannot be transferred, because their key would be a duplicate."""
        return {table: where for table, where in self._duplicates.items() if where}

    def duplicates(self) -> list[Duplicates]:
        """Return the number of rows that cannot be transferred, by table, with the columns of the key."""
        conditions = self.duplicate_conditions()
        return [
            Duplicates(
                table=transfer_table.table,
                key=transfer_table.once,
                rows=self._users.db.count(transfer_table.table, [conditions[transfer_table.table]]),
            )
            for transfer_table in self._parts
            if transfer_table.table in conditions
        ]

    def apply(self, db: Writable, planned: Mapping[str, int]) -> None:
        """Transfer the planned numbers of rows."""
        for transfer_table in self._parts:
            if row_count := planned.get(transfer_table.table, 0):
                require_row_count(
                    db.update(
                        transfer_table.table,
                        {transfer_table.column: self.new_owner.id},
                        self._transferable_rows(transfer_table),
                    ),
                    row_count,
                    db,
                )

    def _leaving_rows(self, transfer_table: _TransferTable) -> Where:
        return Condition(transfer_table.column, "in", self._leaving)

    def _transferable_rows(self, transfer_table: _TransferTable) -> list[Where]:
        duplicates = self._duplicates.get(transfer_table.table)
        return (
            [self._leaving_rows(transfer_table), Not(duplicates)]
            if duplicates
            else [self._leaving_rows(transfer_table)]
        )

    def _select_duplicates(self, transfer_table: _TransferTable) -> Where | None:
        """Return the condition of rows whose key the new owner or an earlier deleted user has too; None if there are none."""
        db = self._users.db
        columns = db.tables()[transfer_table.table].columns.values()
        keys = [column.name for column in columns if column.is_primary_key] or [
            transfer_table.column,
            *transfer_table.once,
        ]
        heir_has_row = InSubquery(
            transfer_table.once,
            transfer_table.table,
            transfer_table.once,
            [Condition(transfer_table.column, "=", self.new_owner.id)],
        )
        rows = {
            tuple(row)
            for row in db.select(
                transfer_table.table, keys, [self._leaving_rows(transfer_table), heir_has_row]
            )
        }
        if len(self._leaving) > 1:
            seen = set[tuple[object, ...]]()
            for user in self._leaving:
                for row in db.select(
                    transfer_table.table,
                    [*keys, *transfer_table.once],
                    [Condition(transfer_table.column, "=", user)],
                ):
                    key, values = tuple(row[: len(keys)]), tuple(row[len(keys) :])
                    if key in rows or None in values:
                        continue  # a key with NULL is never a duplicate
                    if values in seen:
                        rows.add(key)
                    seen.add(values)
        return _match_keys(keys, rows) if rows else None


def _match_keys(keys: Sequence[str], rows: Collection[tuple[object, ...]]) -> Where:
    """Return the condition that a row has one of these keys, with as few terms as possible."""
    by_variety = sorted(range(len(keys)), key=lambda index: len({row[index] for row in rows}))
    *first, last = by_variety
    groups = dict[tuple[object, ...], list[object]]()
    for row in rows:
        groups.setdefault(tuple(row[index] for index in first), []).append(row[last])
    return AnyOf(
        [
            AllOf(
                [
                    *(Condition(keys[index], "=", value) for index, value in zip(first, values, strict=True)),
                    Condition(keys[last], "in", members),
                ]
            )
            for values, members in groups.items()
        ]
    )


class Duplicates(Struct, frozen=True, kw_only=True):
    """Rows of one table that cannot be transferred, because the new owner has rows with the same unique key."""

    table: str
    key: Sequence[str]  #: the columns that are unique together with the user
    rows: int


class _TransferTable(Struct, frozen=True, kw_only=True):
    """A ``Transfer`` with the names of the live schema."""

    table: str
    column: str
    once: Sequence[str]


def _existing_columns(table: Table, names: Sequence[str]) -> list[str]:
    return [column for name in names if (column := find_column(table, name))]


class OwnedRows:
    """Rows that are deleted before their users, by table, in the order of their deletion."""

    def __init__(self, users: UserTable, leaving: Sequence[User], transfer: OwnershipTransfer | None) -> None:
        self._users, ids = users, [user.id for user in leaving]
        self._duplicates = {item.table: item for item in transfer.duplicates()} if transfer else {}
        self._new_owner = transfer.new_owner.login if transfer else ""
        self.conditions: dict[str, list[Where]] = {}
        self.keys: list[str] = []
        tables = users.db.tables()
        for steps_text in users.section.cascade:
            steps = steps_text.split(STEP_SEPARATOR)
            if any(step.partition(".")[0] not in tables for step in steps):
                continue  # the deployment lacks the table
            if transfer and steps[-1] in transfer.keys:
                continue  # it is transferred, or has duplicates, which are added below
            table = steps[0].partition(".")[0]
            self.conditions.setdefault(table, []).append(follow_steps(users.db, steps, ids))
            self.keys.append(steps[0])
        for table, where in (transfer.duplicate_conditions() if transfer else {}).items():
            self.conditions.setdefault(table, []).append(where)

    def affected_rows(self) -> Iterator[AffectedRows]:
        """Yield the deleted rows, table by table."""
        for table, where in self.conditions.items():
            if row_count := self._users.db.count(table, [AnyOf(where)]):
                step = f"delete {format_count(row_count, 'row')} of {table}"
                if duplicates := self._duplicates.get(table):
                    step += f", which {self._new_owner} has too ({', '.join(duplicates.key)})"
                yield AffectedRows(table=table, rows=row_count, step=step)

    def delete(self, db: Writable) -> None:
        """Delete the rows."""
        for table, where in self.conditions.items():
            row_count = db.count(table, [AnyOf(where)])
            require_row_count(db.delete(table, [AnyOf(where)]), row_count, db)


def follow_steps(db: Readable, steps: Sequence[str], ids: Sequence[object]) -> Where:
    """Return the condition that ``steps`` lead from a row to one of the users.

    Raises:
        SchemaMismatchError: a table of the path has no primary key of one column.
    """
    (_, column), *later_steps = [step.partition(".")[::2] for step in steps]
    if not later_steps:
        return Condition(column, "in", ids)
    parent = later_steps[0][0]
    keys = [
        column_info.name for column_info in db.tables()[parent].columns.values() if column_info.is_primary_key
    ]
    if len(keys) != 1:
        missing = f"a primary key of {parent} with one column"
        raise SchemaMismatchError(target=db.target, missing=missing, purpose="rows of users")
    return InSubquery([column], parent, keys, [follow_steps(db, steps[1:], ids)])
