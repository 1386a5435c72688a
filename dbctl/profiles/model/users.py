"""Sections about users, roles and passwords."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.profiles.codecs import HashCodec, KeyCodec, TimeCodec
from dbctl.profiles.model.base import (
    ColumnName,
    ColumnNames,
    Constant,
    DatabaseReference,
    RowPath,
    Section,
    SubjectColumn,
    TableName,
)
from dbctl.profiles.model.databases import Key

#: Formats of text, checked by ``dbctl.profiles.formats``.
TextFormat = Literal["email", "cron", "url", "time-zone"]


class Rule(Section, frozen=True, kw_only=True):
    """The values that the app accepts."""

    length: tuple[int, int] | None = None  #: minimum and maximum number of characters
    bytes: int | None = None  #: maximum number of bytes in UTF-8
    format: TextFormat | None = None  #: ``cron``: five fields, or six with seconds first
    values: Sequence[Constant] = ()  #: allowed values; empty: any


class Password(Section, frozen=True, kw_only=True):
    """The column and hash format of passwords."""

    column: SubjectColumn
    codec: HashCodec = "bcrypt"
    cost: Annotated[int, msgspec.Meta(ge=4, le=31)] = 10
    #: values that the app stores for accounts without password sign-in; ``*``: any text
    unusable: Sequence[str] = ()


class UserRole(Section, frozen=True, kw_only=True):
    """The column of a user's role: the key of a row in another table, or the role's name."""

    column: SubjectColumn
    table: TableName = ""
    key: ColumnName = "id"
    name: ColumnName = "name"
    values: Sequence[str] = ()  #: the names of the roles, without a table
    default: str = ""  #: the default role of a new user


class SignInTable(Section, frozen=True, kw_only=True):
    """A table with the sign-in tokens of users; dbctl ends a sign-in by new values, or deletes the rows."""

    table: TableName  #: optional with a trailing ``?``
    user: ColumnName
    on_end: Mapping[ColumnName, Constant] = {}
    expires_at: ColumnNames = "expires_at?"
    token: ColumnNames = "token?"  # noqa: S105 - a column  #: the token, a secret


class SettingOrDefault(Section, frozen=True, kw_only=True):
    """An integer that the app reads from a system setting, with a default."""

    from_: str = msgspec.field(name="from", default="")
    default: int = msgspec.field(name="else")


class Lockout(Section, frozen=True, kw_only=True):
    """The table of failed sign-ins, with the login as the user typed it."""

    table: TableName
    login: ColumnName
    address: ColumnNames | None = None
    failed: Mapping[ColumnName, Constant]
    attempted_at: ColumnName  #: the time of the attempt
    limit: SettingOrDefault  #: failed attempts per login or address before the app locks it
    minutes: SettingOrDefault  #: how long an attempt is counted
    #: the format of the time with which the app compares ``attempted_at`` as text
    compared: TimeCodec | None = None


class NewSetting(Section, frozen=True, kw_only=True):
    """A user setting that the app adds for a new user: the value of a system setting, or a constant."""

    #: keys of the system setting; the first that exists is used
    from_: Sequence[str] = msgspec.field(name="from", default=())
    needs: str = ""  #: ``table.column``: only variants of the app with this column add the setting
    default: str = msgspec.field(name="else", default="")


class StatisticsRow(Section, frozen=True, kw_only=True):
    """A table with one row of statistics per user."""

    table: TableName
    user: ColumnName
    columns: Sequence[ColumnName]


class Lookup(Section, frozen=True, kw_only=True):
    """A field with the key of a row in another table, or with plain text."""

    table: TableName
    key: ColumnName = "id"
    name: ColumnName = "name"  #: the column with the name of a row


class Transfer(Section, frozen=True, kw_only=True):
    """Rows that can be transferred to another user when their owner is deleted."""

    table: TableName  #: optional with a trailing ``?``
    column: ColumnName  #: the column with the user
    #: columns that are unique together with the user: if the other user has a row with the same values, that row is retained
    #: and this one is deleted; columns with a trailing ``?`` are optional
    once: Sequence[ColumnName] = ()


class Users(Section, frozen=True, kw_only=True):
    """Users: their table, keys, logins, and the values that the app accepts."""

    database: DatabaseReference = ""
    table: TableName
    id: Key
    login: Sequence[str]  #: fields that a user may type to sign in
    #: how the app compares logins; ``exact``: ``Ida`` and ``ida`` differ
    match: Literal["nocase", "exact"] = "nocase"
    fields: Mapping[str, ColumnNames]  #: field name to column
    rules: Mapping[str, Rule] = {}
    password: Password | None = None
    role: UserRole | None = None
    admin: str = ""  #: the role that at least one active user must have
    new: Mapping[str, Constant] = {}  #: values of required columns without a field
    #: ``table.column``: rows that are deleted before their user, in this order, regardless of foreign keys;
    #: ``Rating.promptId -> Prompt.userId`` for rows that belong to rows of the user
    cascade: Sequence[RowPath] = ()
    transfer: Sequence[Transfer] = ()
    lookup: Mapping[str, Lookup] = {}  #: by field
    cookie: str = ""  #: how long a signed cookie is valid, if the app stores no sign-in
    signed_in: Sequence[SignInTable] = ()
    lockout: Lockout | None = None
    statistics: StatisticsRow | None = None
    counts: Mapping[str, RowPath] = {}  #: rows counted per user, by name; with the syntax of ``cascade``
    new_settings: Mapping[str, NewSetting] = {}


class Link(Section, frozen=True, kw_only=True):
    """A table of pairs: role and permission."""

    table: TableName
    role: ColumnName
    permission: ColumnName


class Permissions(Section, frozen=True, kw_only=True):
    """Permissions, and the table that links them to roles."""

    table: TableName
    key: ColumnName = "id"
    name: ColumnName
    description: ColumnNames = "description?"
    resource: ColumnNames = "resource?"
    action: ColumnNames = "action?"
    link: Link


class BuiltIn(Section, frozen=True, kw_only=True):
    """Roles that the app relies on."""

    ids: Sequence[int | str] = ()
    names: Sequence[str] = ()
    #: by id or name of such a role, its permissions; ``*``: any text, and a trailing ``?`` marks an optional permission.
    #: For a role without entry, dbctl neither adds nor removes permissions.
    permissions: Mapping[str, Sequence[str]] = {}


class Roles(Section, frozen=True, kw_only=True):
    """Roles as rows of a table."""

    table: TableName
    key: ColumnName = "id"
    codec: KeyCodec = "autoincrement"
    fields: Mapping[str, ColumnNames]
    rules: Mapping[str, Rule] = {}
    built_in: BuiltIn = BuiltIn()
    permissions: Permissions | None = None
    cache: str = ""  #: how long a running app may use the old permissions
