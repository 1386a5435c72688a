"""Roles in a table of pairs, user and role: users may have several roles, or one rank in columns and any number of groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from msgspec import structs

from dbctl.engines.contract.database import AllOf, AnyOf, Condition, InSubquery, Not, Where, Writable
from dbctl.errors.users import RoleInheritedError
from dbctl.model import Row, group
from dbctl.profiles.codecs import KEYS, read_text
from dbctl.profiles.model.roles import GroupMembership, Membership
from dbctl.services.app.live_table import LiveTable, list_uncovered
from dbctl.services.app.row_writes import write_rows
from dbctl.services.app.user_roles.columns import Ranks
from dbctl.services.app.user_roles.form import SAMPLE_ROWS, Assignment, Problem, RoleAction, RoleForm


class Members(RoleForm):
    """A table of pairs."""

    has_several = has_rows = True

    @property
    def tables(self) -> Sequence[str]:
        groups = self._groups
        inherited = [groups.table, groups.grants.table] if groups else []
        return [*super().tables, self._membership.table, *inherited]

    @cached_property
    def _pairs(self) -> LiveTable:
        return LiveTable(self.live.profile, self.db, self._membership.table, "the roles of users")

    @property
    def _membership(self) -> Membership:
        assert self.section.members is not None  # noqa: S101 - the form is created for this section only
        return self.section.members

    @cached_property
    def _where_valid(self) -> list[Where]:
        return list(self._pairs.conditions(self._membership.where))

    @cached_property
    def _groups(self) -> GroupMembership | None:
        """The groups whose members have roles; None if the database has none."""
        groups, tables = self._membership.groups, self.db.tables()
        if (
            groups is None
            or not {groups.table.removesuffix("?"), groups.grants.table.removesuffix("?")} <= tables.keys()
        ):
            return None
        return structs.replace(
            groups,
            table=groups.table.removesuffix("?"),
            grants=structs.replace(groups.grants, table=groups.grants.table.removesuffix("?")),
        )

    @cached_property
    def keys(self) -> Mapping[object, str]:
        roles = self._membership.roles
        if roles:
            return {
                key: read_text(name) for key, name in self.db.select(roles.table, [roles.key, roles.name])
            }
        stored = {read_text(key): key for key in self.db.count_by(self._pairs.name, self._membership.role)}
        names = self.section.values or stored
        return {stored.get(name, name): name for name in names}

    def read(self, rows: Sequence[Row]) -> list[list[str]]:
        member = self._membership
        is_member = Condition(member.user, "in", [row[self.id] for row in rows])
        pairs = self.db.select(self._pairs.name, [member.user, member.role], [is_member, *self._where_valid])
        roles = dict[object, set[object]]()
        for user, key in [*pairs, *self._read_inherited([row[self.id] for row in rows])]:
            roles.setdefault(user, set()).add(key)
        return [self._sort_names(roles.get(row[self.id], set())) for row in rows]

    def _read_inherited(self, users: Sequence[object]) -> list[tuple[object, object]]:
        """Return the keys of users and of the roles that they have as members of groups."""
        groups = self._groups
        if groups is None:
            return []
        is_member = Condition(groups.user, "in", users)
        memberships = self.db.select(groups.table, [groups.user, groups.group], [is_member])
        grants = groups.grants
        has_members = Condition(grants.group, "in", list({key for _, key in memberships}))
        granted = self.db.select(grants.table, [grants.group, grants.role], [has_members])
        roles = group((key, role) for key, role in granted)
        return [(user, role) for user, key in memberships for role in roles.get(key, ())]

    def _sort_names(self, keys: set[object]) -> list[str]:
        known = [name for key, name in self.keys.items() if key in keys]
        return known + sorted(self.name_of(key) for key in keys if key not in self.keys)

    def where(self, name: str, *, for_update: bool = False) -> Where:
        return self._where_role(name, self._where_valid, for_update=for_update)

    def where_lasting(self, name: str, *, for_update: bool = False) -> Where:
        lasting = [*self._where_valid, *self._pairs.conditions(self._membership.lasting)]
        return self._where_role(name, lasting, for_update=for_update)

    def _where_role(self, name: str, where_pair: Sequence[Where], *, for_update: bool) -> Where:
        member = self._membership
        has_role = [Condition(member.role, "=", self.key_of(name)), *where_pair]
        if for_update:  # the app may delete the pair of another user concurrently
            self.db.select(self._pairs.name, [member.user], has_role, for_update=True)
        is_member: Where = InSubquery([self.id], self._pairs.name, [member.user], has_role)
        groups = self._groups
        if groups is None:
            return is_member
        grants = groups.grants
        grants_role = [Condition(grants.role, "=", self.key_of(name))]
        has_group = [InSubquery([groups.group], grants.table, [grants.group], grants_role)]
        if for_update:
            self.db.select(grants.table, [grants.role], grants_role, for_update=True)
            self.db.select(groups.table, [groups.user], has_group, for_update=True)
        return AnyOf([is_member, InSubquery([self.id], groups.table, [groups.user], has_group)])

    def where_unknown(self) -> Where:
        member = self._membership
        is_unknown = Not(Condition(member.role, "in", list(self.keys)))
        return InSubquery([self.id], self._pairs.name, [member.user], [is_unknown, *self._where_valid])

    def count_users(self, *, with_others: bool = False) -> Mapping[object, int]:
        if self._groups:  # a user may have a role directly and as a member of several groups
            return super().count_users(with_others=with_others)
        return self._count_pairs([] if with_others else [self.where_users(self._membership.user)])

    def _count_pairs(self, only: Sequence[Where] = ()) -> Mapping[object, int]:
        return self.db.count_by(self._pairs.name, self._membership.role, [*self._where_valid, *only])

    def count_rows(self, assignments: Sequence[Assignment]) -> dict[str, int]:
        self._refuse_inherited(assignments)
        removed = self.where_removed(assignments).get(self._pairs.name, ())
        row_count = sum(len(item.added) for item in assignments)
        row_count += self.db.count(self._pairs.name, [AnyOf(removed)]) if removed else 0
        return {self._pairs.name: row_count} if row_count else {}

    def _refuse_inherited(self, assignments: Sequence[Assignment]) -> None:
        """Refuse to remove roles that users have as members of groups: they would retain them."""
        removed = {item.user: item.removed for item in assignments if item.removed}
        for user, key in self._read_inherited(list(removed)) if removed else ():
            if (name := self.name_of(key)) in removed[user]:
                table = self._groups.table if self._groups else ""
                raise RoleInheritedError(target=self.db.target, user=user, role=name, table=table)

    def where_removed(self, assignments: Sequence[Assignment]) -> dict[str, list[Where]]:
        member, users = self._membership, dict[tuple[str, ...], list[object]]()
        for item in assignments:
            if item.removed:
                users.setdefault(tuple(item.removed), []).append(item.user)
        stored = {key: self.name_of(key) for key in self._count_pairs()} if users else {}
        conditions: list[Where] = []
        for removed, ids in users.items():
            keys = [key for key, name in stored.items() if name in removed]
            is_removed = [Condition(member.user, "in", ids), Condition(member.role, "in", keys)]
            conditions.append(AllOf([*is_removed, *self._where_valid]))
        return {member.table: conditions} if conditions else {}

    def write(self, db: Writable, assignments: Sequence[Assignment]) -> None:
        member, removed = self._membership, self.where_removed(assignments)
        for table, where in removed.items():
            write_rows(db, table, [AnyOf(where)])
        for item in assignments:
            for name in item.added:
                db.insert(member.table, self._create_pair(item.user, self.key_of(name)))

    def _create_pair(self, user: object, role: object) -> dict[str, object]:
        member = self._membership
        pair = {**self._pairs.encode_constants(member.new), member.user: user, member.role: role}
        if any(str(value).startswith(":next") for value in member.new.values()):
            from dbctl.services.app.row_writes import count_up

            pair |= count_up(self._pairs, member.new, pair)
        generator = KEYS[member.id.codec] if member.id else None
        return {**pair, member.id.column: generator()} if member.id and generator else pair

    def find_type_problems(self) -> Iterator[Problem]:
        member = self._membership
        missing = list_uncovered(self._pairs.table, set(self._create_pair(None, None)))
        for name in missing:
            yield (
                ("role", "members", "new"),
                f"{member.table}.{name} requires a value, but the profile has none",
            )

    def has_only_unknown_roles(self) -> bool:
        rows = self.db.select(self._pairs.name, [self._membership.role], self._where_valid, limit=SAMPLE_ROWS)
        return bool(rows) and not any(key in self.keys for (key,) in rows)


class _Groups(Members):
    """Members of groups; a group with the name of a rank has another name here, so that commands distinguish the two."""

    @cached_property
    def keys(self) -> Mapping[object, str]:
        ranks = {rank.name.casefold() for rank in self.section.ranks}
        return {
            key: f"{name} (group)" if name.casefold() in ranks else name for key, name in super().keys.items()
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

    @cached_property
    def keys(self) -> Mapping[object, str]:
        groups = {key: name for key, name in self._members.keys.items() if not self._is_rank(name)}
        return {**self._ranks.keys, **groups}

    def _is_rank(self, name: str) -> bool:
        return name in self._ranks.keys.values()

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
        groups = [name for name in names if name in self._members.keys.values() and not self._is_rank(name)]
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
