"""What a profile can say about users, roles, and passwords."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.profiles.codecs import HashCodec, KeyCodec, TimeCodec
from dbctl.profiles.model.base import Constant, Name, Section
from dbctl.profiles.model.databases import Key

#: Forms of text; ``formats`` judges them.
TextFormat = Literal["email", "cron", "url", "time-zone"]


class Rule(Section, frozen=True, kw_only=True):
    """What the app accepts as a value."""

    length: tuple[int, int] | None = None  #: characters, both ends included
    bytes: int | None = None  #: of UTF-8, at most
    format: TextFormat | None = None  #: ``cron``: five fields, or six where the first is for seconds
    values: Sequence[Constant] = ()  #: every value that the app knows; empty: any


class Password(Section, frozen=True, kw_only=True):
    """Where and how a password is stored."""

    column: str
    codec: HashCodec = "bcrypt"  #: the one format of what the column may hold
    cost: Annotated[int, msgspec.Meta(ge=4, le=31)] = 10
    #: what the app itself stores for an account with which nobody can sign in; ``*`` stands for any text
    unusable: Sequence[str] = ()


class UserRole(Section, frozen=True, kw_only=True):
    """What ties a user to a role: a key of another table, or the role's name itself."""

    column: str
    table: str = ""
    key: str = "id"
    name: str = "name"
    values: Sequence[str] = ()  #: the roles there are, where no table lists them
    default: str = ""  #: the role of a new user, where none is asked for


class SignedIn(Section, frozen=True, kw_only=True):
    """What keeps a user signed in, and what ends it: new values for its rows, else their deletion."""

    table: str  #: one that ends in ``?`` may be missing
    user: str
    end: Mapping[str, Constant] = {}
    expires_at: Name = "expires_at?"
    token: Name = "token?"  # noqa: S105 - a column  #: what it keeps them signed in by, a secret


class SettingOrDefault(Section, frozen=True, kw_only=True):
    """A whole number that an app takes from a system setting, or a constant where it finds none."""

    from_: str = msgspec.field(name="from", default="")
    otherwise: int = msgspec.field(name="else")


class Lockout(Section, frozen=True, kw_only=True):
    """Failed attempts to sign in, stored under the login as it was typed."""

    table: str
    login: str
    address: Name | None = None
    failed: Mapping[str, Constant]
    at: str  #: when it was
    limit: SettingOrDefault  #: attempts of one login, or from one address, after which the app refuses further ones
    minutes: SettingOrDefault  #: how long an attempt counts
    compared: TimeCodec | None = None  #: the form of the moment that the app compares ``at`` with, as text


class NewSetting(Section, frozen=True, kw_only=True):
    """A user setting that the app gives a user who registers: a system setting's value, else a constant."""

    #: keys of the system setting in each variant of the app, of which the first that is there counts
    from_: Sequence[str] = msgspec.field(name="from", default=())
    needs: str = ""  #: ``table.column`` that the variants which give it have
    otherwise: str = msgspec.field(name="else", default="")


class StatisticsRow(Section, frozen=True, kw_only=True):
    """One row of figures about each user."""

    table: str
    user: str
    columns: Sequence[str]


class Lookup(Section, frozen=True, kw_only=True):
    """A field that holds the key of a row elsewhere, or plain text where no row has that key."""

    table: str
    key: str = "id"
    name: str = "name"  #: what a person calls such a row


class Transfer(Section, frozen=True, kw_only=True):
    """Rows that another user can take over when their own one goes."""

    table: str  #: one that ends in ``?`` may be missing
    column: str  #: the user that they belong to
    #: with the user unique: where the other one has such a row, it stays, and this one goes; of columns that end in ``?``,
    #: those that are there count
    once: Sequence[str] = ()


class Users(Section, frozen=True, kw_only=True):
    """Users: their table, what identifies them, what the app accepts."""

    database: str = ""
    table: str
    id: Key
    login: Sequence[str]  #: fields that a person may type
    match: Literal["nocase", "exact"] = (
        "nocase"  #: how the app tells two logins apart; ``exact``: ``Ida`` and ``ida`` are two users
    )
    fields: Mapping[str, Name]  #: dbctl's word, or the app's own, to column
    rules: Mapping[str, Rule] = {}
    password: Password | None = None
    role: UserRole | None = None
    admin: str = ""  #: the role of which one active holder must always remain
    new: Mapping[str, Constant] = {}  #: for required columns that no field maps
    #: ``table.column``: rows that go with a user before they go themselves, in this order, whatever foreign keys say;
    #: ``Rating.promptId -> Prompt.userId`` for those of what is theirs
    owns: Sequence[str] = ()
    transfer: Sequence[Transfer] = ()
    lookup: Mapping[str, Lookup] = {}  #: by field
    cookie: str = (
        ""  #: how long a signed cookie goes on saying who somebody is; nothing that is stored ends it
    )
    signed_in: Sequence[SignedIn] = ()
    lockout: Lockout | None = None
    statistics: StatisticsRow | None = None
    counts: Mapping[
        str, str
    ] = {}  #: what is counted of each user, in the app's words: rows named as in ``owns``
    new_settings: Mapping[str, NewSetting] = {}


class Link(Section, frozen=True, kw_only=True):
    """A table of pairs: role and permission."""

    table: str
    role: str
    permission: str


class Permissions(Section, frozen=True, kw_only=True):
    """Permissions, and the table that gives them to roles."""

    table: str
    key: str = "id"
    name: str
    description: Name = "description?"
    resource: Name = "resource?"
    action: Name = "action?"
    link: Link


class BuiltIn(Section, frozen=True, kw_only=True):
    """Roles that the app relies on."""

    ids: Sequence[int | str] = ()
    names: Sequence[str] = ()
    #: by id or name of such a role, the permissions that the app gives it; ``*`` stands for any text, and a permission
    #: that ends in ``?`` may be missing. Without this, dbctl neither adds nor removes any permission of the role.
    permissions: Mapping[str, Sequence[str]] = {}


class Roles(Section, frozen=True, kw_only=True):
    """Roles as rows of a table."""

    table: str
    key: str = "id"
    codec: KeyCodec = "autoincrement"
    fields: Mapping[str, Name]
    rules: Mapping[str, Rule] = {}
    built_in: BuiltIn = BuiltIn()
    permissions: Permissions | None = None
    cache: str = ""  #: how long a running app may still see the old permissions
