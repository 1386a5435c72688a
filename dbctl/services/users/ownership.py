"""What is a user's though no foreign key takes it along: deleted in the order of the profile, or handed over."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from dbctl.engines.contract import AllOf, AnyOf, Condition, Not, Readable, Table, Where, Within, Writable
from dbctl.errors import SchemaLacksError
from dbctl.model import Value, counted
from dbctl.services.app import User, UserTable, exactly, find_column
from dbctl.services.deletion import Touched

STEP = " -> "


class Handover:
    """What users leave to another one."""

    def __init__(self, users: UserTable, leaving: Sequence[User], to: User) -> None:
        self._users, self._leaving, self.to = users, [user.id for user in leaving], to
        tables = users.db.tables()
        self._parts = [
            _Part(table=name, column=transfer.column, once=_present(tables[name], transfer.once))
            for transfer in users.section.transfer
            if (name := transfer.table.removesuffix("?")) in tables
        ]
        self.keys = [f"{part.table}.{part.column}" for part in self._parts]
        # Selected beforehand: some databases do not let a change of a table ask the same table.
        self._duplicates = {part.table: self._select_duplicates(part) for part in self._parts if part.once}

    def planned(self) -> dict[str, int]:
        """Return how many rows of each table are handed over."""
        counts = {part.table: self._users.db.count(part.table, self._given(part)) for part in self._parts}
        return {table: number for table, number in counts.items() if number}

    def left(self) -> Mapping[str, Where]:
        """Return by table the condition of the rows that cannot be handed over, because the key would be there twice."""
        return {table: where for table, where in self._duplicates.items() if where}

    def duplicates(self) -> list[Duplicates]:
        """Return by table how many rows cannot be handed over, and by which columns."""
        left = self.left()
        return [
            Duplicates(
                table=part.table, key=part.once, rows=self._users.db.count(part.table, [left[part.table]])
            )
            for part in self._parts
            if part.table in left
        ]

    def carry_out(self, db: Writable, planned: Mapping[str, int]) -> None:
        """Hand over what was planned."""
        for part in self._parts:
            if number := planned.get(part.table, 0):
                exactly(db.update(part.table, {part.column: self.to.id}, self._given(part)), number, db)

    def _mine(self, part: _Part) -> Where:
        return Condition(part.column, "in", self._leaving)

    def _given(self, part: _Part) -> list[Where]:
        duplicates = self._duplicates.get(part.table)
        return [self._mine(part), Not(duplicates)] if duplicates else [self._mine(part)]

    def _select_duplicates(self, part: _Part) -> Where | None:
        """Return the condition of rows whose key the other user, or an earlier one of those who leave, has too; None without any."""
        db = self._users.db
        columns = db.tables()[part.table].columns.values()
        keys = [column.name for column in columns if column.key] or [part.column, *part.once]
        theirs = Within(part.once, part.table, part.once, [Condition(part.column, "=", self.to.id)])
        rows = {tuple(row) for row in db.select(part.table, keys, [self._mine(part), theirs])}
        if len(self._leaving) > 1:
            seen = set[tuple[object, ...]]()
            for user in self._leaving:
                for row in db.select(part.table, [*keys, *part.once], [Condition(part.column, "=", user)]):
                    key, values = tuple(row[: len(keys)]), tuple(row[len(keys) :])
                    if key in rows or None in values:
                        continue  # a key with NULL in it is never there twice
                    if values in seen:
                        rows.add(key)
                    seen.add(values)
        return _among(keys, rows) if rows else None


def _among(keys: Sequence[str], rows: Collection[tuple[object, ...]]) -> Where:
    """Return the condition that a row has one of these keys, with as few parts as the values allow."""
    order = sorted(range(len(keys)), key=lambda place: len({row[place] for row in rows}))
    *first, last = order
    groups = dict[tuple[object, ...], list[object]]()
    for row in rows:
        groups.setdefault(tuple(row[place] for place in first), []).append(row[last])
    return AnyOf(
        [
            AllOf(
                [
                    *(Condition(keys[place], "=", value) for place, value in zip(first, values, strict=True)),
                    Condition(keys[last], "in", members),
                ]
            )
            for values, members in groups.items()
        ]
    )


class Duplicates(Value, frozen=True, kw_only=True):
    """Rows of one table that cannot be handed over: with the other user in place of theirs, a unique key would be there twice."""

    table: str
    key: Sequence[str]  #: the columns that are unique for each user
    rows: int


class _Part(Value, frozen=True, kw_only=True):
    """One ``Transfer`` as the live schema has it."""

    table: str
    column: str
    once: Sequence[str]


def _present(table: Table, names: Sequence[str]) -> list[str]:
    return [column for name in names if (column := find_column(table, name))]


class Belongings:
    """Rows that go before their users do, by table in the order in which they have to go."""

    def __init__(self, users: UserTable, leaving: Sequence[User], handover: Handover | None) -> None:
        self._users, ids = users, [user.id for user in leaving]
        self._duplicates = {item.table: item for item in handover.duplicates()} if handover else {}
        self._heir = handover.to.login if handover else ""
        self.gone: dict[str, list[Where]] = {}
        self.keys: list[str] = []
        tables = users.db.tables()
        for told in users.section.owns:
            steps = told.split(STEP)
            if any(step.partition(".")[0] not in tables for step in steps):
                continue  # a deployment without it
            if handover and steps[-1] in handover.keys:
                continue  # it stays, or is what could not be handed over
            table = steps[0].partition(".")[0]
            self.gone.setdefault(table, []).append(leading(users.db, steps, ids))
            self.keys.append(steps[0])
        for table, where in (handover.left() if handover else {}).items():
            self.gone.setdefault(table, []).append(where)

    def planned(self) -> Iterator[Touched]:
        """Yield what goes, table by table."""
        for table, where in self.gone.items():
            if number := self._users.db.count(table, [AnyOf(where)]):
                step = f"delete {counted(number, 'row')} of {table}"
                if duplicates := self._duplicates.get(table):
                    step += f", which {self._heir} has too ({', '.join(duplicates.key)})"
                yield Touched(table=table, rows=number, step=step)

    def delete(self, db: Writable) -> None:
        """Delete it."""
        for table, where in self.gone.items():
            number = db.count(table, [AnyOf(where)])
            exactly(db.delete(table, [AnyOf(where)]), number, db)


def leading(db: Readable, steps: Sequence[str], ids: Sequence[object]) -> Where:
    """Return the condition that following ``steps`` leads to one of the users.

    Raises:
        SchemaLacksError: a table on the way has no key in one column.
    """
    (_, column), *further = [step.partition(".")[::2] for step in steps]
    if not further:
        return Condition(column, "in", ids)
    parent = further[0][0]
    keys = [one.name for one in db.tables()[parent].columns.values() if one.key]
    if len(keys) != 1:
        what = f"a key of {parent} in one column"
        raise SchemaLacksError(target=db.target, what=what, purpose="finding what is a user's")
    return Within([column], parent, keys, [leading(db, steps[1:], ids)])
