"""The extensions: those of dbctl itself as a literal table, and those of other distributions as entry points.

The table costs nothing at the start of a command, because its objects import nothing. Entry points are read only for a name that
neither the core nor the table has, and by commands that list everything: reading them takes as long as a tenth of ``users list``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module, util
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from dbctl.errors.usage import ExtensionInvalidError, NotSupportedError
from dbctl.extensions.base import API, Extension, Place, SectionEntry, SectionOwner, SetName
from dbctl.extensions.installed import has_third_parties
from dbctl.url import ENGINES, EngineEntry

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: The group of the entry points.
ENTRY_POINTS = "dbctl.extensions"

_PACKAGES = "dbctl.extensions.packages"
#: All extensions of dbctl itself, also those whose package is not installed.
BUILT_IN: Sequence[Extension] = (
    Extension(
        name="lancedb",
        engines={
            "lancedb": EngineEntry(
                place="dbctl.extensions.lancedb.engine:ENGINE",
                kind="folder",
                schemes=("s3",),
                drivers=("s3",),
            )
        },
        parts={"lancedb": "dbctl.extensions.lancedb.rebuild:create_parts"},
        engine_parts={"lancedb": "dbctl.extensions.lancedb.dump:create_parts"},
    ),
    Extension(name="mcp", groups={"mcp": "dbctl.extensions.mcp.commands"}),
    Extension(
        name="fleet",
        commands={"apps instances": "dbctl.extensions.fleet.commands"},
        fleet_runner="dbctl.extensions.fleet.runner:run_on_fleet",
        fleet_status="dbctl.extensions.fleet.status:collect_fleet",
    ),
    Extension(name="demo", groups={"demo": "dbctl.extensions.demo.commands"}),
    Extension(
        name="drafts",
        commands={
            "profiles draft": "dbctl.extensions.drafts.commands",
            "profiles learn": "dbctl.extensions.drafts.learning.commands",
            "profiles prove": "dbctl.extensions.drafts.learning.commands",
        },
        parts={"postgresql": "dbctl.extensions.drafts.learning.postgresql:create_parts"},
        errors="dbctl.extensions.drafts.learning.errors",
        checks={"profile": ["dbctl.extensions.drafts.learning.replay:check_recordings"]},
    ),
    Extension(
        name="packages",
        commands={f"profiles {word}": f"{_PACKAGES}.commands" for word in ("install", "uninstall", "update")},
        errors=f"{_PACKAGES}.errors",
    ),
    Extension(name="metrics", groups={"metrics": "dbctl.extensions.metrics.commands"}),
    Extension(
        name="external_index",  # before others with parts, which a search would import, too
        parts={"sqlite": "dbctl.extensions.external_index.build:create_parts"},
        search_index="dbctl.extensions.external_index.kind:KIND",
    ),
    Extension(
        name="copies",
        commands={"data replace": "dbctl.extensions.copies.data_commands"},
        groups={"copy": "dbctl.extensions.copies.commands"},
        parts=dict.fromkeys(
            ("lancedb", "mysql", "postgresql", "sqlite"), "dbctl.extensions.copies.parts:create_parts"
        ),
        errors="dbctl.extensions.copies.errors",
        profile_sections={
            "anonymise": SectionEntry(
                kind="dbctl.extensions.copies.section:Anonymise",
                meaning="what replaces personal data, for ``copy --anonymise``",
                after="semantic",
            )
        },
    ),
    Extension(
        name="adopt",
        commands={"backup adopt": "dbctl.extensions.adopt.commands"},
        engine_parts={
            "mysql": "dbctl.extensions.adopt.parts:create_mysql_parts",
            "postgresql": "dbctl.extensions.adopt.parts:create_postgresql_parts",
            "sqlite": "dbctl.extensions.adopt.parts:create_sqlite_parts",
        },
        stage_foreign="dbctl.extensions.adopt.staging:stage_foreign",
        find_foreign="dbctl.extensions.adopt.discovery:find_foreign_backups",
    ),
    Extension(
        name="notify",
        groups={"notify": "dbctl.extensions.notify.commands"},
        checks={"doctor": ["dbctl.extensions.notify.package_check:check_package"]},
        config_sections={
            "notify": SectionEntry(
                kind="dbctl.extensions.notify.section:NotifyConfig",
                meaning="channels and rules of notifications, for all apps",
                after="audit",
                contains="channels",
                has_secret_addresses=True,
            )
        },
        app_sections={
            "notify": SectionEntry(
                kind="dbctl.extensions.notify.section:NotifyConfig",
                meaning="channels and rules of notifications, instead of those of ``[notify]``",
                after="maintenance_mode",
                contains="channels",
                has_secret_addresses=True,
            )
        },
        errors="dbctl.extensions.notify.errors",
        on_run="dbctl.extensions.notify.observer:observe_run",
        find_jobs="dbctl.extensions.notify.section:find_jobs",
    ),
    Extension(
        name="reach",
        checks={"doctor": ["dbctl.extensions.reach.checks:check_route"]},
        errors="dbctl.extensions.reach.errors",
        routes="dbctl.extensions.reach.routes:ROUTES",
        forward_command="dbctl.extensions.reach.forward:forward_command",
        describe_containers="dbctl.extensions.reach.facts:describe_containers",
    ),
    Extension(
        name="recover",
        commands={
            "backup log": "dbctl.extensions.recover.commands",
            "backup recover": "dbctl.extensions.recover.commands",
        },
        parts={
            "mysql": "dbctl.extensions.recover.mariadb.server_log:create_parts",
            "postgresql": "dbctl.extensions.recover.postgresql.server_log:create_parts",
        },
        checks={"doctor": ["dbctl.extensions.recover.log_checks:check_log"]},
        copy_server="dbctl.extensions.recover.log_backup:CopyServer",
        drill_moment="dbctl.extensions.recover.drill:DrillMoment",
        app_sections={
            "recovery": SectionEntry(
                kind="dbctl.extensions.recover.section:Recovery",
                meaning="what ``backup recover`` reads",
                after="replicas",
            )
        },
        engine_parts={
            "mysql": "dbctl.extensions.recover.parts:create_mysql_parts",
            "postgresql": "dbctl.extensions.recover.parts:create_postgresql_parts",
        },
        records_log="dbctl.extensions.recover.section:records_log",
        errors="dbctl.extensions.recover.errors",
    ),
    Extension(
        name="reports",
        groups={"report": "dbctl.extensions.reports.commands"},
        commands={"stats history": "dbctl.extensions.reports.history"},
        summary_page="dbctl.extensions.reports.page:create_summary_page",
    ),
    Extension(
        name="salvage",
        commands={"restore recover": "dbctl.extensions.salvage.commands"},
        engine_parts={"sqlite": "dbctl.extensions.salvage.sqlite.recover:create_parts"},
    ),
    Extension(
        name="schedule",
        groups={"schedule": "dbctl.extensions.schedule.commands"},
        app_sections={
            "schedule": SectionEntry(
                kind="dbctl.extensions.schedule.section:Schedule",
                meaning="when scheduled jobs run",
                after="search",
            )
        },
    ),
    Extension(
        name="semantic",
        groups={
            "search semantic": "dbctl.extensions.semantic.commands",
            "search vectors": "dbctl.extensions.semantic.vector_commands",
        },
        app_sections={
            "embedder": SectionEntry(
                kind="dbctl.extensions.semantic.section:Embedder",
                meaning="computes vectors for semantic search",
                after="backup",
            )
        },
        profile_sections={
            "semantic": SectionEntry(
                kind="dbctl.extensions.semantic.profile:Semantic",
                meaning="the table of vectors, for ``search semantic``",
                after="search",
            )
        },
        checks={"doctor": ["dbctl.extensions.semantic.checks:check_embedder"]},
        app_indexes="dbctl.extensions.semantic.index:list_indexes",
        errors="dbctl.extensions.semantic.errors",
    ),
    Extension(
        name="transfer",
        groups={"transfer": "dbctl.extensions.transfer.commands"},
        commands={
            "data diff": "dbctl.extensions.transfer.data_commands",
            "schema diff": "dbctl.extensions.transfer.schema_commands",
        },
        parts={
            "mysql": "dbctl.extensions.transfer.engines.mysql.native:create_parts",
            "postgresql": "dbctl.extensions.transfer.engines.postgresql.native:create_parts",
            "sqlite": "dbctl.extensions.transfer.engines.sqlite.native:create_parts",
        },
        read_changes="dbctl.extensions.transfer.comparison.differing_rows:read_changes",
        errors="dbctl.extensions.transfer.errors",
    ),
)


#: What has sections of extensions in addition to those of the core: what it is, and its type.
_CORE_SECTIONS: Mapping[SectionOwner, tuple[str, Place]] = {
    "config_sections": ("the configuration", "dbctl.config.model:ConfigFile"),
    "app_sections": ("apps", "dbctl.config.model:AppConfig"),
    "profile_sections": ("profiles", "dbctl.profiles.model.profile:Profile"),
}
_COMMAND = r"[a-z]+( [a-z-]+)?"


class ThirdParty(NamedTuple):
    """An extension of another distribution."""

    name: str  #: of its entry point
    distribution: str
    version: str
    extension: Extension | None  #: None: it cannot be used
    error: ExtensionInvalidError | None = None  #: why


@cache
def list_built_in() -> Sequence[Extension]:
    """Return the extensions of dbctl itself whose packages are installed."""
    with os.scandir(os.path.dirname(__file__)) as entries:  # noqa: PTH120 - pathlib takes longer
        names = {entry.name for entry in entries}
    return [extension for extension in BUILT_IN if extension.name in names]


@cache
def list_third_party() -> Sequence[ThirdParty]:
    """Return the extensions of other distributions, ordered by name; one that cannot be used has an error, and adds nothing."""
    if not has_third_parties():
        return ()  # without importing importlib.metadata, which takes longer than everything else here
    from importlib import metadata

    read = list[ThirdParty]()
    for entry in sorted(metadata.entry_points(group=ENTRY_POINTS)):
        read.append(
            _read_entry_point(entry, [*BUILT_IN, *(other.extension for other in read if other.extension)])
        )
    return read


def list_extensions() -> Iterator[Extension]:
    """Yield the extensions of dbctl itself, and then those of other distributions, which are read only when they are reached."""
    yield from list_built_in()
    yield from (other.extension for other in list_third_party() if other.extension)


def list_absent() -> Iterator[str]:
    """Yield the groups and commands of extensions of dbctl itself whose packages are not installed."""
    for extension in BUILT_IN:
        if extension not in list_built_in():
            yield from (*extension.groups, *extension.commands)


def find_group(name: str) -> Place | None:
    """Return the module of a group of commands; None: no extension has it."""
    return next((item.groups[name] for item in list_extensions() if name in item.groups), None)


def list_commands(group: str, *, only_usable: bool = False) -> Mapping[str, Place]:
    """Return the modules of the commands that extensions add to a group of the core, by their names in it.

    ``only_usable``: without those that cannot be imported.
    """
    return {
        words.removeprefix(f"{group} "): place
        for extension in list_extensions()
        for words, place in extension.commands.items()
        if words.rpartition(" ")[0] == group and (not only_usable or is_usable(f"{place}:GROUP"))
    }


def is_usable(place: Place) -> bool:
    """Whether a place can be imported, which that of another distribution may not."""
    with suppress(ExtensionInvalidError):
        load(place)
        return True
    return False


def list_parts(engine: str) -> Sequence[Place]:
    """Return the functions that create the parts of extensions for a database of an engine."""
    return [extension.parts[engine] for extension in list_extensions() if engine in extension.parts]


def list_engine_parts(engine: str) -> Sequence[Place]:
    """Return the functions that create the parts of extensions for an engine itself."""
    return [item.engine_parts[engine] for item in list_extensions() if engine in item.engine_parts]


def list_checks(set_name: SetName) -> Iterator[Place]:
    """Yield the checks that extensions add to a set."""
    for extension in list_extensions():
        yield from extension.checks.get(set_name, ())


def find_place(purpose: str) -> Place | None:
    """Return what an extension adds for a purpose, the name of a field of ``Extension``; None: none adds anything for it."""
    return next(filter(None, (getattr(extension, purpose) for extension in list_built_in())), None)


def list_profile_folders() -> Iterator[str]:
    """Yield the folders with the profiles of extensions; a package that cannot be imported has none."""
    for extension in list_extensions():
        if extension.profiles:
            with suppress(ExtensionInvalidError):
                yield from load(extension.profiles).__path__


def require(purpose: str, feature: str, hint: str) -> Any:
    """Return what an extension adds for a purpose; otherwise ``feature`` is refused, and ``hint`` names what is possible.

    Raises:
        NotSupportedError: no extension adds anything for it.
    """
    if place := find_place(purpose):
        return load(place)
    hint = f"Its extension is not installed. {hint}"
    raise NotSupportedError(feature=feature, subject="this installation of dbctl", hint=hint)


def load_errors() -> None:
    """Import the classes of errors of all extensions; a module of another distribution that cannot be imported has none."""
    for extension in list_extensions():
        if extension.errors:
            with suppress(ExtensionInvalidError):
                load(extension.errors)


def list_engines() -> Iterator[tuple[str, EngineEntry]]:
    """Yield the engines of extensions by name, also of those of dbctl whose packages are not installed: their addresses are valid."""
    for extension in BUILT_IN:
        yield from extension.engines.items()
    for other in list_third_party():
        yield from other.extension.engines.items() if other.extension else ()


def list_sections(owner: SectionOwner, names: Collection[str]) -> Mapping[str, SectionEntry | None]:
    """Return the sections that extensions own, among them ``names``; None: its extension is absent.

    Extensions of other distributions are asked only for a name that those of dbctl itself lack.
    """
    sections = dict[str, SectionEntry | None]()
    for extension in BUILT_IN:
        is_installed = extension in list_built_in()
        sections |= getattr(extension, owner) if is_installed else dict.fromkeys(getattr(extension, owner))
    if not sections.keys() >= set(names):
        for other in list_third_party():
            sections |= getattr(other.extension, owner, {})
    return sections


def load(place: Place) -> Any:
    """Import a module, or an attribute of one.

    Raises:
        ExtensionInvalidError: the module of another distribution cannot be imported, or lacks the attribute.
    """
    module, _, attribute = place.partition(":")
    try:
        imported = import_module(module)
        return getattr(imported, attribute) if attribute else imported
    except (Exception, SystemExit) as error:
        if module.startswith("dbctl."):
            raise
        reason = f"{place} cannot be imported: {type(error).__name__}: {error}"
        owner = module.partition(".")[0]
        raise ExtensionInvalidError(extension=owner, distribution=owner, reason=reason) from error


def _read_entry_point(entry: EntryPoint, others: Sequence[Extension]) -> ThirdParty:
    """Read an extension that may have no name of ``others``."""
    distribution = entry.dist
    name, version = (distribution.name, distribution.version) if distribution else ("", "")
    try:
        extension = entry.load()
        reason = next(_find_problems(extension, entry.name, others), "")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the code of others may raise anything, and only its own commands may fail
        reason = f"its import failed: {type(error).__name__}: {error}"
    if not reason:
        return ThirdParty(entry.name, name, version, extension)
    invalid = ExtensionInvalidError(extension=entry.name, distribution=name, reason=reason)
    return ThirdParty(entry.name, name, version, None, invalid)


def _find_problems(extension: object, name: str, others: Sequence[Extension]) -> Iterator[str]:
    """Yield why an extension cannot be used."""
    if not isinstance(extension, Extension):
        yield f"its entry point is of the type {type(extension).__name__}, not Extension"
        return
    if extension.api != API:
        yield f"it uses version {extension.api} of the interface of extensions, and dbctl has version {API}"
    if extension.name != name or any(name == other.name for other in others):
        yield f"its name {extension.name!r} is not that of its entry point, or is that of another extension"
    yield from _find_problems_of_commands(extension, others)
    yield from extension.find_unread()
    for engine in extension.engines:
        if engine in ENGINES or any(engine in other.engines for other in others):
            yield f"the engine {engine!r} exists"
    for owner, (subject, kind) in list_owners().items():
        for section in getattr(extension, owner):
            is_core = section in load(kind).__struct_fields__
            if is_core or any(section in getattr(other, owner) for other in others):
                yield f"the section {section!r} of {subject} exists"


def list_owners() -> Mapping[SectionOwner, tuple[str, Place]]:
    """Return what has sections of extensions: what it is, and its type."""
    own = (extension.config_sections.items() for extension in list_built_in())
    inner = {entry.contains: (f"[{name}]", entry.kind) for name, entry in chain(*own) if entry.contains}
    return {**_CORE_SECTIONS, **inner}


def _find_problems_of_commands(extension: Extension, others: Sequence[Extension]) -> Iterator[str]:
    existing = {word for other in others for word in (*other.groups, *other.commands)}
    groups = {word for other in (*others, extension) for word in other.groups}
    for words in (*extension.groups, *extension.commands):
        group = words.rpartition(" ")[0]
        if not re.fullmatch(_COMMAND, words):
            yield f"the command {words!r} has other characters than small letters"
        elif words in existing or _is_core_command(words):
            yield f"the command {words!r} exists"
        elif words in extension.commands and group not in groups and not util.find_spec(f"dbctl.cli.{group}"):
            yield f"the command {words!r} belongs to no group"


def _is_core_command(words: str) -> bool:
    if util.find_spec(f"dbctl.cli.{words.replace(' ', '_')}"):
        return True
    group, _, command = words.partition(" ")
    if not command or not util.find_spec(f"dbctl.cli.{group}"):
        return False
    return any(info.name == command for info in import_module(f"dbctl.cli.{group}").GROUP.infos)
