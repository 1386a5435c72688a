"""What is a user's though no foreign key takes it along: deleted in the order of the profile, or handed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dbctl.engines.base import AllOf, AnyOf, Condition, Not, Readable, Table, Where, Within, Writable
from dbctl.errors import SchemaLacksError
from dbctl.model import Value, counted
from dbctl.services.change import exactly
from dbctl.services.deletion import Touched
from dbctl.services.live import find_column
from dbctl.services.user_table import User, UserTable

STEP = " -> "


class Handover:
    """What users leave to another one."""

    def __init__(self, users: UserTable, leaving: Sequence[User], to: User) -> None:
        self._users, self._leaving, self.to = users, [user.id for user in leaving], to
        tables = users.db.tables()
        self._parts = [
            _Part(table=name, column=one.column, once=_present(tables[name], one.once))
            for one in users.told.transfer
            if (name := one.table.removesuffix("?")) in tables
        ]
        self.keys = [f"{part.table}.{part.column}" for part in self._parts]

    def planned(self) -> dict[str, int]:
        """Return how many rows of each table are handed over."""
        counts = {part.table: self._users.db.count(part.table, self._given(part)) for part in self._parts}
        return {table: number for table, number in counts.items() if number}

    def left(self) -> Mapping[str, Where]:
        """Return the conditions of rows that cannot be handed over, because the other one has such a row."""
        return {
            part.table: AllOf([self._mine(part), *self._taken(part)]) for part in self._parts if part.once
        }

    def carry_out(self, db: Writable, planned: Mapping[str, int]) -> None:
        """Hand over what was planned."""
        for part in self._parts:
            if number := planned.get(part.table, 0):
                exactly(db.update(part.table, {part.column: self.to.id}, self._given(part)), number, db)

    def _mine(self, part: _Part) -> Where:
        return Condition(part.column, "in", self._leaving)

    def _given(self, part: _Part) -> list[Where]:
        return [self._mine(part), *(Not(where) for where in self._taken(part))]

    def _taken(self, part: _Part) -> list[Where]:
        """Return the condition that the other one has a row like it; none where that does not matter.

        Asked beforehand: some databases do not let a change of a table ask the same table.
        """
        if not part.once:
            return []
        theirs: list[Where] = [Condition(part.column, "=", self.to.id)]
        rows = self._users.db.select(part.table, part.once, theirs)
        alike = [
            AllOf([Condition(name, "=", value) for name, value in zip(part.once, row, strict=True)])
            for row in rows
        ]
        return [AnyOf(alike)]


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
        self.gone: dict[str, list[Where]] = {}
        self.keys: list[str] = []
        tables = users.db.tables()
        for told in users.told.owns:
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
                yield Touched(table=table, rows=number, step=f"delete {counted(number, 'row')} of {table}")

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
