"""Roles in columns of a user's row: bits of one number, whose other bits mean something else, or ranks, values of several columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, reduce
from operator import or_

from dbctl.engines.contract.database import AllOf, AnyOf, Condition, Not, Where, Writable
from dbctl.model import Row
from dbctl.services.app.row_writes import update_exactly
from dbctl.services.app.user_roles.form import SAMPLE_ROWS, Assignment, Problem, RoleForm, can_store

UNKNOWN = "(unknown)"


class RoleBits(RoleForm):
    """A user has the first role whose bits are all set; a change of the role keeps the bits of no role."""

    has_rows = True  # a new value depends on the stored one, so ``write`` stores it

    @cached_property
    def keys(self) -> Mapping[object, str]:
        return {name: name for name in self.section.bits}

    def read(self, rows: Sequence[Row]) -> list[list[str]]:
        return [
            [] if row[self.columns[0]] is None else [self._find_role(row[self.columns[0]])] for row in rows
        ]

    def _find_role(self, stored: object) -> str:
        number = int(str(stored))
        return next((name for name, bits in self.section.bits.items() if number & bits == bits), UNKNOWN)

    def where(self, name: str, *, for_update: bool = False) -> Where:
        del for_update  # the role is in the row of the user
        return self._where_role(self.resolve(name))

    def _where_role(self, name: str) -> Where:
        stored = [value for value in self.db.count_by(self.live.name, self.columns[0]) if value is not None]
        return Condition(self.columns[0], "in", [value for value in stored if self._find_role(value) == name])

    def where_unknown(self) -> Where:
        return AllOf([Condition(self.columns[0], "!=", None), self._where_role(UNKNOWN)])

    def count_rows(self, assignments: Sequence[Assignment]) -> dict[str, int]:
        return {self.live.name: len(assignments)} if assignments else {}

    def write(self, db: Writable, assignments: Sequence[Assignment]) -> None:
        every = reduce(or_, self.section.bits.values(), 0)
        for item in assignments:
            where = [Condition(self.id, "=", item.user)]
            ((stored,),) = db.select(self.live.name, [self.columns[0]], where)
            bits = reduce(or_, (self.section.bits[name] for name in item.after), 0)
            values = {self.columns[0]: int(str(stored or 0)) & ~every | bits}
            update_exactly(db, self.live.name, values, where, 1)


class Ranks(RoleForm):
    """Several columns: a user has the first rank whose values match."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # the arguments of the base class
        self._stored = {rank.name: self.live.encode_constants(rank.columns) for rank in self.section.ranks}
        self._matches = {
            rank.name: {self.live.column(name): None for name in rank.match or rank.columns}
            for rank in self.section.ranks
        }
        self.columns = list(next(iter(self._stored.values()), {}))

    @cached_property
    def keys(self) -> Mapping[object, str]:
        return {name: name for name in self._stored}

    def read(self, rows: Sequence[Row]) -> list[list[str]]:
        return [self._find_ranks(row)[:1] or [UNKNOWN] for row in rows]

    def _find_ranks(self, row: Row) -> list[str]:
        """Return the ranks whose values match, the first of which the user has."""
        return [
            name
            for name, columns in self._matches.items()
            if all(row[column] == self._stored[name][column] for column in columns)
        ]

    def where(self, name: str, *, for_update: bool = False) -> Where:
        del for_update  # the role is in the row of the user
        known, names = self.resolve(name), [*self.keys.values()]
        earlier = [self._where_match(other) for other in names[: names.index(known)]]
        return AllOf([self._where_match(known), *map(Not, earlier)])

    def _where_match(self, name: str) -> Where:
        return AllOf([Condition(column, "=", self._stored[name][column]) for column in self._matches[name]])

    def where_unknown(self) -> Where:
        return Not(AnyOf([self._where_match(name) for name in self.keys.values()]))

    def encode(self, names: Iterable[str]) -> dict[str, object]:
        return {column: value for name in names for column, value in self._stored[name].items()}

    def find_type_problems(self) -> Iterator[Problem]:
        for index, (name, stored) in enumerate(self._stored.items()):
            for column, value in stored.items():
                definition = self.live.table.columns[column]
                if not can_store(definition, value):
                    place = f"{self.live.name}.{column} ({definition.type})"
                    yield (
                        ("role", "ranks", index, "columns", column),
                        f"{place} cannot store {value!r} of {name}",
                    )

    def has_only_unknown_roles(self) -> bool:
        rows = self.db.select(self.live.name, self.columns, limit=SAMPLE_ROWS)
        records = [dict(zip(self.columns, row, strict=True)) for row in rows]
        return bool(records) and not any(self._find_ranks(record) for record in records)
