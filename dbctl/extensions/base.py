"""What an extension adds to dbctl."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

from dbctl.model import Struct
from dbctl.url import EngineEntry

#: A module, or an attribute of one as ``module:NAME``; it is imported when it is used.
Place: TypeAlias = str

#: What the sections of extensions belong to: the field of ``Extension`` with them.
SectionOwner: TypeAlias = Literal["config_sections", "app_sections", "profile_sections", "channels"]

#: The sets of checks, which ``dbctl.services.checks.base`` lists.
SetName: TypeAlias = Literal["doctor", "configuration", "integrity", "cross-check", "profile"]

#: The version of this interface. It is provisional: an extension of another distribution states the version for which it was written,
#: and one for another version is reported by ``doctor`` and adds nothing.
API = 1

#: The texts of an extension of another distribution; each other one is the only place for its purpose (``find_place``).
_PLACES = ("name", "errors", "profiles")


class SectionEntry(Struct, frozen=True, kw_only=True):
    """A section that an extension owns: of ``dbctl.toml`` or a profile (``[NAME]``), of an app (``[apps.APP.NAME]``), or of another section."""

    #: its type: a ``ConfigSection`` of ``dbctl.config.resolver``, or a ``ProfileSection`` of ``dbctl.profiles.model.profile``; of a channel,
    #: a ``ChannelSection`` of ``dbctl.extensions.notify.section``
    #: The ``Meta`` of a field describes its key.
    kind: Place
    meaning: str  #: for the reference
    after: str  #: the key that precedes it in the reference
    #: the field of ``Extension`` with the sections that extensions add below it
    contains: SectionOwner | None = None
    has_secret_addresses: bool = False  #: whether only scheme and host of its addresses may be shown


class Extension(Struct, frozen=True, kw_only=True):
    """The places of what one extension adds; the object itself imports none of them.

    The test of what belongs into an extension: every command of the core works, with the same result, if its package is absent.
    A place that is the only one for its purpose, such as ``on_run``, is that of an extension of dbctl itself.
    """

    name: str  #: of its package, or of its entry point
    api: int = API
    #: the module of each group of commands, and of each command without a group; its ``GROUP`` has the same name
    groups: Mapping[str, Place] = {}
    #: the module of each command that joins a group of the core, such as ``data diff``; its ``GROUP`` has the name of that group
    commands: Mapping[str, Place] = {}
    config_sections: Mapping[str, SectionEntry] = {}  #: of the configuration, for all apps, by their names
    app_sections: Mapping[str, SectionEntry] = {}  #: of apps in the configuration, by their names
    profile_sections: Mapping[str, SectionEntry] = {}  #: of profiles, by their names
    #: of ``[notify]``, by their names: ways to deliver notifications
    channels: Mapping[str, SectionEntry] = {}
    #: for each set of checks, its ``Check``, or a sequence of them, run after those of the core
    checks: Mapping[SetName, Sequence[Place]] = {}
    #: for each engine, the function that returns the parts of an open database, among which ``Readable.extension_part`` searches
    parts: Mapping[str, Place] = {}
    #: for each engine, the function that returns the parts of the engine itself, among which ``Engine.extension_part`` searches
    engine_parts: Mapping[str, Place] = {}
    #: a function that returns the page about apps and fleets that is attached to a summary:
    #: ``(selections, location, *, timeout, since, jobs) -> bytes``
    summary_page: Place = ""
    search_index: Place = ""  #: the ``IndexKind`` of searches without a full-text index
    #: a function that yields its indexes of an app that belong to no search: ``(app, name) -> Iterator[SearchIndex]``
    app_indexes: Place = ""
    errors: Place = ""  #: the module of its classes of errors
    profiles: Place = ""  #: the package in whose folder the files ``NAME.toml`` of its profiles are
    engines: Mapping[str, EngineEntry] = {}  #: by the names that addresses and profiles use
    #: a function that returns the observer of a recorded run, a ``RunObserver`` of ``dbctl.cli._support.runs``; None: the run needs none:
    #: ``(location, run, interrupted) -> RunObserver | None``
    on_run: Place = ""
    #: a function that returns the names of the jobs that the configuration requests for each app, by the names of the apps:
    #: ``(sections) -> Mapping[str, Collection[str]]``
    find_jobs: Place = ""
    #: a function that yields a file or folder that dbctl did not create as a staged backup, and the repository through which it is read:
    #: ``(repository, path, *, created_at, trial, keys) -> AbstractContextManager[tuple[StagedBackup, Repository]]``
    stage_foreign: Place = ""
    #: a function that returns the files that dbctl did not create, newest first: ``(repository) -> Sequence[Backup]``
    find_foreign: Place = ""
    #: a function that returns whether backups of a database record its position in the log of its server: ``(app, name) -> bool``
    records_log: Place = ""
    #: a function that returns the operation that backs up the files of the server of a database: ``(repository) -> BackupOperation``
    copy_server: Place = ""
    #: a function that returns the operation that recovers a database as of a moment and drills the result:
    #: ``(repository, at, keys, *, roles) -> BackupOperation``
    drill_moment: Place = ""
    #: a function that yields what differs between two states of a database, with exact values:
    #: ``(first, second, database, *, limit, private) -> Iterator[TableChange]``
    read_changes: Place = ""
    #: the ``Routes`` of ``dbctl.engines.contract.route``: how servers without an address on this machine are reached
    routes: Place = ""
    #: a function that runs the command of a session with dbctl of the machine that has the databases of an app; None: it runs here:
    #: ``(session, app) -> exit code | None``
    forward_command: Place = ""
    #: a function that returns what the container at the end of a route is, a ``ContainerFacts`` of ``dbctl.services.setup.containers``, and
    #: then the others that run next to it: ``(via, *, with_neighbors) -> Sequence[ContainerFacts]``
    describe_containers: Place = ""
    #: a function that runs the command of a session on the instances that an error selects: ``(session, error) -> exit code``
    fleet_runner: Place = ""
    #: a function that collects the status of the instances that an error selects: ``(selection, error, *, timeout, jobs) -> FleetStatus``
    fleet_status: Place = ""

    def find_unread(self) -> Iterator[str]:
        """Yield what an extension of another distribution adds, and nothing would read."""
        for set_name in self.checks:
            if set_name not in get_args(SetName):
                yield f"the set of checks {set_name!r} does not exist; there are {', '.join(get_args(SetName))}"
        for field in self.__struct_fields__:
            if field not in _PLACES and isinstance(getattr(self, field), str) and getattr(self, field):
                yield f"it has {field!r}, which only extensions of dbctl itself have"
