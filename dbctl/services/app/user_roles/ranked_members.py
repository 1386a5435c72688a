"""Roles in columns and in a table of pairs: users have one rank, and any number of groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import structs

from dbctl.engines.contract.database import AnyOf, Where, Writable
from dbctl.model import Row
from dbctl.services.app.user_roles.columns import Ranks
from dbctl.services.app.user_roles.form import Assignment, Problem, RoleAction, RoleForm
from dbctl.services.app.user_roles.members import Members


class _Groups(Members):
    """Members of groups; a group with the name of a rank has another name here, so that commands distinguish the two."""

    def _read_keys(self) -> Mapping[object, str]:
        ranks = {rank.name.casefold() for rank in self.section.ranks}
        return {
            key: f"{name} (group)" if name.casefold() in ranks else name
            for key, name in super()._read_keys().items()
        }


class RankedMembers(RoleForm):
    """Ranks, and members of groups; a command changes the part with the role that it names."""

    has_several = has_rows = True

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # the arguments of the base class
        self._ranks = Ranks(self.users, self.section, self.live, self.only)
        self._members = _Groups(self.users, self.section, self.live, self.only)
        self.columns = self._ranks.columns

    @property
    def tables(self) -> Sequence[str]:
        return self._members.tables

    def _read_keys(self) -> Mapping[object, str]:
        groups = {key: name for key, name in self._members.keys().items() if not self._is_rank(name)}
        return {**self._ranks.keys(), **groups}

    def _is_rank(self, name: str) -> bool:
        return name in self._ranks.names()

    def _part(self, name: str) -> Ranks | Members:
        return self._ranks if self._is_rank(self.resolve(name)) else self._members

    def read(self, rows: Sequence[Row]) -> list[list[str]]:
        parts = zip(self._ranks.read(rows), self._members.read(rows), strict=True)
        return [[*ranks, *groups] for ranks, groups in parts]

    def where(self, name: str, *, for_update: bool = False) -> Where:
        return self._part(name).where(name, for_update=for_update)

    def where_lasting(self, name: str, *, for_update: bool = False) -> Where:
        return self._part(name).where_lasting(name, for_update=for_update)

    def where_unknown(self) -> Where:
        return AnyOf([self._ranks.where_unknown(), self._members.where_unknown()])

    def count_users(self, *, with_others: bool = False) -> Mapping[object, int]:
        members = self._members.count_users(with_others=with_others)
        return {**members, **self._ranks.count_users(with_others=with_others)}

    def change(self, action: RoleAction, current: Sequence[str], name: str) -> list[str]:
        rank, groups = self._split(current)
        if self._part(name) is self._ranks:
            return [*self._ranks.change(action, rank, name), *groups]
        return [*rank, *self._members.change(action, groups, name)]

    def _split(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the ranks and the groups; a rank that dbctl does not recognize is a rank."""
        groups = [name for name in names if name in self._members.names() and not self._is_rank(name)]
        return [name for name in names if name not in groups], groups

    def select_new(self, names: Sequence[str] | None) -> list[str]:
        selected = super().select_new(names)
        ranks = [name for name in selected if self._is_rank(name)]
        if not ranks:  # the default rank also applies to a user with groups
            ranks = [name for name in super().select_new(None) if self._is_rank(name)]
        return [*self._ranks.select_new(ranks), *(name for name in selected if name not in ranks)]

    def encode(self, names: Iterable[str]) -> dict[str, object]:
        return self._ranks.encode(name for name in names if self._is_rank(name))

    def count_rows(self, assignments: Sequence[Assignment]) -> dict[str, int]:
        return self._members.count_rows(self._select_groups(assignments))

    def where_removed(self, assignments: Sequence[Assignment]) -> dict[str, list[Where]]:
        return self._members.where_removed(self._select_groups(assignments))

    def write(self, db: Writable, assignments: Sequence[Assignment]) -> None:
        self._members.write(db, self._select_groups(assignments))

    def _select_groups(self, assignments: Sequence[Assignment]) -> list[Assignment]:
        return [
            structs.replace(item, before=self._split(item.before)[1], after=self._split(item.after)[1])
            for item in assignments
        ]

    def find_type_problems(self) -> Iterator[Problem]:
        for part in (self._ranks, self._members):
            yield from part.find_type_problems()

    def has_only_unknown_roles(self) -> bool:
        return self._ranks.has_only_unknown_roles() or self._members.has_only_unknown_roles()
