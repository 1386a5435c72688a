"""Which apps are here: the only reader of ``dbctl.toml``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from dbctl import durable, toml
from dbctl import url as urls
from dbctl.errors import (
    AppAmbiguousError,
    AppMissingError,
    ConfigInvalidError,
    ConfigMissingError,
    FileFailedError,
    FileMissingError,
    UrlInvalidError,
    UsageError,
)
from dbctl.model import read_span
from dbctl.url import Url

FILE_NAME = "dbctl.toml"
#: The name of the app that --profile and --url describe without a configuration.
UNNAMED_APP = "app"
#: The profile of a database that --url alone describes: all that needs to know no app.
PLAIN = "plain"

#: Takes where in the file something is wrong, and why.
Complain = Callable[[Sequence[toml.Key], str], None]

#: How the files of a backup are packed whose engine does not pack them itself.
Compression: TypeAlias = Literal["gzip", "zstd", "none"]

#: How many backups a rule may keep.
Count = Annotated[int, msgspec.Meta(ge=0, le=100_000)]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: User and password at the beginning of an address.
_LOGIN = re.compile(r"[A-Za-z][\w+]*://[^@/]*(?=@)")


class Keep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which backups stay: of each kind of time, the newest of so many that have any. Nothing said: no rule."""

    last: Count = 0  #: the newest ones, whatever their time
    hourly: Count = 0
    daily: Count = 0
    weekly: Count = 0
    monthly: Count = 0
    yearly: Count = 0
    within: str = ""  #: all that are at most so much older than the newest: ``30d``


class BackupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.backup]``."""

    repository: str
    keep: Keep = Keep()
    max_age: str = ""  #: ``26h``: an older newest backup is overdue
    format: str = ""  #: of the dumps of a server, where it knows several: ``custom``, ``plain``
    compress: Compression = "gzip"
    scratch: str = ""  #: the URL of a server that trial restores may use, in place of the app's own


class AppConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME]``: one deployed application. Paths are relative to the file."""

    profile: str
    protected: bool = False
    directory: str = ""  #: where the app is installed; else where the file is
    env_file: str = (
        ""  #: the app's own file of settings, whose variables count before those of the environment
    )
    databases: dict[str, str] = {}
    migrations: dict[str, str] = {}
    backup: BackupConfig | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    apps: dict[str, AppConfig] = {}


class App(msgspec.Struct, frozen=True, kw_only=True):
    """One app as configured: every address resolved, nothing opened yet."""

    name: str
    profile: str  #: a name, or the path of a profile file
    protected: bool
    databases: Mapping[str, Url]
    migrations: Mapping[str, Path]
    backup: BackupConfig | None = None
    scratch: Url | None = None  #: a server for trial restores
    folder: Path  #: what relative paths are relative to
    directory: Path  #: where the app is installed


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Every configured app."""

    path: Path | None
    apps: Mapping[str, App]


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of the command line said about which app is meant; empty means not said."""

    config: str = ""
    app: str = ""
    profile: str = ""
    urls: Sequence[str] = ()


def find(selection: Selection) -> App:
    """Return the app that is meant: the one named, or the only one there is.

    Raises:
        ConfigMissingError: nothing is configured.
        AppAmbiguousError: there are several, and none was named.
        AppMissingError: there is no such app.
        ConfigInvalidError: a mistake in the file, with its line and key.
    """
    if selection.profile and selection.urls:
        return _unconfigured(selection, selection.profile)
    try:
        configuration = read(path(selection), only=selection.app)
    except ConfigMissingError:
        if selection.urls:
            return _unconfigured(selection, PLAIN)
        raise
    apps, names = configuration.apps, ", ".join(configuration.apps)
    if selection.app and selection.app not in apps:
        raise AppMissingError(name=selection.app, file=configuration.path, names=names or "none")
    if not selection.app and len(apps) > 1:
        raise AppAmbiguousError(names=names)
    if not apps:
        raise ConfigMissingError(looked=f"{configuration.path} has no [apps.NAME]")
    app = apps[selection.app or next(iter(apps))]
    databases = {**app.databases, **given(selection.urls, Path.cwd())}
    return msgspec.structs.replace(app, profile=selection.profile or app.profile, databases=databases)


def load(selection: Selection) -> Configuration:
    """Read the configuration.

    Raises:
        ConfigInvalidError: the first mistake, with its line and key.
        ConfigMissingError, FileMissingError, FileFailedError: there is none, or it cannot be read.
    """
    return read(path(selection))


def read(file: Path, *, only: str = "") -> Configuration:
    """Read one configuration file; raises as ``load`` does, and ``only`` is that of ``parse``."""
    try:
        return parse(file, only=only)
    except toml.TomlError as error:
        first = error.mistakes[0]
        raise ConfigInvalidError(file=file, line=first.line, key=first.key, reason=first.reason) from error


def path(selection: Selection) -> Path:
    """Return the file that counts: ``--config``, ``DBCTL_CONFIG``, ``./dbctl.toml``, the user's, the system's."""
    named = selection.config or os.environ.get("DBCTL_CONFIG", "")
    if named:
        return Path(named)
    places = _places()
    for place in places:
        if durable.is_regular(place):
            return place
    raise ConfigMissingError(looked=f"looked for {', '.join(map(str, places))}")


def parse(file: Path, *, only: str = "") -> Configuration:
    """Read one configuration file.

    Args:
        file: where it is.
        only: the app that is meant: a variable or a file that another one lacks is no mistake.

    Raises:
        TomlError: every mistake in it.
        FileFailedError: it cannot be read.
    """
    try:
        told, text = toml.load(file)
    except FileNotFoundError as error:
        raise FileMissingError(what="configuration", path=file) from error
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error
    folder = file.resolve().parent
    mistakes: list[toml.Mistake] = []
    apps = {}
    for name, app in toml.structure(told, _File, text).apps.items():
        found = list[tuple[Sequence[toml.Key], str]]()
        apps[name] = _resolved(name, app, folder, _adding(found))
        if only in ("", name):
            mistakes += [toml.mistake(text, at, why) for at, why in found]
    if mistakes:
        raise toml.TomlError(*sorted(mistakes, key=lambda one: one.line))
    return Configuration(path=file, apps=apps)


def _adding(found: list[tuple[Sequence[toml.Key], str]]) -> Complain:
    return lambda at, why: found.append((at, why))


def _places() -> list[Path]:
    here = Path(FILE_NAME)
    if durable.is_regular(here):
        return [here]
    from platformdirs import site_config_path, user_config_path  # noqa: PLC0415 - ./dbctl.toml is the common case

    return [here, user_config_path("dbctl") / FILE_NAME, site_config_path("dbctl") / FILE_NAME]


def _resolved(name: str, app: AppConfig, folder: Path, complain: Complain) -> App:
    databases, migrations = {}, {}
    own = _own(app, folder, ("apps", name, "env_file"), complain)
    for database, address in app.databases.items():
        at = ("apps", name, "databases", database)
        try:
            databases[database] = _absolute(urls.parse(_filled(address, at, complain, own)), folder)
        except UrlInvalidError as error:
            complain(at, str(error))
    for database, path in app.migrations.items():
        migrations[database] = folder / _filled(path, ("apps", name, "migrations", database), complain, own)
    return App(
        name=name,
        profile=str(folder / app.profile) if app.profile.endswith(".toml") else app.profile,
        protected=app.protected,
        databases=databases,
        migrations=migrations,
        backup=_backup(app.backup, ("apps", name, "backup"), complain, own),
        scratch=_scratch(app.backup, ("apps", name, "backup", "scratch"), complain, own),
        folder=folder,
        directory=folder / app.directory,
    )


def _scratch(
    told: BackupConfig | None, at: Sequence[toml.Key], complain: Complain, own: Mapping[str, str]
) -> Url | None:
    if told is None or not told.scratch:
        return None
    try:
        return urls.parse(_filled(told.scratch, at, complain, own))
    except UrlInvalidError as error:
        complain(at, str(error))
        return None


def _backup(
    told: BackupConfig | None, at: Sequence[toml.Key], complain: Complain, own: Mapping[str, str]
) -> BackupConfig | None:
    if told is None:
        return None
    for key, text in (((*at, "max_age"), told.max_age), ((*at, "keep", "within"), told.keep.within)):
        try:
            if text:
                read_span(text)
        except ValueError:
            complain(key, f"{text!r} is no length of time; write 26h, 30d or 1y")
    if not told.repository:
        complain((*at, "repository"), "it is empty")
    repository = _filled(told.repository, (*at, "repository"), complain, own)
    return msgspec.structs.replace(told, repository=repository)


def _filled(text: str, at: Sequence[toml.Key], complain: Complain, own: Mapping[str, str]) -> str:
    """Put the values of ``${NAME}`` in; one that is not set is a mistake, and its name stands for it.

    Where it is part of a login (``://USER:${NAME}@``) it is what it is: nothing of it is read as part of the address.
    """
    login = _LOGIN.match(text)

    def value(found: re.Match[str]) -> str:
        try:
            told = own[found[1]] if found[1] in own else _variable(found[1])
        except (KeyError, OSError, UnicodeDecodeError) as error:
            complain(at, _why(found[1], error))
            return found[1]
        if login is None or found.start() > login.end():
            return told
        from urllib.parse import quote  # noqa: PLC0415 - seldom needed

        return quote(told, safe="", errors="surrogateescape")

    return _VARIABLE.sub(value, text)


def _own(app: AppConfig, folder: Path, at: Sequence[toml.Key], complain: Complain) -> Mapping[str, str]:
    """Return the variables of the app's own file of settings.

    They count before those of the environment, where another app's ``DATABASE_URL`` may stand.
    """
    if not app.env_file:
        return {}
    from dbctl import dotenv  # noqa: PLC0415 - seldom needed

    try:
        return dotenv.read((folder / app.env_file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not valid UTF-8"
        # What is lost with everything else may be in a backup, and without it no command finds the backups.
        kept = isinstance(error, FileNotFoundError) and app.backup and app.backup.repository
        lost = f" (files_*.tar.gz of the newest backup below {kept} may hold it)" if kept else ""
        complain(at, f"{app.env_file} cannot be read: {reason}{lost}")
        return {}


def _variable(name: str) -> str:
    """Return what a variable of the environment says, or the file that ``NAME_FILE`` names, as containers keep secrets."""
    if name in os.environ:
        return os.environ[name]
    file = os.environ.get(f"{name}_FILE", "")
    if not file:
        raise KeyError(name)
    return Path(file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")


def _why(name: str, error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the environment has no variable {name}, and no {name}_FILE"
    reason = error.strerror if isinstance(error, OSError) else "it is not valid UTF-8"
    return f"the file that {name}_FILE names cannot be read: {reason}"


def variables(file: Path) -> Sequence[str]:
    """Return the variables of the environment that a configuration names, but for those of the apps' own files."""
    try:
        told, text = toml.load(file)
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error
    folder, unread = file.resolve().parent, list[str]()
    own: set[str] = set()
    for app in toml.structure(told, _File, text).apps.values():
        own |= _own(app, folder, (), lambda _, why: unread.append(why)).keys()
    return [name for name in dict.fromkeys(_VARIABLE.findall(text)) if name not in own]


def _absolute(url: Url, folder: Path) -> Url:
    if not url.is_file:
        return url
    return msgspec.structs.replace(url, path=str(folder / Path(url.path).expanduser()))


def given(texts: Sequence[str], folder: Path) -> dict[str, Url]:
    """Return the databases of ``--url NAME=URL``; one without a name is called main.

    Raises:
        UsageError: one is given twice.
        UrlInvalidError: one is not understood.
    """
    found: dict[str, Url] = {}
    for text in texts:
        name, mark, address = text.partition("=")
        if not mark or not name.replace("-", "_").isidentifier():
            name, address = "main", text
        if name in found:
            raise UsageError(detail=f"--url gives database {name!r} twice")
        found[name] = _absolute(urls.parse(address), folder)
    return found


def _unconfigured(selection: Selection, profile: str) -> App:
    here = Path.cwd()
    return App(
        name=selection.app or UNNAMED_APP,
        profile=profile,
        protected=False,
        databases=given(selection.urls, here),
        migrations={},
        folder=here,
        directory=here,
    )


def operator() -> str:
    """Return the name of the person at work: who called sudo, else the user this process runs as."""
    import pwd  # noqa: PLC0415 - only writes need it

    said = os.environ.get("SUDO_USER", "")
    if said and os.geteuid() == 0:
        return said
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        return str(os.geteuid())
