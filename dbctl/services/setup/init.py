"""The first step with an app: its databases found below a directory, and written into a configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dbctl.config import Keep
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
from dbctl.files import expand_home, is_regular, toml, written_whole
from dbctl.model import Done, Plan
from dbctl.profiles import loader
from dbctl.profiles.model import Database, Profile
from dbctl.services.app import recognised_as
from dbctl.services.backup import has_rules, prune
from dbctl.services.setup import env_file
from dbctl.url import Url, meant

DEEPEST = 5  #: levels below the directory that are looked through
#: A password that stands in an address itself; what names a variable tells nothing.
PASSWORD = re.compile(r"(://[^:@]*:)(?!\$\{\w+\}@).*(?=@)")
#: Folders in which no app keeps its databases, and which can be huge.
SKIPPED = frozenset({"node_modules", ".git", ".venv", "__pycache__"})
#: Where backups go and how long they stay, until somebody says otherwise: in the file, for everybody to see.
#: The lengths of time fit the jobs of ``schedule cron``.
BACKUP = """repository = "backups"
keep = {{ {keep} }}
max_age = "26h"
verify_within = "8d"
drill_within = "32d"
"""
KEEP = Keep(last=7, daily=14, weekly=8, monthly=12)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Initialised(Done, frozen=True, kw_only=True):
    """Answer of ``init``."""

    app: str
    profile: str
    config: str
    databases: Mapping[str, str]  #: as the file says it, passwords left out
    migrations: Mapping[str, str]
    missing: Sequence[str]  #: optional databases that were not found


def has_room(file: Path, app: str) -> bool:
    """Say whether there is a configuration already, in which an app of that name finds room.

    Raises:
        AlreadyExistsError: it has such an app.
        FileFailedError: it is no regular file.
    """
    there = os.path.lexists(file)
    if there and not is_regular(file):
        raise FileFailedError(path=file, reason="it is no regular file")
    if there and app in config.read(file).apps:
        raise AlreadyExistsError(
            target=file,
            what="an app",
            name=app,
            instead="Choose another name with --app, or edit the file.",
        )
    return there


class Setup:
    """A configuration to be written; ready to be shown or applied like every other change."""

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
        """Look for the databases: in ``urls``, in the app's own file of ``settings``, and below the directory.

        Where no directory is said, it is the present one, or the app's own in which the app keeps its files.

        Raises:
            DatabaseNotFoundError: a database that must be there was not found below the directory.
            UsageError: several files could be the one, or the app's name would not do.
            AlreadyExistsError: the configuration has such an app.
        """
        told = loader.load(profile)
        directory = _home(told) if directory is None else directory
        self.app = app or told.name
        self.protected = False  #: nothing is destroyed
        self._file, self._marked = file, protected
        self._profile = self._relative(Path(profile)) if profile.endswith(".toml") else profile
        if not NAME.fullmatch(self.app):
            raise UsageError(
                detail=f"--app {self.app!r}: a name is made of letters, digits, dots, dashes and underscores"
            )
        if not directory.is_dir():
            raise FileMissingError(what="directory", path=directory)
        self._there = has_room(file, self.app)
        addresses = self._given(told, urls)
        addresses |= self._told(
            told, directory, settings, [name for name in told.databases if name not in addresses]
        )
        found = {
            name: path
            for name in told.databases
            if name not in addresses and (path := _find(told, name, directory))
        }
        addresses |= {name: self._relative(path) for name, path in found.items()}
        place = self._relative(
            next((_top(told.databases[name], path) for name, path in found.items()), None) or directory
        )
        keep = told.backup.keep if has_rules(told.backup.keep) else KEEP
        rules = (
            f"{name} = {toml.quoted(value, value=True) if isinstance(value, str) else value}"
            for name, value in prune.told(keep).items()
        )
        self._backup = BACKUP.format(keep=", ".join(rules))
        # Only an app of which files belong to a backup needs it.
        self._directory = place if told.backup.extra and place != "." else ""
        self._databases = {name: addresses[name] for name in told.databases if name in addresses}
        self._missing = [name for name in told.databases if name not in addresses]
        self._migrations = {
            name: self._relative(folder)
            for name, database in told.databases.items()
            for folder in _folders(database, directory)
            if name in self._databases
        }

    def plan(self) -> Plan:
        """Return what would be written."""
        verb = "add to" if self._there else "create"
        steps = [f"{verb} {self._file}: [apps.{self.app}]"]
        steps += [f"settings of the app = {self._settings}"] if self._settings else []
        steps += [f"{name} = {address}" for name, address in self._shown().items()]
        steps += [f"migrations of {name} = {folder}" for name, folder in self._migrations.items()]
        steps += [f"backups: {self._backup.replace(chr(10), ', ').strip(', ')}"]
        return Plan(title=f"Configure {self.app}", target=self.app, steps=steps, rows={})

    def apply(self, seen: str | None = None) -> Initialised:
        """Write the configuration, whole or not at all; what stands in it stays, to the letter.

        Raises:
            UsageError: what stands in it leaves no room for another table of apps.
        """
        del seen  # nothing else writes what this writes
        there = self._there
        before = self._file.read_bytes().decode() if there else ""
        gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
        text = before + gap + self._entry()
        try:
            toml.loads(text.removeprefix("\ufeff"))
        except toml.TomlError as error:
            detail = f"{self._file} takes no further table [apps.{self.app}] ({error}); write it into the file by hand"
            raise UsageError(detail=detail) from error
        with written_whole(self._file, mode=0o600, replace=there) as out:
            out.write(text)
        return Initialised(
            app=self.app,
            profile=self._profile,
            config=str(self._file),
            databases=self._shown(),
            migrations=self._migrations,
            missing=self._missing,
        )

    def _shown(self) -> dict[str, str]:
        return {name: PASSWORD.sub(r"\1***", address) for name, address in self._databases.items()}

    def _entry(self) -> str:
        lines = [f"[apps.{toml.quoted(self.app)}]", f"profile = {toml.quoted(self._profile, value=True)}"]
        lines += ["protected = true"] if self._marked else []
        lines += [f"directory = {toml.quoted(self._directory, value=True)}"] if self._directory else []
        lines += [f"env_file = {toml.quoted(self._settings, value=True)}"] if self._settings else []
        for word, told in (("databases", self._databases), ("migrations", self._migrations)):
            if told:
                lines += ["", f"[apps.{toml.quoted(self.app)}.{word}]"]
                lines += [
                    f"{toml.quoted(name)} = {toml.quoted(path, value=True)}" for name, path in told.items()
                ]
        lines += ["", f"[apps.{toml.quoted(self.app)}.backup]", self._backup]
        return "\n".join(lines)

    def _told(
        self, told: Profile, directory: Path, settings: Path | None, wanted: Sequence[str]
    ) -> dict[str, str]:
        """Return what the app's own file of settings says of databases, as the file will say it.

        Raises:
            NotSupportedError: the profile does not know how the app says it, and a file was given.
            UsageError: nothing in the file that was given says it.
        """
        self._settings, addresses = "", dict[str, str]()
        if settings and not any(one.environment for one in told.databases.values()):
            instead = "Say where its databases are: --url DATABASE=URL."
            raise NotSupportedError(what="--env-file", by=told.title, instead=instead)
        for name in wanted:
            file = env_file.found(told.databases[name], directory, settings)
            local = env_file.places(told.databases[name], directory, file) if file else None
            if local is not None:  # where it is not, it is looked for as if nothing had said it
                fit = [one for one in local if one.is_file() and not _unfit(one, told.databases[name], name)]
                addresses |= {name: self._relative(fit[0])} if fit else {}
                continue
            said = env_file.address(told.databases[name], file, name) if file else ""
            if file and said:
                addresses[name], self._settings = said, self._relative(file)
            elif file and settings:
                words = env_file.words(told.databases[name])
                raise UsageError(detail=f"{file} does not say where {name} is: it sets none of {words}")
        return addresses

    def _given(self, told: Profile, urls: Sequence[str]) -> dict[str, str]:
        """Return what ``--url`` says of each database, as the file will say it."""
        found = {}
        for name, url in config.given(urls, Path.cwd()).items():
            if name not in told.databases:
                raise DatabaseUnknownError(app=self.app, name=name, names=", ".join(told.databases))
            url = meant(url, told.databases[name].engines)  # noqa: PLW2901 - the same, as the profile means it
            if url.engine not in told.databases[name].engines:
                engines = " or ".join(told.databases[name].engines)
                raise NotSupportedError(
                    what=url.engine, by=f"{told.title}'s {name}", instead=f"It lives in {engines}."
                )
            text = next(text for text in urls if name in config.given([text], Path.cwd()))
            found[name] = self._relative(Path(url.path)) if url.is_local else text.removeprefix(f"{name}=")
        return found

    def _relative(self, path: Path) -> str:
        return os.path.relpath(os.path.realpath(path), Path(os.path.realpath(self._file)).parent)


def _find(profile: Profile, name: str, directory: Path) -> Path | None:
    """Return the file of a database below ``directory``; None where it may be missing and is."""
    told = profile.databases[name]
    if told.environment and not (told.find or told.optional):
        where = f"{' or '.join(told.environment.find)} that sets {env_file.words(told)}"
        raise DatabaseNotFoundError(
            name=name, profile=profile.title, files=where, directory=directory, seen=""
        )
    for pattern in told.find:
        if _is_there(directory / pattern, told) and not _unfit(directory / pattern, told, name):
            return directory / pattern
    wanted = {Path(pattern).name for pattern in told.find}
    closed: list[str] = []
    files = {
        os.path.realpath(path): path
        for path in _walk(directory, closed)
        if path.name in wanted and _is_there(path, told)
    }
    reasons = {path: _unfit(path, told, name) for path in files.values()}
    found = [path for path, reason in reasons.items() if not reason]
    nearest = [path for path in found if len(path.parts) == min(len(one.parts) for one in found)]
    if len(nearest) > 1:
        names = ", ".join(str(path) for path in nearest)
        raise UsageError(
            detail=f"several files could be the database {name}: {names}; say which with --url {name}=PATH"
        )
    if nearest or told.optional:
        return nearest[0] if nearest else None
    seen = [f" {path} is not it: {reason}." for path, reason in reasons.items()]
    seen += [f" {folder} could not be looked into." for folder in closed]
    raise DatabaseNotFoundError(
        name=name,
        profile=profile.title,
        files=" or ".join(sorted(wanted)) or "which may be called anything",
        directory=directory,
        seen="".join(seen),
    )


def _home(profile: Profile) -> Path:
    """Return the app's own directory where it is there and nothing of the app is below the present one; else that."""
    here = Path()
    for path in profile.home:
        try:
            home = expand_home(path)
        except UsageError:  # the user has no home directory
            continue
        if home.is_dir() and not _is_below(profile, here, besides=home) and _is_below(profile, home):
            return home
    return here


def _is_below(profile: Profile, directory: Path, *, besides: Path | None = None) -> bool:
    """Whether a database that every deployment has is below a directory, but for what is in another one."""
    for name, told in profile.databases.items():
        if told.optional or not told.find:
            continue
        try:
            found = _find(profile, name, directory)
        except DatabaseNotFoundError:
            continue
        except UsageError:  # several could be it
            return True
        if found and not (besides and found.resolve().is_relative_to(besides.resolve())):
            return True
    return False


def _top(told: Database, path: Path) -> Path | None:
    """Return the app's directory, as far as the place of a database in it tells; None where it could be any."""
    for pattern in sorted(told.find, key=lambda one: -len(Path(one).parts)):
        parts = Path(pattern).parts
        if len(parts) > 1 and path.parts[-len(parts) :] == parts:
            return Path(*path.parts[: -len(parts)])
    return None


def _walk(directory: Path, closed: list[str]) -> Iterator[Path]:
    """Yield files and folders below ``directory``; ``closed`` gets the folders that do not let anybody look."""
    for root, folders, files in os.walk(directory, onerror=lambda error: closed.append(error.filename)):
        folders[:] = sorted(set(folders) - SKIPPED)
        if len(Path(root).relative_to(directory).parts) >= DEEPEST:
            folders.clear()
        for one in sorted([*files, *folders]):
            yield Path(root) / one


def _is_there(path: Path, told: Database) -> bool:
    """Whether something stands at a path that is of the kind in which the database is kept."""
    return path.is_dir() if meant(_bare(path), told.engines).is_folder else path.is_file()


def _bare(path: Path) -> Url:
    return Url(engine="sqlite", path=os.path.realpath(path), bare=True)


def _unfit(path: Path, told: Database, name: str) -> str:
    """Return why a file is not the database, or nothing."""
    try:
        opened = registry.open_for_reading(meant(_bare(path), told.engines), name, timeout=1)
    except DbctlError as error:
        return str(error)
    try:
        lacking = [table for table in told.needs if table not in opened.tables()]
    except DbctlError as error:
        return str(error)
    else:
        known = recognised_as(told, opened.tables()) if lacking else ""
    finally:
        opened.close()
    if not lacking:
        return ""
    return f"it lacks table {', '.join(lacking)}" + (f" ({known})" if known else "")


def _folders(told: Database, directory: Path) -> list[Path]:
    if told.migrations is None:
        return []
    return [directory / folder for folder in told.migrations.find if (directory / folder).is_dir()][:1]
