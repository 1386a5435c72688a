"""Sections about users and passwords."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.model import TimeForm
from dbctl.profiles.codecs import HashFormat, PayloadCodec
from dbctl.profiles.model.base import (
    ColumnName,
    ColumnNames,
    Constant,
    DatabaseReference,
    ExpectedValue,
    Lookup,
    NewValue,
    RowPath,
    Rule,
    Section,
    SubjectColumn,
    TableName,
)
from dbctl.profiles.model.databases import Key
from dbctl.profiles.model.roles import UserRole


class PasswordKey(Section, frozen=True, kw_only=True):
    """A row with a secret key in the database of the users.

    The app hashes no password, but the base64 text of HMAC-SHA512 with this key, as Flask-Security does.
    """

    table: TableName  #: the table
    column: ColumnName  #: the column with the key, a secret
    only: Mapping[ColumnName, Constant] = {}  #: values of the row, if the table has several


class Password(Section, frozen=True, kw_only=True):
    """The columns and hash formats of passwords."""

    column: SubjectColumn
    #: columns with the first parts of the hash, such as its algorithm and its salt, if ``column`` has only the last part
    prefix_columns: Sequence[SubjectColumn] = ()
    #: the first characters of the hashes that the app writes, up to the salt: ``$2b$10$``; the name of the format if its hashes
    #: begin with the salt: ``redmine-sha1``; empty: dbctl sets no passwords
    writes: str = ""
    accepts: Sequence[HashFormat] = ()  #: further formats that the app verifies
    #: whether the app appends a secret of its configuration to passwords: ``pepper_file`` of the app in ``dbctl.toml``
    pepper: bool = False
    #: the row with the key of an HMAC that the app computes of a password before it hashes it
    hmac_key: PasswordKey | None = None
    #: the Unicode normal form of hashed passwords
    normal_form: Literal["NFC", "NFKC", "NFKD"] | None = None
    #: what the forms of the app do to a typed password: ``trimmed`` removes whitespace at its ends, ``slashed`` also writes a
    #: backslash before quotes and backslashes, as WordPress does
    typed: Literal["trimmed", "slashed"] | None = None
    #: columns of the user that change with the password, with the new value: such as ``:now``, ``:null``, ``:next`` or a constant
    also: Mapping[SubjectColumn, NewValue] = {}
    #: values that the app stores for accounts without password sign-in; ``*``: any text
    unusable: Sequence[str] = ()

    @property
    def columns(self) -> Sequence[str]:
        """The columns whose values together are a hash."""
        return (*self.prefix_columns, self.column)


class Payload(Section, frozen=True, kw_only=True):
    """A column with encoded data that contains the key of the user, in a table without a column for the user."""

    column: SubjectColumn  #: the column with the data
    codec: PayloadCodec  #: how the data is encoded: JSON, or the signed JSON of Django
    key: str  #: the name of the value in the JSON object; a dot leads into an inner object: ``passport.user``


class SignInTable(Section, frozen=True, kw_only=True):
    """A table with the sign-in tokens of users; dbctl ends a sign-in by new values, or deletes the rows."""

    table: TableName  #: the table; optional with a trailing ``?``
    user: ColumnName = ""  #: the column with the user; or ``payload``
    payload: Payload | None = None  #: a column whose data contains the user
    only: Mapping[ColumnName, ExpectedValue] = {}  #: values of the rows that are sign-ins
    #: the values that end a sign-in, by column; empty: the row is deleted
    on_end: Mapping[ColumnName, Constant] = {}
    expires_at: ColumnNames = "expires_at?"  #: the column with the time of expiry
    #: the column with the token, a secret
    token: ColumnNames = "token?"  # noqa: S105 - a column


class RowOwner(Section, frozen=True, kw_only=True):
    """A table between a row and its user: the row refers to it, and it has the key of the user."""

    table: TableName  #: the table
    key: ColumnName  #: its column to which the row refers
    user: ColumnName  #: its column with the key of the user


class SecondFactor(Section, frozen=True, kw_only=True):
    """What a user needs to sign in besides the password, in rows of a table or in columns of the user.

    ``users show`` counts it, and ``users reset-2fa`` removes it, in the order of the profile.
    """

    #: what it is: ``totp``, ``webauthn``, ``email``, ``recovery-codes``, ``trusted-devices``; several sections may have one name
    name: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]*$")]
    table: TableName  #: the table; optional with a trailing ``?``
    user: ColumnName  #: the column with the key of the user, or with that of ``owner.key``; in the table of users, the key itself
    owner: RowOwner | None = None  #: the table that has the user of a row
    only: Mapping[ColumnName, ExpectedValue] = {}  #: values of the rows that are second factors
    #: the values that remove it, by column: a row is a second factor while one of these columns has another value, and not NULL;
    #: empty: the row is deleted
    on_reset: Mapping[ColumnName, Constant] = {}
    #: the column with its secret, if the table also has rows of other kinds; otherwise it is in ``secret`` of the database
    secret: ColumnNames | None = None
    #: values of the rows for which the app asks the user; other rows are unfinished, and are removed with these
    confirmed: Mapping[ColumnName, ExpectedValue] = {}
    #: whether the app asks for it; ``false``: it accompanies others, such as recovery codes, and is removed with these
    required: bool = True

    @property
    def path(self) -> str:
        """The rows, with the syntax of ``cascade``."""
        place = f"{self.table.removesuffix('?')}.{self.user}"
        owner = self.owner
        return f"{place} -> {owner.table.removesuffix('?')}({owner.key}).{owner.user}" if owner else place


class SettingOrDefault(Section, frozen=True, kw_only=True):
    """An integer that the app reads from a system setting, with a default."""

    from_: str = msgspec.field(name="from", default="")  #: the key of the system setting
    default: int = msgspec.field(name="else")  #: the value if the setting does not exist


class Lockout(Section, frozen=True, kw_only=True):
    """The table of failed sign-ins, with the login as the user typed it."""

    table: TableName  #: the table of failed sign-ins
    login: ColumnName  #: the column with the login
    address: ColumnNames | None = None  #: the column with the network address
    failed: Mapping[ColumnName, Constant]  #: the values of a failed sign-in, by column
    attempted_at: ColumnName  #: the time of the attempt
    limit: SettingOrDefault  #: failed attempts per login or address before the app locks it
    minutes: SettingOrDefault  #: how long an attempt is counted
    #: the format of the time with which the app compares ``attempted_at`` as text
    compared: TimeForm | None = None


class NewSetting(Section, frozen=True, kw_only=True):
    """A user setting that the app adds for a new user: the value of a system setting, or a constant."""

    #: keys of the system setting; the first that exists is used
    from_: Sequence[str] = msgspec.field(name="from", default=())
    needs: str = ""  #: ``table.column``: only variants of the app with this column add the setting
    default: str = msgspec.field(name="else", default="")  #: the value if no setting of ``from`` exists


class StatisticsRow(Section, frozen=True, kw_only=True):
    """A table with one row of statistics per user."""

    table: TableName  #: the table of statistics
    user: ColumnName  #: the column with the user
    columns: Sequence[ColumnName]  #: the columns to show


class CompanionRow(Section, frozen=True, kw_only=True):
    """Rows of another table that belong to each user: dbctl adds them with the user, and deletes them with the user."""

    table: TableName  #: the table; optional with a trailing ``?``
    #: the column with the key of the user, whose rows are deleted with the user; empty: no column has it, and the rows are
    #: deleted if other rows of the user refer to them
    user: ColumnName = ""
    #: the values by column; ``{table.column}`` is a value of an earlier row of ``users.create``, ``:next`` the largest number of the
    #: column plus one, and ``:next(list_id)`` that among the rows with the same ``list_id``
    values: Mapping[ColumnName, NewValue] = {}
    #: one row for each entry, with the values of the entry besides ``values``; empty: one row
    rows: Sequence[Mapping[ColumnName, NewValue]] = ()
    #: columns of ``values``: only rows with these values are deleted with the user
    same: Sequence[ColumnName] = ()


class Transfer(Section, frozen=True, kw_only=True):
    """Rows that can be transferred to another user when their owner is deleted."""

    table: TableName  #: the table; optional with a trailing ``?``
    column: ColumnName  #: the column with the user
    #: columns that are unique together with the user: if the other user has a row with the same values, ``users delete`` refuses,
    #: or retains that row and deletes this one with ``--delete-duplicates``; columns with a trailing ``?`` are optional
    once: Sequence[ColumnName] = ()


class ActiveValues(Section, frozen=True, kw_only=True):
    """The stored values of the field ``active``, if its column is not true for active users.

    ``:null`` is NULL, and, for a column of another table, also a user without a row.
    """

    #: the values of users who can sign in; the first is stored when a user is activated
    values: Annotated[Sequence[Constant], msgspec.Meta(min_length=1)]
    #: the value that is stored when a user is deactivated; ``:now`` is the current time; without it, only the app activates
    #: and deactivates users
    inactive: Constant | None = None


class JoinedField(Section, frozen=True, kw_only=True):
    """A field of users that is a column of another table, which has at most one row for each user."""

    table: TableName  #: the other table; optional with a trailing ``?``
    column: ColumnName  #: its column with the value
    user: ColumnName  #: its column with the key of the user, with the value of ``through``, or with that of ``owner.key``
    owner: RowOwner | None = None  #: the table that has the user of a row; dbctl does not write such rows
    through: SubjectColumn = ""  #: the column of the user that refers to ``user``; empty: the key of the user
    only: Mapping[ColumnName, Constant] = {}  #: values of the row, if a user has several
    #: the column with the end of the row, which is no row afterwards; text that is no time is no end
    expires_at: ColumnName = ""


class ListedRows(Section, frozen=True, kw_only=True):
    """Rows that belong to a user, such as the groups of a user: ``users show`` lists them."""

    rows: RowPath  #: the rows; with the syntax of ``cascade``
    #: columns of the rows; a single one gives a list of values; columns with a trailing ``?`` are optional
    columns: Annotated[Sequence[str], msgspec.Meta(min_length=1)]
    order: str = ""  #: the column of the order; ``-column`` for descending
    limit: Annotated[int, msgspec.Meta(ge=1)] = 20  #: only the first rows of the order are listed


class Users(Section, frozen=True, kw_only=True):
    """Users: their table, keys, logins, and the values that the app accepts."""

    database: DatabaseReference = ""
    table: TableName  #: the table of users
    id: Key  #: the primary key
    login: Sequence[str]  #: fields that a user may type to sign in
    #: how the app compares logins; ``exact``: ``Ida`` and ``ida`` differ
    match: Literal["nocase", "exact"] = "nocase"
    fields: Mapping[str, ColumnNames]  #: field name to column
    #: without it, the column of the field ``active`` is true for active users
    active: ActiveValues | None = None
    #: values of the rows that are users, by column, if the table has other rows; new users get the first value
    only: Mapping[ColumnName, ExpectedValue] = {}
    #: values of rows that are not users, by column, such as the user that the app acts as
    excluded: Mapping[ColumnName, ExpectedValue] = {}
    #: fields in other tables, which are shown and changed like others; they are no logins and orders, and only ``active`` is a filter
    joined: Mapping[str, JoinedField] = {}
    rules: Mapping[str, Rule] = {}  #: the values that the app accepts, by field
    password: Password | None = None  #: the password; without it, dbctl sets no passwords
    role: UserRole | None = None  #: the role; without it, users have no roles
    #: the role that at least one active user must have; ``false``: the app has no admins among its users; without it, dbctl
    #: removes, deactivates and demotes no users
    admin: str | bool = ""
    #: values of columns of a new user, unless a field has a value for the column; ``{table.column}`` is a value of a row of
    #: ``create``, which is then added before the user
    new: Mapping[ColumnName, NewValue] = {}
    create: Sequence[CompanionRow] = ()  #: rows of other tables that each user has
    #: why only the app can create users, such as ``clients compute the keys of the vault``; empty: dbctl creates them
    only_app_creates: str = ""
    #: why only the app can set and check passwords, such as ``clients compute the keys of the vault from the password``
    only_app_sets_passwords: str = ""
    #: ``table.column``: rows that are deleted before their user, in this order, regardless of foreign keys;
    #: ``Rating.promptId -> Prompt.userId`` for rows that belong to rows of the user; deployments may lack the table of
    #: ``table?.column``
    cascade: Sequence[RowPath] = ()
    #: ``table.column``: columns that are set to NULL before their user is deleted; with the syntax of ``cascade``
    clear: Sequence[RowPath] = ()
    #: by ``table.column``, why rows retain the key of a deleted user, as in the app; ``users delete`` shows it in the plan
    retained: Mapping[RowPath, str] = {}
    transfer: Sequence[Transfer] = ()  #: rows for ``users delete --transfer-to``
    #: values of the row, such as an anonymous user, that gets the rows of ``transfer`` without ``--transfer-to``, by column
    successor: Mapping[ColumnName, ExpectedValue] = {}
    lookup: Mapping[str, Lookup] = {}  #: by field, the table to whose rows its values refer
    #: why only the app can delete users, such as ``another user could register the name``; empty: dbctl deletes them
    only_app_deletes: str = ""
    #: why only the app can activate and deactivate users, such as ``a block also has a log entry``; empty: dbctl does
    only_app_deactivates: str = ""
    #: how long a signed cookie or token is valid that dbctl cannot revoke, because the app does not store it
    cookie: str = ""
    #: fields that the app compares with a signed cookie in each request: their change ends these sign-ins
    checked: Sequence[Literal["password", "active", "role", "second-factor"]] = ()
    #: columns of the user that end all sign-ins by a new value, such as a security stamp (``:uuid4``), a time (``:now``) or a version of
    #: tokens (``:next``, the stored number plus one)
    on_sign_out: Mapping[ColumnName, NewValue] = {}
    #: tables with sign-ins; dbctl ends them when it changes a password or deactivates a user; with a user, it deletes the rows of tables
    #: without ``only`` and ``on_end``
    signed_in: Sequence[SignInTable] = ()
    #: what the app asks for besides the password, for ``users reset-2fa``
    second_factor: Sequence[SecondFactor] = ()
    lockout: Lockout | None = None  #: the table that locks users after failed sign-ins, for ``users unlock``
    statistics: StatisticsRow | None = None  #: a row of statistics that ``users show`` prints
    counts: Mapping[str, RowPath] = {}  #: rows counted per user, by name; with the syntax of ``cascade``
    related: Mapping[str, ListedRows] = {}  #: rows listed by ``users show``, by name
    new_settings: Mapping[str, NewSetting] = {}  #: the settings of a new user, by key

    @property
    def admin_role(self) -> str:
        """The role of admins; empty if the app has none, or if it is not known."""
        return self.admin if isinstance(self.admin, str) else ""

    def __post_init__(self) -> None:
        for key, ends, values in (
            ("signed_in", "on_end", [(rows.table, rows.on_end) for rows in self.signed_in]),
            ("second_factor", "on_reset", [(rows.table, rows.on_reset) for rows in self.second_factor]),
        ):
            for index, (table, end) in enumerate(values):
                if table.removesuffix("?") == self.table and not end:
                    raise ValueError(f"{key}[{index}]: without {ends}, it would delete users")

    @property
    def has_active(self) -> bool:
        """Whether the app stores whether users are active."""
        return "active" in (*self.fields, *self.joined)

    @property
    def can_deactivate(self) -> bool:
        """Whether dbctl activates and deactivates users, if the app stores whether they are active."""
        return not (self.only_app_deactivates or (self.active and self.active.inactive is None))

    @property
    def sign_in_tables(self) -> Collection[str]:
        """The names of the tables of ``signed_in``, in their order."""
        return dict.fromkeys(rows.table.removesuffix("?") for rows in self.signed_in)

    @property
    def rights_tables(self) -> set[str]:
        """The tables whose rows decide who is a user, who is active, and which roles users have; a database may lack some."""
        role, members = self.role, self.role.members if self.role else None
        groups = members.groups if members else None
        rows = [members, groups, groups and groups.grants, role and role.metadata, self.joined.get("active")]
        names = [self.table, role.role_table if role else "", *(item.table for item in rows if item)]
        return {name.removesuffix("?") for name in names if name}

    @property
    def owned(self) -> Sequence[str]:
        """The rows that are deleted before their user: those of ``cascade``, second factors, sign-ins, and the rows with roles."""
        members, metadata = (self.role.members, self.role.metadata) if self.role else (None, None)
        tables = [members, members.groups if members else None, metadata]
        paths = [f"{rows.table.removesuffix('?')}.{rows.user}" for rows in tables if rows]
        factors = [rows.path for rows in self.second_factor if not (rows.only or rows.on_reset)]
        sign_ins = [
            f"{rows.table.removesuffix('?')}.{rows.user.removesuffix('?')}"
            for rows in self.signed_in
            if rows.user and not (rows.only or rows.on_end)
        ]
        listed = {path.replace("?", "") for path in (*self.cascade, *self.clear, *self.retained)}
        others = [path for path in dict.fromkeys([*factors, *sign_ins, *paths]) if path not in listed]
        return [*dict.fromkeys(self.cascade), *others]
