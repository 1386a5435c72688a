"""The part of a profile that most commands need: what the app and its databases are, its users and their roles, its settings and its audit log."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from dbctl.errors.base import Remedy
from dbctl.model import TimeForm
from dbctl.profiles.codecs import BooleanCodec
from dbctl.profiles.model.base import DatabaseName, EngineName, Name, Section
from dbctl.profiles.model.databases import Database, Ledger
from dbctl.profiles.model.roles import Roles
from dbctl.profiles.model.settings import Audit, Settings
from dbctl.profiles.model.users import Users

#: Subjects of open decisions. ``admin``, ``active``, ``login``, ``passwords``, ``sign-ins`` and ``rights`` refuse the commands that depend on them.
Topic = Literal[
    "admin",
    "active",
    "login",
    "passwords",
    "sign-ins",
    "users",
    "new-users",
    "rights",
    "deletion",
    "format",
    "second-factors",
    "other",
]

#: What an admin or a user does in the app, and a demonstration shows.
Action = Literal[
    "create-user", "create-admin", "set-password", "set-role", "deactivate", "activate", "delete-user", "reset-2fa", "sign-in", "sign-out",
    "change-setting", "create-token",
]  # fmt: skip


class Proof(Section, frozen=True, kw_only=True):
    """The record of ``profiles prove``: dbctl's command changed the rows of the recordings of an action on one engine as the app did."""

    at: Annotated[str, msgspec.Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]  #: the day of the replay
    #: the last migration of the app's ledger in the newest recording; empty: it has no ledger
    ledger: str = ""
    recordings: int  #: the replayed recordings
    rows: int  #: their compared rows
    #: of ``change-setting``: what they show, such as ``system values as string``: only such writes of settings are proven
    shown: Sequence[str] = ()
    digest: str  #: of the keys of the profile that the command uses; after a change of one, it is not proven any more


class ProfileVariant(Section, frozen=True, kw_only=True):
    """A version of the app with another schema, and the keys of the profile that differ for it.

    A path is ``users.role`` or ``settings[0].fields``; indexes begin at 0, and a key with a dot is in double quotes.
    """

    name: Name  #: the name of the variant, such as the versions of the app that it describes
    #: tables (``table``) and columns (``table.column``) of the main database: the first variant applies whose needs all exist
    needs: Annotated[
        Sequence[Annotated[str, msgspec.Meta(pattern=r"^[^.]+(\.[^.]+)?$")]], msgspec.Meta(min_length=1)
    ]
    changes: Mapping[str, Any] = {}  #: by path, a new value, which replaces the other as a whole
    remove: Sequence[str] = ()  #: paths of keys that the version does not have


class CoreProfile(Section, frozen=True, kw_only=True):
    """The sections of a profile without which hardly any command works: creating the types of the others takes as long as a query."""

    schema: Literal["dbctl.profile/1"]  #: the version of the profile language
    name: str  #: the name of the profile, for ``--profile``
    title: str  #: the name of the app in messages
    time: TimeForm = "iso-ms"  #: the format of new times in columns without a native type
    boolean: BooleanCodec = "bool-01"  #: the format of new booleans in columns without a native type
    #: the prefix of the tables in this profile; deployments may have another, which dbctl detects by ``needs`` of the main
    #: database, and replaces in all names and texts
    prefix: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_]{0,64}$")] = ""
    #: usual directories of the app (``~``: the user's home): ``init`` searches them if it gets no directory and finds no
    #: app below the current one
    home: Sequence[str] = ()
    databases: Mapping[DatabaseName, Database]  #: the databases of the app, by name
    ledgers: Mapping[str, Ledger] = {}  #: migration ledgers that several databases share
    #: what the database does not show, by the subject that depends on it: commands that need a subject refuse, or name its
    #: entries; delete an entry after the decision
    undecided: Mapping[Topic, Sequence[str]] = {}
    #: by engine and action, the record of ``profiles prove`` that dbctl's command changes the rows that the app changes
    proven: Mapping[EngineName, Mapping[Action, Proof]] = {}
    users: Users | None = None  #: the users of the app
    roles: Roles | None = None  #: roles, if the app stores them as rows
    settings: Sequence[Settings] = ()  #: settings of the app and of users
    audit: Audit | None = None  #: the table in which dbctl records its changes as the app does

    #: none: a profile with variants is always read as a whole
    variants: ClassVar[Sequence[ProfileVariant]] = ()

    def list_open(self, topic: Topic) -> Sequence[str]:
        """Return the notes of a result about what the profile leaves open."""
        return [f"the profile leaves it open: {decision}" for decision in self.undecided.get(topic, ())]

    @property
    def main_database(self) -> str:
        """The name of the first writable database, or of the first if none is writable."""
        writable = [name for name, section in self.databases.items() if section.mode == "read-write"]
        return next(iter([*writable, *self.databases]))

    def suggest_cause(self, section: Database, tables: Collection[str]) -> str:
        """Return a hint about a database with ``tables``, which lacks tables that ``section`` of the profile needs."""
        if hint := section.find_wrong_app_hint(tables):
            return hint
        if not tables:
            return Remedy("Check the path; if it had tables, find a backup with: `backup list`").write()
        for name, other in self.databases.items():
            if other.needs and all(table in tables for table in other.needs):
                return f"Check the path: this looks like the database {name!r}."
        return "Check the path, or the URL, in the configuration."
