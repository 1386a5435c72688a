"""Roles in several columns of a user's row: a user has the first rank whose values match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from dbctl.engines.contract.database import AllOf, AnyOf, Condition, Not, Where
from dbctl.model import Row
from dbctl.services.app.user_roles.form import SAMPLE_ROWS, Problem, RoleForm, can_store


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
        return [self._find_ranks(row)[:1] or ["(unknown)"] for row in rows]

    def _find_ranks(self, row: Row) -> list[str]:
        """Return the ranks whose values match, the first of which the user has."""
        return [
            name
            for name, columns in self._matches.items()
            if all(row[column] == self._stored[name][column] for column in columns)
        ]

    def where(self, name: str, *, for_update: bool = False) -> Where:
        del for_update  # the role is in the row of the user
        known = self.resolve(name)
        earlier = [self._where_match(other) for other in self.names()[: self.names().index(known)]]
        return AllOf([self._where_match(known), *map(Not, earlier)])

    def _where_match(self, name: str) -> Where:
        return AllOf([Condition(column, "=", self._stored[name][column]) for column in self._matches[name]])

    def where_unknown(self) -> Where:
        return Not(AnyOf([self._where_match(name) for name in self.names()]))

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
