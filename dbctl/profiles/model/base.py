"""What a profile can say. A section is an ability: an app without the section does not have it."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.config import Keep
from dbctl.model import is_span
from dbctl.profiles.codecs import BooleanCodec, Encoding, HashCodec, KeyCodec, TimeCodec
from dbctl.profiles.model.cleanup import Cleanup
from dbctl.profiles.model.environment import Environment
from dbctl.profiles.model.known_problems import Flaw, KnownSecret
from dbctl.profiles.model.rebuild import Rebuild
from dbctl.profiles.model.search import Search
from dbctl.profiles.model.semantic import Semantic
from dbctl.profiles.model.sessions import Sessions

#: A column of the live schema. ``name?`` may be missing; of several the first that exists counts.
Name = str | list[str]
#: Part of names of files, of targets (``app/database``) and of options.
DatabaseName = Annotated[str, msgspec.Meta(pattern=r"^\w[\w.-]*$")]
#: A value that a profile writes into SQL: a constant, or ``:now`` for the present moment.
Constant = str | int | float | bool


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections."""


class Key(Section, frozen=True, kw_only=True):
    """The primary key of a table, and where new ones come from."""

    column: str
    codec: KeyCodec = "autoincrement"


#: How the files of migrations are laid out; ``Migrations`` says what each means.
Format = Literal["found", "numbered", "up-down", "dbmate", "goose", "pairs", "prisma"]


class Ledger(Section, frozen=True, kw_only=True):
    """The app's own registry of applied migrations, read and written as the app does."""

    table: str
    id: Key | None = None  #: where a row's key does not come about by itself
    version: Name | None = (
        None  #: the digits that the file's name begins with; without it, the name tells which file it is
    )
    numeric: bool = False  #: the version is stored as a number: 001 as 1
    #: the name of the file without ``.sql``, or of the folder; where there is ``version``, only what follows the digits
    name: Name | None = None
    applied_at: Name = "applied_at?"  #: NULL, where there is ``started_at``: it did not come to its end
    started_at: Name | None = None  #: where an app records that one begins, too
    rolled_back_at: Name | None = None  #: NULL unless the row no longer counts; a name may then have several
    checksum: Name = "checksum?"  #: SHA-256 of the file's text, hexadecimal
    duration_ms: Name = "execution_time_ms?"
    new: Mapping[str, Constant] = {}  #: what a row has besides
    create: (
        str | Mapping[str, str]
    )  #: statements that make it where it is missing, by engine where they differ


class ForeignLedger(Section, frozen=True, kw_only=True):
    """A registry that another runner keeps: it is read, and never written."""

    runner: str  #: what it is called
    table: str = ""  #: by which it is recognised; without one, by what ``select`` answers
    has: Sequence[str] = ()  #: columns that the table must have
    #: One row for each migration: version, name, applied_at, whether it failed, what those before it count as, too
    #: (``applied``, ``baseline`` or nothing), and the checksum; what the ledger does not tell is NULL. By engine where they differ; an engine that is not named has no such ledger.
    select: str | Mapping[str, str]


#: What an app's own guidelines ask of its migrations.
Guideline = Literal["if-not-exists", "if-exists", "insert-or-ignore", "purpose", "down"]


#: In place of a ledger: the database has no migrations.
NO_LEDGER = "none"


class MigrationsShape(Section, frozen=True, kw_only=True):
    """One of the schemas that deployments of an app have, where dbctl ships migrations for several.

    Two shapes may share a folder: then one of them ends at an earlier migration than the other.
    """

    name: DatabaseName  #: for ``--shape``
    needs: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table`` or ``table.column``
    folder: DatabaseName | None = None  #: of its migrations; else the one that has its name
    until: str = ""  #: the last migration of the folder that belongs to it; else all of them do
    engines: Sequence[str] = ()  #: that have it; else all engines of the database

    @property
    def directory(self) -> str:
        """The name of the folder of its migrations."""
        return self.folder or self.name


class Migrations(Section, frozen=True, kw_only=True):
    """Where a database's migrations stand and how they are recorded.

    Formats: ``numbered``, files like ``001_name.sql`` that are run whole; ``up-down``, such files with sections that
    begin with the lines ``-- Up`` and ``-- Down``; ``dbmate`` and ``goose``, the same with the markers of these runners;
    ``pairs``, files like ``1_name.up.sql`` and ``1_name.down.sql``; ``prisma``, folders like ``20260131120000_name`` that
    hold a ``migration.sql`` (and may hold a ``down.sql``); ``found``, whichever of these the folder shows.
    """

    format: Format = "found"
    find: Sequence[
        str
    ] = ()  #: folders of the app's own files that ``init`` looks for below the app's directory
    #: what an empty database gets comes first; else the ledger's names tell, else the first whose needs exist
    shape: Sequence[MigrationsShape] = ()
    #: of the app; or the name of one of its [ledgers], of one that dbctl knows (``dbmate``, ``prisma``); or ``found``: the
    #: one that is there, else that of dbmate; or ``none``: the database has no migrations
    ledger: Ledger | str = "found"
    published: Mapping[str, Sequence[str]] = {}  #: further checksums under which the app shipped a migration
    #: by the checksum of a published text, SQL that turns what today's file makes into what that text made; where the app
    #: has removed the file since, SQL that makes what it made
    earlier: Mapping[str, str] = {}
    retired: Sequence[str] = ()  #: migrations whose files the app has removed since
    #: files to which the app gave one number by mistake: a ledger holds either of them, and the other is never run
    one_of: Sequence[Sequence[str]] = ()
    #: tables, views, triggers and columns (``table.column``) that the app makes by itself; ``*`` stands for any text
    besides: Sequence[str] = ()
    failing: Mapping[str, str] = {}  #: part of a database's refusal of a migration, and what to do about it
    guidelines: Sequence[
        Guideline
    ] = ()  #: what ``migrate lint`` asks of every file, as the app's own documents do


class Lookalike(Section, frozen=True, kw_only=True):
    """A database that is not the one it should be, and how to tell."""

    has: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: tables; one of them is enough
    says: str  #: what it is, and where to look instead


class Database(Section, frozen=True, kw_only=True):
    """One database of the app."""

    engines: Sequence[Literal["sqlite", "postgresql", "mysql", "lancedb"]]
    find: Sequence[str] = ()  #: paths that ``init`` looks for below the app's directory
    environment: Environment | None = None  #: how the app's own file of settings says where it is
    needs: Sequence[str] = ()  #: tables that tell it from another database
    lookalike: Sequence[
        Lookalike
    ] = ()  #: what it may be where it lacks one of them; the first that fits counts
    mode: Literal["read-only", "read-write"] = "read-write"
    owner: str = ""  #: who writes it, where dbctl may not
    optional: bool = False
    backup: bool = True  #: whether a backup takes it along unless told otherwise
    keys: Mapping[
        str, Name
    ] = {}  #: by table, what tells its rows apart, where the engine keeps no primary key (LanceDB)
    foreign_keys: bool = True  #: whether who writes it keeps them; else rows may point to nothing
    pragmas: Mapping[str, str] = {}  #: of every writing connection (SQLite)
    create: Mapping[str, str] = {}  #: of a file that dbctl makes (SQLite)
    secret: Sequence[
        str
    ] = ()  #: ``table.column``: shown to nobody who does not ask for secrets; ``?`` as in ``Name``
    guess_secrets: bool = (
        False  #: whether columns count as secret by their name or their values, declared or not
    )
    updated_at: Name | None = None  #: a column that says when its row was changed, in every table that has it
    migrations: Migrations | None = None
    #: what its server should be set to, by engine: numbers and sizes at least so large, anything else the same
    recommended: Mapping[Literal["postgresql", "mysql"], Mapping[str, str | int | float | bool]] = {}


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


class StandardSetting(Section, frozen=True, kw_only=True):
    """A setting that the app itself comes with: what its row is added with where it is missing."""

    value: Constant  #: its default
    type: str  #: the app's word
    schema: str = ""  #: the JSON Schema of its value, as text; it counts where its row holds none
    description: str = ""
    public: bool = False


class SettingsShape(Section, frozen=True, kw_only=True):
    """One way in which deployments key and type their settings; the first whose columns exist counts."""

    key: Name  #: one column, or category and key, which a dot joins
    type: str
    types: Mapping[str, Literal["boolean", "integer", "float", "number", "string", "json"]]
    standard: Mapping[str, StandardSetting] = {}  #: by key


class SettingsRow(Section, frozen=True, kw_only=True):
    """Settings that are the columns of one row."""

    key: str  #: the column that tells rows apart
    value: int | str  #: that of the row; one that is missing gets it
    types: Mapping[str, Literal["boolean", "integer", "float", "number", "string", "json"]]  #: by column
    defaults: Mapping[str, Constant] = {}  #: by column; what the app does while there is no row


class Settings(Section, frozen=True, kw_only=True):
    """Settings as rows, or as columns of one row: of the whole app, or of each user."""

    scope: Literal["system", "user"]
    database: str = ""
    table: str
    user: str = ""  #: scope user: the column that names the user
    key: Name | None = None  #: where no shape says it
    fields: Mapping[str, Name]
    shape: Sequence[SettingsShape] = ()
    row: SettingsRow | None = None  #: in place of key, value and shape
    #: scope user: whether ``value`` is a JSON object in the user's own row, whose keys are the settings
    object: bool = False
    open: bool = (
        False  #: scope system: whether the app takes keys that are not there yet, and does without any
    )
    true: str = "true"  #: how a boolean is written
    false: str = "false"
    rules: Mapping[str, Rule] = {}  #: of every ``key`` and every ``value``
    keys: Mapping[str, Rule] = {}  #: of the values of single settings, by key
    secret: Sequence[str] = ()  #: keys of settings that are secrets; ``*`` stands for any text
    cache: str = ""  #: how long a running app may still see the old value


class Audit(Section, frozen=True, kw_only=True):
    """The app's own record of what was done, in the database of what it is about."""

    table: str
    fields: Mapping[str, Name]  #: at, user, username, action, resource, resource_id, details
    actions: Mapping[str, str] = {}  #: dbctl's word for what was done to the app's


class States(Section, frozen=True, kw_only=True):
    """A column whose value may only be followed by certain others."""

    database: str = ""
    table: str
    column: Name
    #: what may follow each value; one that only follows others is never left, and one that is not named at all is no
    #: state: none takes it, and any may follow
    moves: Mapping[str, Sequence[str]]
    severity: Literal["info", "warning", "error"] = "warning"  #: of a row that holds no state
    hint: str = ""  #: said to whom a move is refused


class Values(Section, frozen=True, kw_only=True):
    """A column that holds one of some values, or NULL, where the database itself takes others."""

    database: str = ""
    table: str  #: one that ends in ``?`` may be missing
    column: Name
    among: Annotated[Sequence[Constant], msgspec.Meta(min_length=1)]
    severity: Literal["info", "warning", "error"] = "warning"  #: of a row that holds another one
    hint: str = ""  #: the remedy


class Exclusive(Section, frozen=True, kw_only=True):
    """A column that is true in one row at most: setting it there takes it from the others."""

    database: str = ""
    table: str
    column: Name
    within: Name | None = None  #: a column; of each of its values one row


class StoredFile(Section, frozen=True, kw_only=True):
    """A column that holds the content of a file in each row."""

    database: str = ""
    table: str
    column: Name
    encoding: Encoding = "plain"  #: how the content is stored
    name: Name | None = None  #: the column that says what the file is called
    type: Name | None = None  #: the column that says which media type it has
    size: Name | None = None  #: the column that says how many bytes it has


class KeySearch(Section, frozen=True, kw_only=True):
    """Columns that may hold text of people, in which keys of services are looked for."""

    database: str = ""
    #: as ``table.column``; one that ends in ``?`` may be missing
    columns: Annotated[Sequence[str], msgspec.Meta(min_length=1)]
    severity: Literal["info", "warning", "error"] = "warning"
    hint: str = ""  #: the remedy

    @property
    def name(self) -> str:
        """What a finding calls it."""
        return "keys of services"


class CrossLink(Section, frozen=True, kw_only=True):
    """A column that names rows of another database, where no foreign key can guard it."""

    name: str  #: what a finding calls its rows
    database: str = ""
    table: str
    column: Name  #: one that ends in ``?`` may be missing
    to: str  #: the other database
    among: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table.column``: one of them must have it
    optional: bool = False  #: whether a deployment may do without the table
    cascade: bool = False  #: whether its rows go along when dbctl deletes the rows that they name
    #: ``table.column`` there: what the row was called before, by which some may still name it
    formerly: str = ""
    repeats: Mapping[
        str, str
    ] = {}  #: its columns that repeat some of the row that it names, and which these are
    derived: Sequence[
        str
    ] = ()  #: those of them that the rest of the row is made of, so that none is mended alone
    every: bool = False  #: whether each row there should be named by one
    placeholders: Sequence[str] = ()  #: what it holds in rows that only made the app's table
    severity: Literal["info", "warning", "error"] = "warning"
    hint: str = ""


class Recount(Section, frozen=True, kw_only=True):
    """Figures that the app keeps though they can be counted."""

    name: str
    database: str = ""
    needs: Sequence[str] = ()  #: tables; a deployment without one of them keeps no such figures
    sql: str  #: portable; the rows that disagree: their key, then what is kept, last what is counted
    severity: Literal["info", "warning", "error"] = "warning"
    hint: str = ""


class KnownLogin(Section, frozen=True, kw_only=True):
    """An account whose password everybody can know: the app, or its documentation, came with it."""

    name: str  #: what a finding calls it
    login: str
    password: str
    severity: Literal["info", "warning", "error"] = "error"  #: while the account is active
    hint: str = ""  #: the remedy, where another password is none


class Ago(Section, frozen=True, kw_only=True):
    """A parameter that is a moment: so long ago, unless told otherwise."""

    ago: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}[smhdwy]$")]


class ReportShape(Section, frozen=True, kw_only=True):
    """How a report is asked of one schema; the first whose tables and columns exist counts."""

    needs: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table`` or ``table.column``
    sql: str  #: portable; names are parameters of the report (``:name``), and ``:limit`` and ``:offset``


class Report(Section, frozen=True, kw_only=True):
    """A question with a name."""

    name: str
    title: str  #: one line for a list of reports
    database: str = ""
    columns: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: what the answer's columns are called
    times: Sequence[str] = ()  #: those of them that are times, in whichever form they are stored
    parameters: Mapping[str, Constant | Ago] = {}  #: with the values that they have unless told otherwise
    optional: bool = False  #: whether a deployment may do without what it asks about
    shape: Annotated[Sequence[ReportShape], msgspec.Meta(min_length=1)]


#: The name of a file beside others: no path, not hidden, and with the time in it, so that no two are called alike.
FileName = Annotated[str, msgspec.Meta(pattern=r"^\w[\w. -]*\{time\}[\w.]*$")]


#: A path below the app's directory, which leads nowhere else.
AppFile = Annotated[str, msgspec.Meta(pattern=r"^(?!/)(?!.*(^|/)\.\.(/|$)).+$")]


#: The name of a file that an app's own scripts leave: ``{time}`` in it is a time in any form; ``.gz`` and ``.zst`` may follow.
LooseName = Annotated[str, msgspec.Meta(pattern=r"^\w[\w. -]*(\{time\}[\w. -]*)?$")]


class Loose(Section, frozen=True, kw_only=True):
    """Files that the app's own scripts, or the commands in its document, leave as backups."""

    name: LooseName
    database: str = ""  #: which it is of; empty: what it holds tells
    says: str = ""  #: what somebody has to know of it


class Backup(Section, frozen=True, kw_only=True):
    """How backups of the app are called, and what belongs to them beside its databases."""

    names: Mapping[
        str, FileName
    ] = {}  #: file of each database, ``{time}`` in it; else ``DATABASE_{time}.db``
    #: how ``{time}`` is written: ``20260102_150405``, or ``2026-01-02T15-04-05-000Z``
    time: Literal["compact", "iso"] = "compact"
    #: files below the app's directory that belong to it, such as keys; ``*`` means any name, ``/`` at the end all below
    extra: Sequence[AppFile] = ()
    foreign: Sequence[
        Loose
    ] = ()  #: what else lies about as a backup of it; its times are local, unless they end in ``Z``
    #: where that lies, beside the repository: folders, relative to the app's directory
    places: Sequence[str] = ("backups",)
    #: which backups stay where the configuration says nothing: ``{ within = "30d" }``; without either, none is pruned
    keep: Keep = Keep()


class Profile(Section, frozen=True, kw_only=True):
    """One kind of application."""

    schema: Literal["dbctl.profile/1"]
    name: str
    title: str
    time: TimeCodec = "iso-ms"
    boolean: BooleanCodec = "bool-01"
    #: directories that the app has to itself, ``~`` for the user's own: where ``init`` looks that is told none, and
    #: finds nothing below the present one
    home: Sequence[str] = ()
    databases: Mapping[DatabaseName, Database]
    ledgers: Mapping[str, Ledger] = {}  #: registries of migrations that several of them have alike
    users: Users | None = None
    roles: Roles | None = None
    settings: Sequence[Settings] = ()
    search: Sequence[Search] = ()
    semantic: Semantic | None = None
    sessions: Sequence[Sessions] = ()  #: the first is meant where none is named
    cleanup: Sequence[Cleanup] = ()
    audit: Audit | None = None
    link: Sequence[CrossLink] = ()
    recount: Sequence[Recount] = ()
    check: Sequence[KnownLogin] = ()
    known: Sequence[KnownSecret] = ()
    flaw: Sequence[Flaw] = ()
    rebuild: Sequence[Rebuild] = ()
    report: Sequence[Report] = ()
    states: Sequence[States] = ()
    values: Sequence[Values] = ()
    exclusive: Sequence[Exclusive] = ()
    stored_file: Sequence[StoredFile] = ()
    key_search: Sequence[KeySearch] = ()
    backup: Backup = Backup()

    def __post_init__(self) -> None:
        within = self.backup.keep.within
        if within and not is_span(within):
            raise ValueError(f"backup.keep.within: {within!r} is no length of time; write 30d, 8w or 1y")
        unknown = [name for name in self.backup.names if name not in self.databases]
        if unknown:
            raise ValueError(f"backup.names: there is no database {unknown[0]!r}")
        lost = [one.database for one in self.backup.foreign if one.database not in ("", *self.databases)]
        if lost:
            raise ValueError(f"backup.foreign: there is no database {lost[0]!r}")
        files = [self.file_name(name).removesuffix(".gz").removesuffix(".zst") for name in self.databases]
        twice = [name for name in files if files.count(name) > 1]
        if twice:
            raise ValueError(f"backup.names: two databases have the file {twice[0]!r}")

    def file_name(self, database: str) -> str:
        """Return how the file of a database is called in a backup, with ``{time}`` in it."""
        return self.backup.names.get(database, f"{database}_{{time}}.db")

    def abilities(self) -> list[str]:
        """Return what dbctl can do for the app, in words."""
        told: dict[str, object] = {
            "users": self.users,
            "passwords": self.users and self.users.password,
            "lockout": self.users and self.users.lockout,
            "roles": self.roles or (self.users and self.users.role),
            "permissions": self.roles and self.roles.permissions,
            "settings": any(one.scope == "system" for one in self.settings),
            "settings of users": any(one.scope == "user" for one in self.settings),
            "migrations": any(one.migrations for one in self.databases.values()),
            "search": self.search,
            "search by meaning": self.semantic,
            "sessions": self.sessions,
            "cleanup": self.cleanup,
            "audit": self.audit,
            "statistics": self.rebuild,
            "cross checks": [*self.link, *self.recount, *self.rebuild, *self.flaw],
            "reports": self.report,
            "states": self.states,
        }
        return [word for word, section in told.items() if section]

    def special_abilities(self) -> list[str]:
        """Return what single commands can do for the app beyond ``abilities``, in the words of their refusals."""
        sections: dict[str, object] = {
            "transfer of what is a user's": self.users and self.users.transfer,
            "rows that repeat others": any(one.repeats or one.formerly for one in self.link),
            "new vectors": self.semantic and self.semantic.source,
        }
        return [word for word, section in sections.items() if section]
