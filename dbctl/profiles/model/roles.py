"""Sections about roles: how an app stores the roles of its users, and the permissions of roles."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from dbctl.profiles.codecs import KeyCodec
from dbctl.profiles.model.base import (
    ColumnName,
    ColumnNames,
    Constant,
    ExpectedValue,
    Lookup,
    Rule,
    Section,
    SubjectColumn,
    TableName,
)
from dbctl.profiles.model.databases import Key


class Rank(Section, frozen=True, kw_only=True):
    """A role that several columns of a user's row store together."""

    name: str  #: the name of the role
    #: the values that the role has, and that dbctl writes, by column
    columns: Mapping[SubjectColumn, Constant]
    match: Sequence[str] = ()  #: the columns that decide whether a user has the role; empty: all


class GroupGrant(Section, frozen=True, kw_only=True):
    """A table of pairs, group and role: the members of a group have its roles."""

    table: TableName  #: the table of pairs; optional with a trailing ``?``
    group: ColumnName  #: the column with the key of the group
    role: ColumnName  #: the column with the key of the role, as in the table of users and roles


class GroupMembership(Section, frozen=True, kw_only=True):
    """A table of pairs, user and group, in apps whose groups have roles; dbctl reads them, and the app changes them."""

    table: TableName  #: the table of pairs; optional with a trailing ``?``
    user: ColumnName  #: the column with the key of the user
    group: ColumnName  #: the column with the key of the group
    grants: GroupGrant  #: the roles of groups


class Membership(Section, frozen=True, kw_only=True):
    """A table of pairs, user and role: a user may have several roles."""

    table: TableName  #: the table of pairs
    id: Key | None = None  #: its primary key, if the database does not create it
    user: ColumnName  #: the column with the key of the user
    role: ColumnName  #: the column with the key of the role, or with its name
    roles: Lookup | None = None  #: the table of roles; without it, the column contains the name
    where: Mapping[ColumnName, ExpectedValue] = {}  #: rows with other values give no role; ``:null`` is NULL
    #: values of rows whose role does not expire; rows with other values do not count as the last admin
    lasting: Mapping[ColumnName, ExpectedValue] = {}
    #: values of further columns of a new row; ``:next(role_id)`` is the largest number among the rows with the same ``role_id`` plus one
    new: Mapping[ColumnName, Constant] = {}
    groups: GroupMembership | None = None  #: groups whose members have roles, besides those of this table


class RoleMetadata(Section, frozen=True, kw_only=True):
    """A table with several rows per user, one of which contains the roles of the user."""

    table: TableName  #: the table of metadata
    user: ColumnName  #: the column with the key of the user
    key: ColumnName  #: the column with the name of a row
    value: ColumnName  #: the column with its value
    name: str  #: the name of the row with the roles
    #: ``php-map``: a map in PHP's serialization, whose keys are the roles, with true as value
    format: Literal["php-map"] = "php-map"
    level_name: str = ""  #: the name of a row with a number that the app derives from the roles
    #: that number, by role; the highest of a user's roles is stored, without roles 0
    levels: Mapping[str, int] = {}


class UserRole(Section, frozen=True, kw_only=True):
    """How an app stores the roles of users.

    Each app has one of four forms: ``column`` (a role's name, a labelled value, or the key of a row in ``table``), ``ranks``
    (several columns), ``members`` (a table of pairs) or ``metadata`` (a row of a table of metadata). ``members`` may be
    combined with ``ranks``: users have one rank, and are members of any number of groups.
    """

    column: SubjectColumn = ""  #: the column of the table of users
    table: TableName = ""  #: the table of roles; empty: the column contains the name of the role
    key: ColumnName = "id"  #: the column of ``table`` to which the column refers
    name: ColumnName = "name"  #: the column of ``table`` with the name of the role
    #: by stored value, the name of the role: ``{ true = "admin", false = "user" }``; numbers and texts are possible, too
    labels: Mapping[str, str] = {}
    #: by role, the bits of the number in ``column`` that it has: a user has the first role whose bits are all set, and a change keeps
    #: the bits of no role; ``{ admin = 1, user = 0 }``
    bits: Mapping[str, int] = {}
    ranks: Sequence[Rank] = ()  #: roles in several columns; a user has the first rank that matches
    members: Membership | None = None  #: the table of pairs: user and role
    metadata: RoleMetadata | None = None  #: the row of metadata
    values: Sequence[str] = ()  #: the names of the roles, if no table, labels or ranks list them
    default: str = ""  #: the default role of a new user
    #: the role that exactly one user has, such as the owner: ``users set-role --demote-to`` transfers it
    exclusive: str = ""
    #: by role, the permissions that the app's code grants it; ``posts.*`` and ``*`` match every name of that form
    permissions: Mapping[str, Sequence[str]] = {}

    @property
    def role_table(self) -> str:
        """The table of roles; empty if the app has none."""
        return self.members.roles.table if self.members and self.members.roles else self.table


def validate_user_role(role: UserRole) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield the contradictions in a section, with their keys below it."""
    forms = [name for name in ("column", "ranks", "metadata", "members") if getattr(role, name)]
    if not forms:
        yield (), "it requires column, ranks, members or metadata"
    if len(forms) > 1 and forms != ["ranks", "members"]:
        yield (forms[1],), f"it contradicts {forms[0]}: roles are stored in one of them"
    for key in ("table", "labels", "bits"):
        if getattr(role, key) and not role.column:
            yield (key,), "it requires column"
    if role.table and role.labels:
        yield ("labels",), f"the names of roles are in {role.table}"
    if role.bits and (role.labels or role.table):
        yield ("bits",), "it contradicts labels and table"
    if role.values and (owner := _find_names(role)):
        yield ("values",), f"the names of roles are in {owner}"
    if role.exclusive and role.exclusive == role.default:
        yield ("exclusive",), "only one user has this role, so it is no default"
    yield from _validate_ranks(role.ranks)
    if role.metadata:
        yield from _validate_metadata(role, role.metadata)
    yield from _validate_names(role)
    yield from _validate_bits(role.bits)


def _validate_bits(bits: Mapping[str, int]) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield the roles that no user has, because an earlier one has none but their bits."""
    for index, (name, number) in enumerate(bits.items()):
        if number < 0:
            yield ("bits", name), "it is negative"
        for other, earlier in list(bits.items())[:index]:
            if earlier & number == earlier:
                yield ("bits", name), f"no user has this role, because {other} precedes it"


def _validate_metadata(role: UserRole, metadata: RoleMetadata) -> Iterator[tuple[Sequence[str | int], str]]:
    if bool(metadata.level_name) != bool(metadata.levels):
        key = "levels" if metadata.levels else "level_name"
        yield ("metadata", key), "level_name and levels require each other"
    if not role.values:
        yield ("metadata",), "it requires the names of the roles in values"
    for name in metadata.levels:
        if role.values and name not in role.values:
            yield ("metadata", "levels", name), f"{name} is none of the roles: {', '.join(role.values)}"


def _validate_names(role: UserRole) -> Iterator[tuple[Sequence[str | int], str]]:
    names = [*role.labels.values(), *(rank.name for rank in role.ranks)]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield ("labels" if role.labels else "ranks",), f"{name} is a duplicate"
    known = list_role_names(role)
    for name in role.permissions:
        if known and name not in known:
            yield ("permissions", name), f"{name} is none of the roles: {', '.join(known)}"


def list_role_names(role: UserRole) -> Sequence[str]:
    """Return the names of the roles that the profile lists; empty if the database has further roles."""
    if role.members and (role.members.roles or not role.values):
        return ()
    return [*(role.labels.values() or role.bits or role.values), *(rank.name for rank in role.ranks)]


def _find_names(role: UserRole) -> str:
    """Return where the names of the roles are, if not in ``values``."""
    if role.labels or role.bits or (role.ranks and not role.members):
        return "labels" if role.labels else "bits" if role.bits else "ranks"
    return role.role_table


def _validate_ranks(ranks: Sequence[Rank]) -> Iterator[tuple[Sequence[str | int], str]]:
    for index, rank in enumerate(ranks):
        if rank.columns.keys() != ranks[0].columns.keys() or not rank.columns:
            yield ("ranks", index, "columns"), "each rank requires a value for the same columns"
        for column in rank.match:
            if column not in rank.columns:
                yield ("ranks", index, "match"), f"{column} is not in columns"


class Link(Section, frozen=True, kw_only=True):
    """A table of pairs: role and permission."""

    table: TableName  #: the table of grants
    role: ColumnName  #: the column with the key of the role
    permission: ColumnName  #: the column with the key of the permission


class NamePart(Section, frozen=True, kw_only=True):
    """A part of a name: the value of a column, or the name of the row in another table to which the column refers."""

    column: SubjectColumn  #: the column
    table: TableName = ""  #: the other table; empty: the column contains the part
    key: ColumnName = "id"  #: the column of ``table`` to which the column refers
    name: ColumnName = "name"  #: the column of ``table`` with the part


class UserLink(Section, frozen=True, kw_only=True):
    """A table of pairs: user and permission."""

    table: TableName  #: the table of grants
    user: ColumnName  #: the column with the key of the user
    permission: ColumnName  #: the column with the key of the permission


class Permissions(Section, frozen=True, kw_only=True):
    """Permissions, and the table that links them to roles."""

    table: TableName  #: the table of permissions
    key: ColumnName = "id"  #: its primary key
    name: ColumnName = ""  #: the column with the name of the permission
    #: the parts of the name, if no column contains it: ``auth.add_user`` of Django
    parts: Sequence[NamePart] = ()
    separator: str = "."  #: the text between ``parts``
    description: ColumnNames = "description?"  #: the column with the description
    resource: ColumnNames = "resource?"  #: the column with the resource to which the permission applies
    action: ColumnNames = "action?"  #: the column with the action that it allows
    link: Link  #: the table that grants permissions to roles
    user_link: UserLink | None = None  #: the table that grants permissions to users, which dbctl reads


class BuiltIn(Section, frozen=True, kw_only=True):
    """Roles that the app relies on."""

    ids: Sequence[int | str] = ()  #: keys of the roles
    names: Sequence[str] = ()  #: names of the roles
    #: by id or name of such a role, its permissions; ``*``: any text, and a trailing ``?`` marks an optional permission.
    #: For a role without entry, dbctl neither adds nor removes permissions.
    permissions: Mapping[str, Sequence[str]] = {}


class Roles(Section, frozen=True, kw_only=True):
    """Roles as rows of a table."""

    table: TableName  #: the table of roles
    key: ColumnName = "id"  #: the primary key
    codec: KeyCodec = "autoincrement"  #: how dbctl creates the key of a new role
    fields: Mapping[str, ColumnNames]  #: field name to column; ``name`` is required
    rules: Mapping[str, Rule] = {}  #: the values that the app accepts, by field
    built_in: BuiltIn = BuiltIn()  #: roles that dbctl does not delete or rename
    permissions: Permissions | None = None  #: permissions of roles; without it, roles have no permissions
    cache: str = ""  #: how long a running app may use the old permissions
