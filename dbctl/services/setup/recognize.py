"""Recognize the apps of databases: those of a directory, or a single one, compared with every profile that has a name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote

from msgspec import structs

from dbctl.config import loader as config
from dbctl.engines import registry
from dbctl.engines.file_type import detect_file_type
from dbctl.errors import DbctlError, FileMissingError
from dbctl.files import is_regular
from dbctl.model import Struct
from dbctl.profiles import find_prefixes, loader
from dbctl.profiles.model import Profile
from dbctl.services.setup import env_file
from dbctl.services.setup.database_files import walk_directory
from dbctl.url import Url, parse_url

#: Seconds to wait for a locked database.
TIMEOUT = 1.0


class FoundDatabase(Struct, frozen=True, kw_only=True):
    """A database, and the app that it belongs to."""

    database: str  #: its path or URL, without a password
    profile: str | None  #: None: it belongs to no app that has a profile
    name: str | None  #: the name of the database in the profile
    settings: str | None = None  #: the app's own file with its address, if the app is on a server
    next: str  #: the command that configures the app, or drafts its profile


def find_single_app(databases: Sequence[FoundDatabase]) -> str:
    """Return the profile of the only recognized app; empty if there are several, or several databases of one kind."""
    known = [entry for entry in databases if entry.profile]
    profiles, names = {entry.profile for entry in known}, {entry.name for entry in known}
    return str(known[0].profile) if len(profiles) == 1 and len(names) == len(known) else ""


def is_place(text: str) -> bool:
    """Return whether a text is the address of a database, or a directory or file, and not the name of a profile."""
    if "://" in text:
        return True
    if text.endswith(".toml") or text in [profile.name for profile in loader.list_available()]:
        return False
    return os.path.lexists(text)


def recognize_databases(place: str) -> list[FoundDatabase]:
    """Return the databases of a directory, or the one at an address, with their apps.

    A directory without database files may have an app's own settings with the address of a server.

    Raises:
        FileMissingError: there is none.
        UrlInvalidError, UnreachableError: the address is invalid, or its server is not reachable.
    """
    if not os.path.isdir(place):  # noqa: PTH112 - a URL is no path
        return [_recognize(place)]
    directory = Path(place)
    databases = list(_recognize_directory(directory)) or list(_recognize_settings(directory))
    if not databases:
        raise FileMissingError(kind="database", path=place)
    return databases


def _recognize_directory(directory: Path) -> Iterator[FoundDatabase]:
    for path in walk_directory(directory, []):
        is_database = path.is_dir() and registry.find_folder_engine(path) is not None
        if not path.is_dir() and is_regular(path):
            with suppress(OSError):
                is_database = detect_file_type(path).content == "sqlite"
        if is_database:
            with suppress(DbctlError):  # such as a damaged file, which doctor reports once it is configured
                yield _recognize(str(path))


def _recognize_settings(directory: Path) -> Iterator[FoundDatabase]:
    """Yield the databases on servers that the settings of known apps name.

    Several apps have files of the same name, so the tables of each database decide.
    """
    databases, failure = dict[str, FoundDatabase](), None
    for profile in _load_profiles():
        for name, section in profile.databases.items():
            file = env_file.find_env_file(section, directory, None)
            if file is None:
                continue
            try:
                address = env_file.build_address(section, file, name)
                address = env_file.fill(address, env_file.read_variables(file))
                if address and address not in databases:
                    databases[address] = _recognize(address)
            except DbctlError as error:
                failure = failure or error
                continue
            match = databases.get(address)
            if match and (match.profile, match.name) == (profile.name, name):
                command = f"dbctl init {profile.name} {quote(str(directory))}"
                yield structs.replace(match, settings=str(file), next=command)
    if failure and not databases:
        raise failure


def _load_profiles() -> Iterator[Profile]:
    for available in loader.list_available():
        with suppress(DbctlError):  # reported by: dbctl profiles list
            yield loader.load(available.name)


def _recognize(address: str) -> FoundDatabase:
    url = next(iter(config.parse_urls([address], Path.cwd()).values()))
    if url.has_no_scheme and Path(url.path).is_dir():
        url = parse_url(f"lancedb:{url.path}")
    db = registry.load_engine(url.engine).open_for_reading(url, str(url), timeout=TIMEOUT)
    try:
        tables = db.tables()
    finally:
        db.close()
    matches = sorted(_match_profiles(url, tables), key=lambda match: -match[0])
    if not matches:
        command = f"dbctl profiles draft {quote(str(url))} --to {quote(_stem(url))}.toml"
        return FoundDatabase(database=str(url), profile=None, name=None, next=command)
    _, profile, name = matches[0]
    command = f"dbctl init {profile.name} --url {name}={quote(str(url))}"
    return FoundDatabase(database=str(url), profile=profile.name, name=name, next=command)


def _match_profiles(url: Url, tables: Collection[str]) -> Iterator[tuple[int, Profile, str]]:
    """Yield the databases of profiles whose identifying tables exist, with the number of known tables."""
    for profile in _load_profiles():
        for name, section in profile.databases.items():
            if url.engine not in section.engines or not section.needs:
                continue
            for prefix in find_prefixes(profile, name, tables):
                known = {*section.needs, *_list_tables(profile)}
                stems = (table.removeprefix(profile.prefix) for table in known)
                yield sum(f"{prefix}{stem}" in tables for stem in stems), profile, name


def _list_tables(profile: Profile) -> Sequence[str]:
    tables = [session.table for session in profile.sessions] + [search.table for search in profile.search]
    tables += [settings.table for settings in profile.settings] + [rule.table for rule in profile.cleanup]
    tables += [profile.users.table] if profile.users else []
    return [table.removesuffix("?") for table in tables]


def _stem(url: Url) -> str:
    return Path(url.path).stem or "app"
