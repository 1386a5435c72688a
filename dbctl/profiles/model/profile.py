"""The root section of a profile. Each section describes a feature of the app; without the section, dbctl does not support the feature."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Literal, TypeVar

import msgspec

from dbctl.config.model import Retention
from dbctl.profiles.codecs import Encoding
from dbctl.profiles.model.base import ColumnNames, Constant, DatabaseReference, Section, TableName
from dbctl.profiles.model.cleanup import Cleanup, Rebuild, Sessions
from dbctl.profiles.model.core import CoreProfile, ProfileVariant
from dbctl.profiles.model.integrity import (
    CrossLink,
    Exclusive,
    InvariantQuery,
    KeySearch,
    KnownLogin,
    KnownSecret,
    Recount,
    States,
    Values,
)
from dbctl.profiles.model.search import Search

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.


class StoredFile(Section, frozen=True, kw_only=True):
    """A column with the content of a file in each row."""

    database: DatabaseReference = ""
    table: TableName  #: the table with the files
    column: ColumnNames  #: the column with the content
    encoding: Encoding = "plain"  #: how the column stores the content
    name: ColumnNames | None = None  #: the column with the file name
    type: ColumnNames | None = None  #: the column with the media type
    size: ColumnNames | None = None  #: the column with the size in bytes


class RelativeTime(Section, frozen=True, kw_only=True):
    """A time parameter whose default is the current time minus a duration."""

    ago: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}[smhdwy]$")]  #: the duration: ``30d``


class ReportVariant(Section, frozen=True, kw_only=True):
    """The query for one variant of the schema; the first variant whose tables and columns exist is used."""

    needs: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: ``table`` or ``table.column``
    sql: str  #: portable SQL with the parameters of the report (``:name``), and ``:limit`` and ``:offset``


class Report(Section, frozen=True, kw_only=True):
    """A query with a name."""

    name: str  #: the name for ``stats run``
    title: str  #: one line for a list of reports
    database: DatabaseReference = ""
    columns: Annotated[Sequence[str], msgspec.Meta(min_length=1)]  #: names of the result columns
    times: Sequence[str] = ()  #: the columns with times, in any stored format
    parameters: Mapping[str, Constant | RelativeTime] = {}  #: parameters and their defaults
    optional: bool = False  #: whether deployments may lack its tables
    #: whether ``status --record`` records the numbers in its first row, for ``stats history`` and ``report``
    sampled: bool = False
    #: the query in each variant of the schema
    variant: Annotated[Sequence[ReportVariant], msgspec.Meta(min_length=1)]


#: A file name with ``{time}``, which makes it unique: no path, not hidden.
FileName = Annotated[str, msgspec.Meta(pattern=r"^\w[\w. -]*\{time\}[\w.]*$")]

#: A path below the app's directory.
AppFile = Annotated[str, msgspec.Meta(pattern=r"^(?!/)(?!.*(^|/)\.\.(/|$)).+$")]

#: The name of a file that an app's scripts create: ``{time}`` is a time in any format; ``.gz`` and ``.zst`` may follow.
ForeignFileName = Annotated[str, msgspec.Meta(pattern=r"^\w[\w. -]*(\{time\}[\w. -]*)?$")]


class ForeignFiles(Section, frozen=True, kw_only=True):
    """Backups that the app's scripts, or commands in its documentation, create."""

    name: ForeignFileName  #: the file name; ``{time}`` is a time in any format
    database: str = ""  #: the database of the backup; empty: detected from the contents
    note: str = ""  #: a note for users


class Backup(Section, frozen=True, kw_only=True):
    """The names of backup files, and the files that backups contain besides databases."""

    names: Mapping[str, FileName] = {}  #: the file name per database (default: ``DATABASE_{time}.db``)
    #: the format of ``{time}``: ``20260102_150405``, or ``2026-01-02T15-04-05-000Z``
    time: Literal["compact", "iso"] = "compact"
    #: files below the app's directory, such as keys; ``*``: any name, a trailing ``/``: all files of the folder
    extra: Sequence[AppFile] = ()
    #: backups that dbctl did not create; their times are local unless they end in ``Z``
    foreign: Sequence[ForeignFiles] = ()
    #: folders with ``foreign`` files, besides the repository; relative to the app's directory
    foreign_folders: Sequence[str] = ("backups",)
    #: the default retention: ``{ within = "30d" }``; without it and without a configured one, no backup is pruned
    keep: Retention = Retention()


class ProfileSection(Section, frozen=True, kw_only=True):
    """The base class of sections that extensions own."""

    def find_problems(self, profile: "Profile") -> Iterator[tuple[Sequence[str | int], str]]:  # noqa: ARG002 - for subclasses
        """Yield the key, in the section, and the reason of each error that the schema of the profile does not detect."""
        yield from ()

    def list_columns(self) -> Iterator[tuple[Sequence[str | int], str, str, ColumnNames]]:
        """Yield further columns that the live database must have: the key in the section, the database, the table, and the column.

        Those of fields whose type has a mark (``SchemaName``) are known without it.
        """
        yield from ()

    def list_features(self) -> Sequence[str]:
        """Return the features of the app that the section describes."""
        return ()

    def list_special_features(self) -> Sequence[str]:
        """Return those that only single commands require."""
        return ()


#: A section of an extension.
Added = TypeVar("Added", bound=ProfileSection)


class Profile(CoreProfile, frozen=True, kw_only=True):
    """One kind of application."""

    search: Sequence[Search] = ()  #: searches, for ``search NAME``
    sessions: Sequence[Sessions] = ()  #: the first is the default of ``--kind``
    cleanup: Sequence[Cleanup] = ()  #: rules for ``sessions cleanup``
    link: Sequence[CrossLink] = ()  #: links between databases, for ``integrity cross-check``
    recount: Sequence[Recount] = ()  #: stored counts, for ``integrity cross-check``
    known_login: Sequence[KnownLogin] = ()  #: accounts with published passwords, for ``doctor``
    known_secret: Sequence[KnownSecret] = ()  #: published keys and tokens, for ``doctor``
    #: queries for rows that should not exist, for ``doctor`` and ``integrity cross-check``
    invariant: Sequence[InvariantQuery] = ()
    rebuild: Sequence[Rebuild] = ()  #: statistics of users, for ``sessions rebuild-stats``
    report: Sequence[Report] = ()  #: named queries, for ``stats run``
    states: Sequence[States] = ()  #: state columns and their transitions
    values: Sequence[Values] = ()  #: columns with lists of allowed values
    exclusive: Sequence[Exclusive] = ()  #: columns that are true in at most one row
    stored_file: Sequence[StoredFile] = ()  #: columns that contain files, for ``data show --column``
    key_search: Sequence[KeySearch] = ()  #: columns with free text that may contain keys of services
    backup: Backup = Backup()  #: names and contents of backups
    #: versions of the app with other schemas; without a match, the profile is used as written
    variants: Sequence[ProfileVariant] = ()  # type: ignore[misc]  # no field of the core, which has none

    def __post_init__(self) -> None:
        for name, reason in self.backup.keep.find_problems():
            raise ValueError(f"backup.keep.{name}: {reason}")
        unknown = [name for name in self.backup.names if name not in self.databases]
        if unknown:
            raise ValueError(f"backup.names: no database {unknown[0]!r}")
        unknown_foreign = [
            files.database for files in self.backup.foreign if files.database not in ("", *self.databases)
        ]
        if unknown_foreign:
            raise ValueError(f"backup.foreign: no database {unknown_foreign[0]!r}")
        files = [self.file_name(name).removesuffix(".gz").removesuffix(".zst") for name in self.databases]
        duplicates = [name for name in files if files.count(name) > 1]
        if duplicates:
            raise ValueError(f"backup.names: two databases have the file {duplicates[0]!r}")

    def list_extension_sections(self) -> Mapping[str, ProfileSection]:
        """Return the sections of installed extensions, by their names."""
        values = {name: getattr(self, name) for name in self._list_added_keys()}
        return {name: value for name, value in values.items() if isinstance(value, ProfileSection)}

    def list_absent_sections(self) -> Sequence[str]:
        """Return the names of the sections of extensions that are not installed."""
        return [
            name
            for name in self._list_added_keys()
            if getattr(self, name) is not None and name not in self.list_extension_sections()
        ]

    def _list_added_keys(self) -> Sequence[str]:
        return [name for name in self.__struct_fields__ if name not in Profile.__struct_fields__]

    def extension_section(self, name: str, kind: type[Added]) -> Added | None:
        """Return the section of an extension; None: the profile has none."""
        section = self.list_extension_sections().get(name)
        return section if isinstance(section, kind) else None

    def file_name(self, database: str) -> str:
        """Return the name of a database's file in a backup, with ``{time}`` in it."""
        return self.backup.names.get(database, f"{database}_{{time}}.db")

    def list_schema_only(self) -> list[str]:
        """Return the tables whose rows backups could leave out, of all databases that they contain."""
        sections = [section for section in self.databases.values() if section.backup]
        names = [name.removesuffix("?") for section in sections for name in section.schema_only]
        return list(dict.fromkeys(names))

    def list_features(self) -> list[str]:
        """Return the features of the app that dbctl supports."""
        sections: dict[str, object] = {
            "users": self.users,
            "passwords": self.users and self.users.password,
            "lockout": self.users and self.users.lockout,
            "roles": self.roles or (self.users and self.users.role),
            "permissions": self.roles and self.roles.permissions,
            "settings": any(section.scope == "system" for section in self.settings),
            "user settings": any(section.scope == "user" for section in self.settings),
            "migrations": any(section.migrations for section in self.databases.values()),
            "search": self.search,
            "sessions": self.sessions,
            "cleanup": self.cleanup,
            "audit": self.audit,
            "statistics": self.rebuild,
            "cross checks": [*self.link, *self.recount, *self.rebuild, *self.invariant],
            "reports": self.report,
            "states": self.states,
        }
        added = [section.list_features() for section in self.list_extension_sections().values()]
        return [*(feature for feature, section in sections.items() if section), *chain(*added)]

    def list_special_features(self) -> list[str]:
        """Return the features that only single commands require."""
        sections: dict[str, object] = {
            "second factors": self.users and self.users.second_factor,
            "inactive users": self.users and self.users.has_active,
            "transfer of rows": self.users and self.users.transfer,
            "duplicated columns": any(link.repeats or link.renamed_from for link in self.link),
        }
        added = [section.list_special_features() for section in self.list_extension_sections().values()]
        return [*(feature for feature, section in sections.items() if section), *chain(*added)]
