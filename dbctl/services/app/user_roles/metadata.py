"""Roles in a row of metadata: a serialized map per user, and a row with a number that follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from dbctl.engines.contract.database import AnyOf, Condition, Where, Writable
from dbctl.errors.users import RoleStoredError
from dbctl.model import Row
from dbctl.profiles.codecs import read_text
from dbctl.profiles.model.roles import RoleMetadata
from dbctl.profiles.php import dump_php, load_flags
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.row_writes import write_rows
from dbctl.services.app.user_roles.form import SAMPLE_ROWS, Assignment, RoleForm

UNREADABLE = "(unknown)"  #: the role of a user whose row is no simple map


class Metadata(RoleForm):
    """A row of metadata with a map, whose keys are roles and further capabilities, which changes of roles retain."""

    has_several = has_rows = True

    @property
    def _rows(self) -> RoleMetadata:
        assert self.section.metadata is not None  # noqa: S101 - the form is created for this section only
        return self.section.metadata

    @property
    def tables(self) -> Sequence[str]:
        return [*super().tables, self._rows.table]

    @cached_property
    def _table(self) -> LiveTable:
        return LiveTable(self.live.profile, self.db, self._rows.table, "the roles of users")

    @cached_property
    def keys(self) -> Mapping[object, str]:
        return {name: name for name in self.section.values}

    def read(self, rows: Sequence[Row]) -> list[list[str]]:
        flags = self._load([Condition(self._rows.user, "in", [row[self.id] for row in rows])])
        return [self._select_roles(flags.get(row[self.id], {})) for row in rows]

    def _select_roles(self, flags: Mapping[str, bool] | None) -> list[str]:
        return [UNREADABLE] if flags is None else [name for name in self.keys.values() if flags.get(name)]

    def _load(
        self, where: Sequence[Where], *, for_update: bool = False
    ) -> dict[object, dict[str, bool] | None]:
        """Return the maps by user; None: the value is not a simple map, or the user has several rows."""
        maps = dict[object, dict[str, bool] | None]()
        for user, value in self._select(self._rows.name, where, for_update=for_update):
            maps[user] = None if user in maps else _parse(value)
        return maps

    def _select(
        self, name: str, where: Sequence[Where], *, limit: int | None = None, for_update: bool = False
    ) -> list[tuple[object, ...]]:
        rows = self._rows
        is_named = Condition(rows.key, "=", name)
        columns = [rows.user, rows.value]
        return self.db.select(
            self._table.name, columns, [is_named, *where], limit=limit, for_update=for_update
        )

    def where(self, name: str, *, for_update: bool = False) -> Where:
        known = self.resolve(name)
        maps = self._load([Condition(self._rows.value, "contains", f'"{known}"')], for_update=for_update)
        return self._where_users(user for user, flags in maps.items() if known in self._select_roles(flags))

    def _where_users(self, users: Iterator[object]) -> Where:
        keys = list(users)
        return Condition(self.id, "in", keys) if keys else AnyOf([])

    def where_unknown(self) -> Where:
        return self._where_users(user for user, flags in self._load([]).items() if flags is None)

    def count_users(self, *, with_others: bool = False) -> Mapping[object, int]:
        maps = self._load([] if with_others else [self.where_users(self._rows.user)])
        roles = [name for flags in maps.values() for name in self._select_roles(flags)]
        return {name: roles.count(name) for name in self.keys.values()}

    def count_rows(self, assignments: Sequence[Assignment]) -> dict[str, int]:
        return {self._table.name: len(list(self._list_changes(assignments)))}

    def _load_for_change(self, assignments: Sequence[Assignment]) -> dict[object, dict[str, bool]]:
        maps = self._load([Condition(self._rows.user, "in", [item.user for item in assignments])])
        for user, flags in maps.items():
            if flags is None:
                row = f"{self._rows.name} of user {user} in {self._table.name}"
                raise RoleStoredError(target=self.db.target, row=row)
        return {user: flags or {} for user, flags in maps.items()}

    def _list_changes(self, assignments: Sequence[Assignment]) -> Iterator[tuple[object, str, str]]:
        """Yield the user, the name and the new value of each row that changes."""
        rows, maps = self._rows, self._load_for_change(assignments)
        users = Condition(rows.user, "in", [item.user for item in assignments])
        levels = {(user, read_text(level)) for user, level in self._select(rows.level_name, [users])}
        for item in assignments:
            flags = maps.get(item.user, {})
            further = {name: flag for name, flag in flags.items() if name not in item.removed}
            yield item.user, rows.name, dump_php(further | dict.fromkeys(item.after, True))
            level = str(max((rows.levels.get(name, 0) for name in item.after), default=0))
            if rows.level_name and (item.user, level) not in levels:
                yield item.user, rows.level_name, level

    def write(self, db: Writable, assignments: Sequence[Assignment]) -> None:
        for user, name, value in list(self._list_changes(assignments)):
            self._store(db, user, name, value)

    def _store(self, db: Writable, user: object, name: str, value: str) -> None:
        rows = self._rows
        where = [Condition(rows.user, "=", user), Condition(rows.key, "=", name)]
        if not write_rows(db, rows.table, where, {rows.value: value}):
            db.insert(rows.table, {rows.user: user, rows.key: name, rows.value: value})

    def has_only_unknown_roles(self) -> bool:
        rows = self._select(self._rows.name, [], limit=SAMPLE_ROWS)
        return bool(rows) and all(_parse(value) is None for _, value in rows)


def _parse(value: object) -> dict[str, bool] | None:
    """Return the map in a stored value; None: it is not a simple map."""
    try:
        return load_flags(read_text(value)) if value else {}
    except ValueError:
        return None
