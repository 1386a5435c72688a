"""Roles as bits of one number in a user's row, whose other bits mean something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, reduce
from operator import or_

from dbctl.engines.contract.database import AllOf, Condition, Where, Writable
from dbctl.model import Row
from dbctl.services.app.change import require_row_count
from dbctl.services.app.user_roles.form import Assignment, RoleForm

UNKNOWN = "(unknown)"


class RoleBits(RoleForm):
    """A user has the first role whose bits are all set; a change of the role keeps the bits of no role."""

    has_rows = True  # a new value depends on the stored one, so ``write`` stores it

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # the arguments of the base class
        self._number = self.live.column(self.section.column)
        self.columns = [self._number]

    @cached_property
    def keys(self) -> Mapping[object, str]:
        return {name: name for name in self.section.bits}

    def read(self, rows: Sequence[Row]) -> list[list[str]]:
        return [[] if row[self._number] is None else [self._find_role(row[self._number])] for row in rows]

    def _find_role(self, stored: object) -> str:
        number = int(str(stored))
        return next((name for name, bits in self.section.bits.items() if number & bits == bits), UNKNOWN)

    def where(self, name: str, *, for_update: bool = False) -> Where:
        del for_update  # the role is in the row of the user
        return self._where_role(self.resolve(name))

    def _where_role(self, name: str) -> Where:
        stored = [value for value in self.db.count_by(self.live.name, self._number) if value is not None]
        return Condition(self._number, "in", [value for value in stored if self._find_role(value) == name])

    def where_unknown(self) -> Where:
        return AllOf([Condition(self._number, "!=", None), self._where_role(UNKNOWN)])

    def count_rows(self, assignments: Sequence[Assignment]) -> dict[str, int]:
        return {self.live.name: len(assignments)} if assignments else {}

    def write(self, db: Writable, assignments: Sequence[Assignment]) -> None:
        every = reduce(or_, self.section.bits.values(), 0)
        for item in assignments:
            where = [Condition(self.id, "=", item.user)]
            ((stored,),) = db.select(self.live.name, [self._number], where)
            bits = reduce(or_, (self.section.bits[name] for name in item.after), 0)
            values = {self._number: int(str(stored or 0)) & ~every | bits}
            require_row_count(db.update(self.live.name, values, where), 1, db)
