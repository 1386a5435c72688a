"""What a profile can say about its databases: migrations, ledgers, and the env file that names a database."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.profiles.codecs import KeyCodec
from dbctl.profiles.model.base import Constant, DatabaseName, Name, Section


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

    name: DatabaseName  #: for ``--variant``
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


class Variable(Section, frozen=True, kw_only=True):
    """One variable, and what the app takes where it is not set."""

    name: str
    default: str = ""


class Environment(Section, frozen=True, kw_only=True):
    """Where a database is: one variable holds the address, or each part of it has one of its own."""

    find: Sequence[str] = (".env",)  #: files that ``init`` looks for in the app's directory
    url: str = ""  #: the variable that holds the whole address; where it is set, it counts
    #: folders below the app's directory that a relative ``file:`` address may be meant from; the first with a database
    #: of the app counts
    relative_to: Sequence[str] = (".",)
    scheme: Literal["", "postgresql", "mysql"] = ""  #: of an address that is made of the parts
    host: Variable = Variable(name="", default="localhost")
    port: Variable = Variable(name="")
    user: Variable = Variable(name="")
    password: Variable = Variable(name="")
    database: Variable = Variable(name="")
    tls: str = ""  #: the variable that asks for encryption
    tls_option: str = "sslmode=require"  #: of the address, where it does


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
