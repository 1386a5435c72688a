"""Recognize the apps of databases: those of a directory, or a single one, compared with every profile that has a name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from msgspec import structs

from dbctl.config import loader as config
from dbctl.config.model import PLAIN
from dbctl.engines import registry
from dbctl.engines.contract.database import Readable, Table
from dbctl.engines.file_type import detect_file_type
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import FileMissingError, NotADatabaseError
from dbctl.errors.databases import DatabasesAmbiguousError
from dbctl.model import Struct, format_count
from dbctl.profiles import loader
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.schema_references import list_schema_references
from dbctl.profiles.templates import change_prefix, find_prefixes
from dbctl.profiles.variants import list_versions
from dbctl.services.app import ledger_detection
from dbctl.services.app.live_table import find_column
from dbctl.services.setup import addresses
from dbctl.services.setup.addresses import ENV_FILE, Address, list_env_addresses
from dbctl.services.setup.compose import ComposeFile, find_compose_file
from dbctl.services.setup.containers import is_route, list_container_addresses
from dbctl.services.setup.database_files import walk_directory
from dbctl.url import DEFAULT_PORTS, Url, check_route, is_foreign_address

#: Seconds to wait for a locked database.
TIMEOUT = 1.0
#: The share of the tables and columns of a profile that a database of the app has; older and newer versions lack the others.
LEAST_SHARE = 0.65
#: Databases that a message names.
MAX_NAMED = 10


class FoundDatabase(Struct, frozen=True, kw_only=True):
    """A database, and the app that it belongs to."""

    url: Url
    label: str  #: the name of its file, service or variable, as name of an app
    profile: str = ""  #: empty: it belongs to no app that has a profile
    name: str = "main"  #: the name of the database in the profile
    address: Address  #: for the configuration
    table_count: int
    runner: str  #: what wrote its ledger of migrations; empty: it has none

    @property
    def place(self) -> str:
        """The path, relative below the current directory, or the address without password."""
        relative = os.path.relpath(self.url.path) if self.url.is_local else ".."
        return str(self.url) if relative.startswith("..") else relative

    @property
    def content(self) -> str:
        """What was found, in words."""
        migrations = f", migrations of {self.runner}" if self.runner else ""
        return f"{self.place}: {format_count(self.table_count, 'table')}{migrations}"


class RecognizedApp(Struct, frozen=True, kw_only=True):
    """The app of the databases at a place."""

    profile: str
    addresses: Mapping[str, Address]  #: by the names of the databases; the others are found by the profile
    notes: Sequence[str]  #: what was found


def is_place(text: str) -> bool:
    """Return whether a text is the address of a database, or a directory or file, and not the name of a profile."""
    if "://" in text or is_foreign_address(text):
        return True
    if text.endswith(".toml") or text in [profile.name for profile in loader.list_available()]:
        return False
    return os.path.lexists(text)


def recognize_app(place: str, label: str, *, profile: str = "") -> RecognizedApp:
    """Return the app whose databases are at a place: a directory, a database, an environment file, a Compose file or a container.

    An app without a profile has one database and the profile ``plain``.

    Args:
        place: a path, an address, or the route to a container.
        label: selects one of several databases of unknown apps; empty: there is only one.
        profile: that of the app, whose main database is the only one, and compared with no profile; empty: it is recognized.

    Raises:
        FileMissingError: there is no database.
        UrlInvalidError, UnreachableError: the address is invalid, or its server is not reachable.
        DatabasesAmbiguousError: the databases belong to several apps.
    """
    profiles = [] if profile else list(_load_profiles())
    databases = list(_find_databases(place, profiles))
    if not databases:
        raise FileMissingError(kind="database", path=place)
    known = [entry for entry in databases if entry.profile]
    others = [entry for entry in databases if not entry.profile]
    if known:
        if len({entry.profile for entry in known}) > 1 or len({entry.name for entry in known}) < len(known):
            raise _create_ambiguity(place, databases)
        notes = [
            DRAFT.write(facts={"content": entry.content, "place": entry.place, "file": f"{entry.label}.toml"})
            for entry in others
        ]
        addresses = {entry.name: entry.address for entry in known}
        notes += _list_routes(place, known)
        return RecognizedApp(profile=known[0].profile, addresses=addresses, notes=notes)
    selected = [entry for entry in others if entry.label == label] if len(others) > 1 else others
    if len(selected) != 1:
        raise _create_ambiguity(place, databases)
    (own,) = selected
    if profile not in ("", PLAIN):
        main = loader.load(profile).main_database
        notes = list(_list_routes(place, selected))
        return RecognizedApp(profile=profile, addresses={main: own.address}, notes=notes)
    reason = "" if profile else "it belongs to no known app: "
    content = f"{own.content}; {reason}profile {PLAIN}"
    notes = [DRAFT_OWN.write(facts={"content": content, "app": label or PLAIN, "file": f"{own.label}.toml"})]
    notes += _list_routes(place, selected)
    return RecognizedApp(profile=PLAIN, addresses={"main": own.address}, notes=notes)


def _list_routes(place: str, databases: Iterable[FoundDatabase]) -> Iterator[str]:
    """Yield how databases of a Compose file or of an app are reached."""
    for entry in databases:
        if entry.address.via and not is_route(place):
            yield f"the service {entry.label} publishes no port on this machine: it is reached by {entry.address.via}"
        elif entry.address.via not in ("", place):
            yield f"the database of {place} is reached by {entry.address.via}"


DRAFT = Remedy(
    "{content}; it belongs to no known app. Draft its profile with: `profiles draft {place} --to {file}`"
)
DRAFT_OWN = Remedy("{content}. For users and roles: `profiles draft --app {app} --to {file}`")
INIT, INIT_PLACE = Remedy("`init {place} --app {label}`"), Remedy("`init {place}`")
INIT_PROFILE = Remedy("`init {profile} --url {url}`")


def _create_ambiguity(place: str, databases: Sequence[FoundDatabase]) -> DatabasesAmbiguousError:
    """Return the error with the command that configures each database."""
    labels = Counter(entry.label for entry in databases)
    commands = list[str]()
    for entry in databases:
        remedy, facts = INIT, {"place": entry.place, "label": entry.label}
        if entry.profile:
            remedy, facts = INIT_PROFILE, {"profile": entry.profile, "url": f"{entry.name}={entry.place}"}
        elif entry.url.is_local:
            if labels[entry.label] > 1:  # the folder distinguishes files of one name
                facts["label"] = _clean_name(f"{Path(entry.url.path).parent.name}-{entry.label}")
        else:
            remedy, facts["place"] = (INIT, place) if labels[entry.label] == 1 else (INIT_PLACE, entry.place)
        commands.append(remedy.write(facts=facts))
    places = ", ".join(entry.place for entry in databases[:MAX_NAMED])
    more = f" and {len(databases) - MAX_NAMED} more" if len(databases) > MAX_NAMED else ""
    return DatabasesAmbiguousError(
        place=place, count=len(databases), found=places + more, commands="; ".join(commands[:MAX_NAMED])
    )


def _find_databases(place: str, profiles: Sequence[Profile]) -> Iterator[FoundDatabase]:
    path = Path(place)
    if is_route(place):
        yield from _recognize_container(check_route(place), profiles)
    elif "://" in place or is_foreign_address(place):
        yield _recognize(Address(text=place), profiles)
    elif not path.is_dir():
        yield from _recognize_files([path], profiles)
    elif registry.find_folder_engine(path) is not None:
        yield _recognize(_create_path_address(path), profiles)
    else:
        files = list(_recognize_directory(path, profiles))
        settings = [] if any(entry.profile for entry in files) else list(_recognize_settings(path, profiles))
        yield from [*files, *settings]
        if not any(entry.profile for entry in (*files, *settings)):
            paths = [path / ".env", find_compose_file(path)]
            entries = _recognize_files([file for file in paths if file and file.is_file()], profiles)
            yield from _exclude_known(entries, files)


def _exclude_known(
    entries: Iterable[FoundDatabase], files: Sequence[FoundDatabase]
) -> Iterator[FoundDatabase]:
    """Yield databases once: a variable and a service, or a variable and a file, may be the same one."""
    seen = {_identify(entry.url) for entry in files}
    for entry in entries:
        key = _identify(entry.url)
        if key not in seen:
            seen.add(key)
            yield entry


def _identify(url: Url) -> tuple[object, ...]:
    if url.is_local:
        return (os.path.realpath(url.path),)
    host = "127.0.0.1" if url.host in ("", "localhost", "[::1]") else url.host
    return url.engine, url.via, host, url.port or DEFAULT_PORTS.get(url.engine), url.path


def _recognize_files(files: Sequence[Path], profiles: Sequence[Profile]) -> Iterator[FoundDatabase]:
    """Yield the databases of environment files and Compose files, and files that are databases.

    Raises:
        DbctlError: a file or a server cannot be read, and no other has a database.
    """
    failures, is_empty = list[DbctlError](), True
    for path in files:
        try:
            entries = list(_list_addresses(path))
        except DbctlError as error:
            failures.append(error)
            continue
        for database in _recognize_addresses(entries, profiles, failures):
            is_empty = False
            yield database
    if failures and is_empty:
        if isinstance(failures[0], NotADatabaseError):  # no app that has backups
            failures[0].hint = "Check the path."
        raise failures[0]


def _recognize_addresses(
    entries: Iterable[tuple[str, Address]], profiles: Sequence[Profile], failures: list[DbctlError]
) -> Iterator[FoundDatabase]:
    """Yield the databases of named addresses, and append the errors of the others to ``failures``."""
    for label, address in entries:
        try:
            yield _recognize(address, profiles, label)
        except DbctlError as error:
            failures.append(error)


def _recognize_container(via: str, profiles: Sequence[Profile]) -> Iterator[FoundDatabase]:
    """Yield the databases of a container, each once.

    Raises:
        DbctlError: it has none, or none can be opened.
    """
    failures = list[DbctlError]()
    entries = list_container_addresses(via, profiles)
    databases = list(_exclude_known(_recognize_addresses(entries, profiles, failures), []))
    if not databases:
        raise failures[0]
    yield from databases


def _list_addresses(path: Path) -> Iterable[tuple[str, Address]]:
    if path.suffix in (".yaml", ".yml"):
        return ComposeFile(path).list_addresses()
    if ENV_FILE.fullmatch(path.name):
        return list_env_addresses(path)
    return [("", _create_path_address(path))]


def _recognize_directory(directory: Path, profiles: Sequence[Profile]) -> Iterator[FoundDatabase]:
    for path in walk_directory(directory, []):
        is_database = path.is_dir() and registry.find_folder_engine(path) is not None
        if not path.is_dir() and os.path.isfile(path):
            with suppress(OSError):
                is_database = detect_file_type(path).content == "sqlite"
        if is_database:
            with suppress(DbctlError):  # such as a damaged file, which doctor reports once it is configured
                yield _recognize(_create_path_address(path), profiles)


def _recognize_settings(directory: Path, profiles: Sequence[Profile]) -> Iterator[FoundDatabase]:
    """Yield the databases on servers that the settings of known apps name.

    Several apps have files of the same name, so the tables of each database decide.
    """
    databases, failure = dict[str, FoundDatabase](), None
    for profile in profiles:
        for name, section in profile.databases.items():
            file = addresses.find_env_file(section, directory, None)
            if file is None:
                continue
            try:
                variables = addresses.read_variables(file)
                address = Address(text=addresses.build_address(section, variables, file, name), env_file=file)
                text = address.fill()
                if text and text not in databases:
                    databases[text] = _recognize(address, profiles)
            except DbctlError as error:
                failure = failure or error
                continue
            match = databases.get(text)
            if match and (match.profile, match.name) == (profile.name, name):
                yield structs.replace(match, address=address)
    if failure and not databases:
        raise failure


def _load_profiles() -> Iterator[Profile]:
    for available in loader.list_available():
        with suppress(DbctlError):  # reported by: dbctl profiles list
            yield loader.load(available.name)


def _create_path_address(path: Path) -> Address:
    """Return the address of a file or folder, also if its name begins like a URL."""
    return Address(text=os.path.abspath(path))  # noqa: PTH100 - links remain


def _clean_name(text: str) -> str:
    """Return a text as the name of an app."""
    return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9_.-]", "", text) or "app"


def _recognize(address: Address, profiles: Sequence[Profile], label: str = "") -> FoundDatabase:
    url = next(iter(config.parse_urls([address.fill()], Path.cwd()).values()))
    if url.has_no_scheme and (folder_engine := registry.find_folder_engine(Path(url.path))):
        url = structs.replace(url, engine=folder_engine.name, has_no_scheme=False)
        address = structs.replace(address, text=f"{url.engine}:{address.text}")
    with closing(registry.load_engine(url.engine).open_for_reading(url, str(url), timeout=TIMEOUT)) as db:
        tables = db.tables()
        table_count = sum(not table.is_view for table in tables.values())
        runner = "" if url.is_folder else _find_runner(db, url)
    database = FoundDatabase(
        url=url,
        label=_clean_name(label or Path(url.path).stem),
        address=address,
        table_count=table_count,
        runner=runner,
    )
    matches = sorted(_match_profiles(url, tables, profiles), key=lambda match: -match[0])
    if not matches:
        return database
    _, profile, name = matches[0]
    return structs.replace(database, profile=profile.name, name=name)


def _find_runner(db: Readable, url: Url) -> str:
    """Return what wrote the ledger of migrations; empty without a ledger."""
    ledger, foreign = ledger_detection.detect_ledgers(db, url.engine)
    return foreign.runner if foreign else ledger.table if ledger.table in db.tables() else ""


def _match_profiles(
    url: Url, tables: Mapping[str, Table], profiles: Sequence[Profile]
) -> Iterator[tuple[int, Profile, str]]:
    """Yield the databases of profiles that the tables and columns fit, with the number of those that the profile names.

    Other apps also have tables such as ``users`` and ``roles``: most of what the profile names must exist.
    """
    for profile in profiles:
        for name, section in profile.databases.items():
            if url.engine not in section.engines or not section.needs:
                continue
            for prefix in find_prefixes(profile, name, tables):
                counts = [
                    _count_existing(version, name, tables)
                    for version in list_versions(change_prefix(profile, prefix))
                ]
                if fitting := [existing for existing, named in counts if existing >= LEAST_SHARE * named]:
                    yield max(fitting), profile, name


def _count_existing(profile: Profile, database: str, tables: Mapping[str, Table]) -> tuple[int, int]:
    """Return how many of the tables and columns that a profile names for a database exist, and how many it names.

    Second factors are not counted, because many of them are those of plug-ins.
    """
    named, existing = set[tuple[str, str]](), set[tuple[str, str]]()
    for reference in list_schema_references(profile, profile.main_database):
        is_optional = reference.is_optional or reference.is_table_optional
        is_factor = reference.key[:2] == ("users", "second_factor")
        if reference.database == database and not (is_optional or is_factor):
            table = tables.get(reference.table)
            place = (reference.table, str(reference.column))
            named.add(place)
            if table and (reference.column is None or find_column(table, reference.column)):
                existing.add(place)
    return len(existing), len(named)
