"""What a profile can say. A section is an ability: an app without the section does not have it."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from dbctl.config import Keep
from dbctl.model import is_span
from dbctl.profiles.codecs import BooleanCodec, TimeCodec
from dbctl.profiles.model.base import DatabaseName, Section
from dbctl.profiles.model.cleanup import Cleanup
from dbctl.profiles.model.databases import Database, Ledger
from dbctl.profiles.model.integrity import (
    CrossLink,
    Exclusive,
    Flaw,
    KeySearch,
    KnownLogin,
    KnownSecret,
    Recount,
    States,
    Values,
)
from dbctl.profiles.model.rebuild import Rebuild
from dbctl.profiles.model.reports import Report, StoredFile
from dbctl.profiles.model.search import Search
from dbctl.profiles.model.semantic import Semantic
from dbctl.profiles.model.sessions import Sessions
from dbctl.profiles.model.settings import Audit, Settings
from dbctl.profiles.model.users import Roles, Users

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
            "rows that repeat others": any(link.repeats or link.formerly for link in self.link),
            "new vectors": self.semantic and self.semantic.source,
        }
        return [word for word, section in sections.items() if section]
