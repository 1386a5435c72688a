"""Sections about databases: migrations, ledgers, and the env file with the URL of a database."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.profiles.codecs import KeyCodec
from dbctl.profiles.model.base import (
    Alternatives,
    Constant,
    EngineName,
    Name,
    SchemaName,
    Section,
    SubjectColumn,
    TableName,
)


class Key(Section, frozen=True, kw_only=True):
    """The primary key of a table, and how new keys are created."""

    column: SubjectColumn  #: the column of the primary key
    codec: KeyCodec = "autoincrement"  #: how dbctl creates the key of a new row


#: The layout of migration files, described in ``Migrations``.
Format = Literal["auto", "numbered", "up-down", "dbmate", "goose", "pairs", "prisma"]


class Ledger(Section, frozen=True, kw_only=True):
    """The app's ledger of applied migrations, read and written as the app does."""

    table: str  #: the table of the ledger
    id: Key | None = None  #: if the database does not create the keys of rows
    #: the digits at the beginning of the file name; without this column, the name identifies the file
    version: Alternatives | None = None
    numeric: bool = False  #: the version is stored as a number: 001 as 1
    #: the name of the file without ``.sql``, or of the folder; with ``version``, only the part after the digits
    name: Alternatives | None = None
    applied_at: Alternatives = "applied_at?"  #: NULL with ``started_at``: the migration was interrupted
    started_at: Alternatives | None = None  #: when the migration began, if the app records it
    #: not NULL: the row is ignored; a name may have several rows
    rolled_back_at: Alternatives | None = None
    checksum: Alternatives = "checksum?"  #: SHA-256 of the file's text, hexadecimal
    duration_ms: Alternatives = "execution_time_ms?"  #: the duration of a migration in milliseconds
    new: Mapping[str, Constant] = {}  #: further columns of a new row
    create: str | Mapping[str, str]  #: statements that create a missing ledger, by engine if they differ


class ForeignLedger(Section, frozen=True, kw_only=True):
    """The ledger of another migration runner: dbctl reads it and never writes it."""

    runner: str  #: the name of the runner
    table: str = ""  #: the table that identifies the ledger; without it, ``select`` must return rows
    columns: Sequence[str] = ()  #: columns that the table must have
    needs: Sequence[str] = ()  #: further ``table`` or ``table.column`` that must exist
    #: One row per migration: version, name, applied_at, whether it failed, the state of all earlier migrations (``applied``,
    #: ``baseline`` or nothing), and the checksum; NULL if the ledger does not record it. A mapping has one query per engine;
    #: the other engines have no such ledger.
    select: str | Mapping[str, str]


#: What an app's guidelines require of its migrations.
Guideline = Literal["if-not-exists", "if-exists", "insert-or-ignore", "purpose", "down"]

#: The value of ``ledger`` if the database has no migrations.
NO_LEDGER = "none"


class MigrationsVariant(Section, frozen=True, kw_only=True):
    """A schema that deployments of an app have, if dbctl ships migrations for several.

    Two variants may share a folder; one of them then ends at an earlier migration.
    """

    name: Name  #: for ``--variant``
    needs: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table`` or ``table.column``
    folder: Name | None = None  #: the folder of its migrations (default: its name)
    until: str = ""  #: the last migration of the folder that belongs to it (default: all)
    engines: Sequence[str] = ()  #: the engines that support it (default: all engines of the database)

    @property
    def directory(self) -> str:
        return self.folder or self.name


class Migrations(Section, frozen=True, kw_only=True):
    """The location and format of a database's migrations, and their ledger.

    Formats: ``numbered``, files like ``001_name.sql`` that are run whole; ``up-down``, such files with sections that
    begin with the lines ``-- Up`` and ``-- Down``; ``dbmate`` and ``goose``, the same with the markers of these runners;
    ``pairs``, files like ``1_name.up.sql`` and ``1_name.down.sql``; ``prisma``, folders like ``20260131120000_name`` with
    a ``migration.sql`` (and optionally a ``down.sql``); ``auto``, the format that is detected in the folder.
    """

    format: Format = "auto"  #: the format of the files
    find: Sequence[str] = ()  #: folders of the app's migration files below its directory, for ``init``
    #: the first is the default for an empty database; the ledger, or the first variant whose needs exist, decides for others
    variant: Sequence[MigrationsVariant] = ()
    #: a ledger; the name of an entry of [ledgers], or of a built-in ledger (``dbmate``, ``prisma``); ``auto``: the existing ledger,
    #: or that of dbmate; ``none``: the database has no migrations
    ledger: Ledger | str = "auto"
    #: the ledger of the app's own runner, if no built-in one describes it; dbctl reads it with ``ledger = "auto"``
    foreign: ForeignLedger | None = None
    published: Mapping[str, Sequence[str]] = {}  #: checksums of earlier published texts of a migration
    #: by the checksum of a published text: SQL that changes the result of the current file into the result of that text; if
    #: the app has removed the file, SQL with the same result as the text
    earlier: Mapping[str, str] = {}
    retired: Sequence[str] = ()  #: migrations whose files the app has removed
    #: files to which the app gave the same number by mistake: a ledger contains one of them, and the other never runs
    one_of: Sequence[Sequence[str]] = ()
    #: tables, views, triggers, partitions and columns (``table.column``) that the app creates outside of migrations; ``*``: any text
    unmanaged: Sequence[str] = ()
    failing: Mapping[str, str] = {}  #: part of an error message of a migration, and the hint for it
    guidelines: Sequence[Guideline] = ()  #: the requirements of ``migrate lint`` for every file


class WrongAppHint(Section, frozen=True, kw_only=True):
    """A database that can be confused with the required one: the hint if it has any of some tables."""

    tables: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: tables; one of them is enough
    hint: str  #: what the database is, and where the required one may be


class Variable(Section, frozen=True, kw_only=True):
    """A variable, and the app's default for it."""

    name: str  #: the name of the variable
    default: str = ""  #: the value without the variable


class Environment(Section, frozen=True, kw_only=True):
    """The app's own file with the URL of a database, in one variable or with one variable per part.

    Of a file ``.php``, ``.py`` or ``.json``, the variables are its constants and keys with literal values; ``__`` joins nested keys.
    """

    find: Sequence[str] = (".env",)  #: names or patterns of the file in the app's directory, for ``init``
    url: str = ""  #: the variable with the whole URL; it takes precedence over the parts
    #: base folders of a relative ``file:`` URL, below the app's directory; the first with a database of the app is used
    relative_to: Sequence[str] = (".",)
    scheme: Literal["", "postgresql", "mysql"] = ""  #: the scheme of a URL that consists of the parts
    engine: Variable = Variable(name="")  #: the variable with the engine, if the app supports several servers
    #: by the value of ``engine`` in lower case, the scheme; other values are engines without a server
    schemes: Mapping[str, Literal["postgresql", "mysql"]] = {}
    host: Variable = Variable(name="", default="localhost")  #: the variable with the host
    port: Variable = Variable(name="")  #: the variable with the port
    user: Variable = Variable(name="")  #: the variable with the user
    password: Variable = Variable(name="")  #: the variable with the password
    database: Variable = Variable(name="")  #: the variable with the name of the database
    tls: str = ""  #: the variable that enables encryption
    tls_option: str = "sslmode=require"  #: the option that ``tls`` adds to the URL


class Database(Section, frozen=True, kw_only=True):
    """One database of the app."""

    engines: Sequence[EngineName]  #: the engines that the app supports
    find: Sequence[str] = ()  #: usual paths below the app's directory, for ``init``
    environment: Environment | None = None  #: the env file with its URL
    needs: Sequence[TableName] = ()  #: tables that identify the database
    #: hints if one of ``needs`` is missing; the first that matches is shown
    wrong_app_hint: Sequence[WrongAppHint] = ()
    #: ``read-only``: dbctl opens it only for reading, because another program writes it
    mode: Literal["read-only", "read-write"] = "read-write"
    owner: str = ""  #: the program that writes a read-only database
    optional: bool = False  #: whether deployments may lack the database
    backup: bool = True  #: whether backups contain it without ``--db``
    #: tables with caches, sessions and logs, without whose rows the app works: ``init`` and ``apps show`` propose them for ``schema_only``
    #: of its backups, which no backup leaves out otherwise
    schema_only: Sequence[TableName] = ()
    #: by table, the columns that identify a row, for engines without primary keys (LanceDB)
    keys: Mapping[str, Alternatives] = {}
    #: ``table.column``: columns with which an index must begin, such as foreign keys; ``doctor`` reports a missing one
    indexed: Sequence[Annotated[str, SchemaName("table-path")]] = ()
    #: by table, how ``data add`` creates a primary key that is not given, if the database has no default for it
    new_keys: Mapping[str, KeyCodec] = {}
    #: ``table.column``: texts that identify a row for people, such as a name or a telephone number; ``data add`` and ``data set``
    #: accept them for a foreign key to the table. A trailing ``?`` marks an optional column
    row_names: Sequence[Annotated[str, SchemaName("table-path")]] = ()
    foreign_keys: bool = True  #: whether the app enforces foreign keys; otherwise rows may be orphaned
    pragmas: Mapping[str, str] = {}  #: pragmas of every writing connection (SQLite)
    create: Mapping[str, str] = {}  #: pragmas of a file that dbctl creates (SQLite)
    #: ``table.column``, shown only with ``--secrets``; a trailing ``?`` marks an optional column
    secret: Sequence[Annotated[str, SchemaName("table-path")]] = ()
    guess_secrets: bool = False  #: whether to detect further secret columns by their names and values
    #: the column with the time of the last change, in every table that has it
    updated_at: Alternatives | None = None
    migrations: Migrations | None = None  #: the migrations; without it, dbctl runs none
    #: recommended settings of its server, by engine: numbers and sizes are minimums, other values must be equal
    recommended: Mapping[EngineName, Mapping[str, str | int | float | bool]] = {}

    def find_wrong_app_hint(self, tables: Collection[str]) -> str:
        """Return the first ``wrong_app_hint`` that matches one of ``tables``; empty: no match."""
        hints = (hint.hint for hint in self.wrong_app_hint if any(table in tables for table in hint.tables))
        return next(hints, "")
