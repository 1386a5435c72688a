"""Find the databases of an app below a directory, and write a configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dbctl.config import Retention, model
from dbctl.config import loader as config
from dbctl.engines import registry
from dbctl.errors import (
    AlreadyExistsError,
    DatabaseNotFoundError,
    DatabaseUnknownError,
    DbctlError,
    FileFailedError,
    FileMissingError,
    NotSupportedError,
    UsageError,
)
from dbctl.files import expand_home, is_regular, toml, write_atomically
from dbctl.model import ChangeResult, Plan
from dbctl.profiles import find_prefixes, loader
from dbctl.profiles.model import Database, Profile
from dbctl.services.app import App, find_wrong_app_hint
from dbctl.services.backup import has_rules, prune
from dbctl.services.setup import env_file
from dbctl.url import PATH_ENGINE, Url, resolve_engine

MAX_DEPTH = 5  #: searched levels below the directory
#: A literal password in a URL; names of variables are not secret.
PASSWORD = re.compile(r"(://[^:@]*:)(?!\$\{\w+\}@).*(?=@)")
#: Large folders without databases.
SKIPPED_FOLDERS = frozenset({"node_modules", ".git", ".venv", "__pycache__"})
#: The initial backup section. The durations match the jobs of ``schedule cron``.
BACKUP_SECTION = """repository = "backups"
keep = {{ {keep} }}
max_age = "26h"
verify_within = "8d"
drill_within = "32d"
"""
DEFAULT_RETENTION = Retention(last=7, daily=14, weekly=8, monthly=12)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class InitResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``init``."""

    app: str
    profile: str
    config: str
    databases: Mapping[str, str]  #: as in the file, without passwords
    migrations: Mapping[str, str]
    missing: Sequence[str]  #: optional databases that do not exist


def config_exists(file: Path, app: str) -> bool:
    """Return whether the configuration exists already.

    Raises:
        AlreadyExistsError: it contains an app with that name.
        FileFailedError: it is not a regular file.
    """
    exists = os.path.lexists(file)
    if exists and not is_regular(file):
        raise FileFailedError(path=file, reason="it is not a regular file")
    if exists and app in config.read(file).apps:
        raise AlreadyExistsError(
            target=file,
            kind="an app",
            name=app,
            hint="Choose another name with --app, or edit the file.",
        )
    return exists


class InitConfig:
    """Write the configuration of an app."""

    def __init__(
        self,
        profile: str,
        directory: Path | None,
        *,
        app: str,
        file: Path,
        urls: Sequence[str],
        protected: bool,
        settings: Path | None = None,
    ) -> None:
        """Find the databases: in ``urls``, in the environment file ``settings``, and below the directory.

        The default directory is the current one, or the usual directory of the app if only that contains its files.

        Raises:
            DatabaseNotFoundError: a required database does not exist below the directory.
            UsageError: several files match, or the app's name is invalid.
            AlreadyExistsError: the configuration contains an app with that name.
        """
        app_profile = loader.load(profile)
        directory = _find_app_directory(app_profile) if directory is None else directory
        self.app = app or app_profile.name
        self.protected = False  #: deletes nothing
        self._file, self._mark_protected = file, protected
        self._profile = self._relative(Path(profile)) if profile.endswith(".toml") else profile
        if not NAME.fullmatch(self.app):
            raise UsageError(
                detail=f"--app {self.app!r}: only letters, digits, dots, dashes and underscores are allowed"
            )
        if not directory.is_dir():
            raise FileMissingError(kind="directory", path=directory)
        self._exists = config_exists(file, self.app)
        addresses = self._read_urls(app_profile, urls)
        addresses |= self._read_settings(
            app_profile,
            directory,
            settings,
            [name for name in app_profile.databases if name not in addresses],
        )
        files = {
            name: path
            for name in app_profile.databases
            if name not in addresses and (path := _find_database(app_profile, name, directory))
        }
        addresses |= {name: self._relative(path) for name, path in files.items()}
        relative_directory = self._relative(
            next((_strip_pattern(app_profile.databases[name], path) for name, path in files.items()), None)
            or directory
        )
        keep = app_profile.backup.keep if has_rules(app_profile.backup.keep) else DEFAULT_RETENTION
        rules = (
            f"{name} = {toml.quoted(value, value=True) if isinstance(value, str) else value}"
            for name, value in prune.rules_by_name(keep).items()
        )
        self._backup = BACKUP_SECTION.format(keep=", ".join(rules))
        # Only needed if backups include files of the app.
        self._directory = relative_directory if app_profile.backup.extra and relative_directory != "." else ""
        self._databases = {name: addresses[name] for name in app_profile.databases if name in addresses}
        self._prefix = self._detect_prefix(app_profile)
        self._missing = [name for name in app_profile.databases if name not in addresses]
        self._migrations = {
            name: self._relative(folder)
            for name, database in app_profile.databases.items()
            for folder in _find_migrations(database, directory)
            if name in self._databases
        }

    def plan(self) -> Plan:
        """Return the plan; writes nothing."""
        verb = "add to" if self._exists else "create"
        steps = [f"{verb} {self._file}: [apps.{self.app}]"]
        steps += [f"settings of the app = {self._settings}"] if self._settings else []
        steps += [f"{name} = {address}" for name, address in self._mask_passwords().items()]
        steps += [f"migrations of {name} = {folder}" for name, folder in self._migrations.items()]
        steps += [f"backups: {self._backup.replace(chr(10), ', ').strip(', ')}"]
        return Plan(title=f"Configure {self.app}", target=self.app, steps=steps, rows={})

    def apply(self, confirmed: str | None = None) -> InitResult:
        """Write the configuration atomically; existing text remains unchanged.

        Raises:
            UsageError: a section cannot be appended to the existing text.
        """
        del confirmed  # no other process writes this section
        exists = self._exists
        old_text = self._file.read_bytes().decode() if exists else ""
        gap = "" if not old_text else "\n" if old_text.endswith("\n") else "\n\n"
        text = old_text + gap + self._create_section()
        try:
            toml.loads(text.removeprefix("\ufeff"))
        except toml.TomlError as error:
            detail = f"{self._file}: [apps.{self.app}] cannot be appended ({error}); edit the file"
            raise UsageError(detail=detail) from error
        with write_atomically(self._file, mode=0o600, replace=exists) as out:
            out.write(text)
        return InitResult(
            app=self.app,
            profile=self._profile,
            config=str(self._file),
            databases=self._mask_passwords(),
            migrations=self._migrations,
            missing=self._missing,
        )

    def _mask_passwords(self) -> dict[str, str]:
        return {name: PASSWORD.sub(r"\1***", address) for name, address in self._databases.items()}

    def _create_section(self) -> str:
        lines = [f"[apps.{toml.quoted(self.app)}]", f"profile = {toml.quoted(self._profile, value=True)}"]
        lines += [f"prefix = {toml.quoted(self._prefix, value=True)}"] if self._prefix is not None else []
        lines += ["protected = true"] if self._mark_protected else []
        lines += [f"directory = {toml.quoted(self._directory, value=True)}"] if self._directory else []
        lines += [f"env_file = {toml.quoted(self._settings, value=True)}"] if self._settings else []
        for section, entries in (("databases", self._databases), ("migrations", self._migrations)):
            if entries:
                lines += ["", f"[apps.{toml.quoted(self.app)}.{section}]"]
                lines += [
                    f"{toml.quoted(name)} = {toml.quoted(path, value=True)}" for name, path in entries.items()
                ]
        lines += ["", f"[apps.{toml.quoted(self.app)}.backup]", self._backup]
        return "\n".join(lines)

    def _read_settings(
        self, profile: Profile, directory: Path, settings: Path | None, names: Sequence[str]
    ) -> dict[str, str]:
        """Return the URLs of databases from the app's own environment file, as written into the configuration.

        Raises:
            NotSupportedError: a file was specified, but the profile defines no variables.
            UsageError: the specified file sets none of the variables.
        """
        self._settings, addresses = "", dict[str, str]()
        if settings and not any(section.environment for section in profile.databases.values()):
            hint = "Specify its databases: --url DATABASE=URL."
            raise NotSupportedError(feature="--env-file", subject=profile.title, hint=hint)
        for name in names:
            file = env_file.find_env_file(profile.databases[name], directory, settings)
            paths = env_file.list_database_paths(profile.databases[name], directory, file) if file else None
            if paths is not None:  # otherwise it is searched like the other databases
                valid = [path for path in paths if path.is_file() and not _find_mismatch(path, profile, name)]
                addresses |= {name: self._relative(valid[0])} if valid else {}
                continue
            address = env_file.build_address(profile.databases[name], file, name) if file else ""
            if file and address:
                addresses[name], self._settings = address, self._relative(file)
            elif file and settings:
                variables = env_file.join_variable_names(profile.databases[name])
                raise UsageError(detail=f"{file} has no URL of {name}: it sets none of {variables}")
        return addresses

    def _read_urls(self, profile: Profile, urls: Sequence[str]) -> dict[str, str]:
        """Return the URLs of the option ``--url``, as written into the configuration."""
        addresses = {}
        for name, url in config.parse_urls(urls, Path.cwd()).items():
            if name not in profile.databases:
                raise DatabaseUnknownError(app=self.app, name=name, names=", ".join(profile.databases))
            url = resolve_engine(url, profile.databases[name].engines)  # noqa: PLW2901 - resolved for the engines of the profile
            if url.engine not in profile.databases[name].engines:
                engines = " or ".join(profile.databases[name].engines)
                raise NotSupportedError(
                    feature=url.engine, subject=f"{profile.title}'s {name}", hint=f"Its engine is {engines}."
                )
            text = next(text for text in urls if name in config.parse_urls([text], Path.cwd()))
            addresses[name] = (
                self._relative(Path(url.path)) if url.is_local else text.removeprefix(f"{name}=")
            )
        return addresses

    def _detect_prefix(self, profile: Profile) -> str | None:
        """Return the prefix of the app's tables if it differs from that of the profile.

        Raises:
            AmbiguousPrefixError: the main database has the tables with several prefixes.
        """
        if not profile.prefix:
            return None
        folder = self._file.resolve().parent
        addresses = [f"{name}={address}" for name, address in self._databases.items()]
        try:
            databases = config.parse_urls(addresses, folder)
        except UsageError:  # an address with a variable
            return None
        configured = model.App(
            name=self.app,
            profile=self._profile,
            protected=False,
            databases=databases,
            migrations={},
            folder=folder,
            directory=folder,
        )
        app = App(configured, profile, timeout=1)
        app.resolve_prefix()
        return app.profile.prefix if app.profile.prefix != profile.prefix else None

    def _relative(self, path: Path) -> str:
        return os.path.relpath(os.path.realpath(path), Path(os.path.realpath(self._file)).parent)


def _find_database(profile: Profile, name: str, directory: Path) -> Path | None:
    """Return the path of a database below ``directory``, or None for a missing optional database."""
    section = profile.databases[name]
    if section.environment and not (section.find or section.optional):
        expected = (
            f"{' or '.join(section.environment.find)} that sets {env_file.join_variable_names(section)}"
        )
        raise DatabaseNotFoundError(
            name=name, profile=profile.title, files=expected, directory=directory, candidates=""
        )
    for pattern in section.find:
        if _has_database_type(directory / pattern, section) and not _find_mismatch(
            directory / pattern, profile, name
        ):
            return directory / pattern
    file_names = {Path(pattern).name for pattern in section.find}
    unreadable: list[str] = []
    files = {
        os.path.realpath(path): path
        for path in walk_directory(directory, unreadable)
        if path.name in file_names and _has_database_type(path, section)
    }
    reasons = {path: _find_mismatch(path, profile, name) for path in files.values()}
    valid = [path for path, reason in reasons.items() if not reason]
    nearest = [path for path in valid if len(path.parts) == min(len(candidate.parts) for candidate in valid)]
    if len(nearest) > 1:
        names = ", ".join(str(path) for path in nearest)
        raise UsageError(
            detail=f"several files match the database {name}: {names}; select one with --url {name}=PATH"
        )
    if nearest or section.optional:
        return nearest[0] if nearest else None
    notes = [f" {path} does not match: {reason}." for path, reason in reasons.items()]
    notes += [f" {folder} is not readable." for folder in unreadable]
    raise DatabaseNotFoundError(
        name=name,
        profile=profile.title,
        files=" or ".join(sorted(file_names)) or "any file",
        directory=directory,
        candidates="".join(notes),
    )


def _find_app_directory(profile: Profile) -> Path:
    """Return the usual directory of the app if only that contains a database, otherwise the current directory."""
    current = Path()
    for path in profile.home:
        try:
            home = expand_home(path)
        except UsageError:  # the user has no home directory
            continue
        if (
            home.is_dir()
            and not _contains_database(profile, current, excluding=home)
            and _contains_database(profile, home)
        ):
            return home
    return current


def _contains_database(profile: Profile, directory: Path, *, excluding: Path | None = None) -> bool:
    """Whether a directory contains a required database, outside of ``excluding``."""
    for name, section in profile.databases.items():
        if section.optional or not section.find:
            continue
        try:
            path = _find_database(profile, name, directory)
        except DatabaseNotFoundError:
            continue
        except UsageError:  # several files match
            return True
        if path and not (excluding and path.resolve().is_relative_to(excluding.resolve())):
            return True
    return False


def _strip_pattern(section: Database, path: Path) -> Path | None:
    """Return the directory of the app, derived from the path of a database, or None if it is ambiguous."""
    for pattern in sorted(section.find, key=lambda candidate: -len(Path(candidate).parts)):
        parts = Path(pattern).parts
        if len(parts) > 1 and path.parts[-len(parts) :] == parts:
            return Path(*path.parts[: -len(parts)])
    return None


def walk_directory(directory: Path, unreadable: list[str]) -> Iterator[Path]:
    """Yield files and folders below ``directory``; adds unreadable folders to ``unreadable``."""
    for root, folders, files in os.walk(directory, onerror=lambda error: unreadable.append(error.filename)):
        folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
        if len(Path(root).relative_to(directory).parts) >= MAX_DEPTH:
            folders.clear()
        for name in sorted([*files, *folders]):
            yield Path(root) / name


def _has_database_type(path: Path, section: Database) -> bool:
    """Whether a path is a file, or a folder for engines that store databases in folders."""
    return (
        path.is_dir() if resolve_engine(_create_bare_url(path), section.engines).is_folder else path.is_file()
    )


def _create_bare_url(path: Path) -> Url:
    return Url(engine=PATH_ENGINE, path=os.path.realpath(path), has_no_scheme=True)


def _find_mismatch(path: Path, profile: Profile, name: str) -> str:
    """Return why a file is not the database, or an empty string."""
    section = profile.databases[name]
    try:
        url = resolve_engine(_create_bare_url(path), section.engines)
        db = registry.load_engine(url.engine).open_for_reading(url, name, timeout=1)
    except DbctlError as error:
        return str(error)
    try:
        missing = [table for table in section.needs if table not in db.tables()]
        if missing and profile.prefix and find_prefixes(profile, section.needs, db.tables()):
            return ""
    except DbctlError as error:
        return str(error)
    else:
        recognised = find_wrong_app_hint(section, db.tables()) if missing else ""
    finally:
        db.close()
    if not missing:
        return ""
    return f"it lacks table {', '.join(missing)}" + (f" ({recognised})" if recognised else "")


def _find_migrations(section: Database, directory: Path) -> list[Path]:
    if section.migrations is None:
        return []
    return [directory / folder for folder in section.migrations.find if (directory / folder).is_dir()][:1]
