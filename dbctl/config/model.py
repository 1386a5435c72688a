"""Which apps are here: the only reader of ``dbctl.toml``."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from dbctl import url as urls
from dbctl.errors import (
    AppAmbiguousError,
    AppMissingError,
    ConfigInvalidError,
    ConfigMissingError,
    EmbedderKeyMissingError,
    FileFailedError,
    FileMissingError,
    UrlInvalidError,
    UsageError,
)
from dbctl.files import atomic, toml
from dbctl.model import Compression, Secret, is_span
from dbctl.url import Url

FILE_NAME = "dbctl.toml"
#: The name of the app that --profile and --url describe without a configuration.
UNNAMED_APP = "app"
#: The profile of a database that --url alone describes: all that needs to know no app.
PLAIN = "plain"

#: The variables by which every program finds storage that speaks S3, and its keys.
STORAGE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)

#: Takes where in the file something is wrong, and why.
Complain = Callable[[Sequence[toml.Key], str], None]


#: How many backups a rule may keep.
Count = Annotated[int, msgspec.Meta(ge=0, le=100_000)]

_VARIABLE = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"
#: What a key of a service is made of, and how long none is.
_KEY = r"[!-~]{1,4096}"
_LONGEST_KEY = 4098
#: User and password at the beginning of an address.
_LOGIN = r"[A-Za-z][\w+]*://[^@/]*(?=@)"


class Keep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which backups stay: of each kind of time, the newest of so many that have any. Nothing said: no rule."""

    last: Count = 0  #: the newest ones, whatever their time
    hourly: Count = 0
    daily: Count = 0
    weekly: Count = 0
    monthly: Count = 0
    yearly: Count = 0
    within: str = ""  #: all that are at most so much older than the newest: ``30d``


class Encrypt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.backup.encrypt]``: for whom backups are encrypted, always, and what opens them on this machine."""

    recipients: Sequence[str] = ()  #: ``age1…``, or the public keys of ssh
    recipients_file: str = ""  #: more of them, one a line
    passphrase_file: str = ""  #: for a passphrase in the place of recipients
    identity_file: str = ""  #: only what reads backups needs it


class BackupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.backup]``."""

    repository: str
    keep: Keep = Keep()
    max_age: str = ""  #: ``26h``: an older newest backup is overdue
    verify_within: str = ""  #: ``8d``: a backup that was not read whole for longer is unverified
    drill_within: str = (
        ""  #: ``32d``: a database of which no backup was restored on trial for longer is undrilled
    )
    format: str = ""  #: of the dumps of a server, where it knows several: ``custom``, ``plain``
    compress: Compression = "gzip"
    scratch: str = ""  #: the URL of a server that trial restores may use, in place of the app's own
    encrypt: Encrypt | None = None
    staging: str = ""  #: where on this machine files wait that go to, or come from, a store elsewhere, or are to be encrypted


#: How a vector of words is come by.
EmbedderKind: TypeAlias = Literal["gemini", "openai", "command", "local"]


class Embedder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[apps.NAME.embedder]``: what makes a vector of words, by the model that made those of the app.

    Kinds: ``gemini``, Google's service; ``openai``, every service that answers ``/embeddings`` as OpenAI's does;
    ``command``, a program that gets the words on standard input and writes a JSON array; ``local``, a package of
    Python beside dbctl.
    """

    kind: EmbedderKind
    model: str = ""
    url: str = ""  #: of another service than the usual one, with its version: ``https://host/v1``
    key_env: str = ""  #: the variable that holds the key; of the usual service its usual one
    key_file: str = ""  #: a file whose first line is the key
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = (
        None  #: asked of models that can do several
    )
    task: str = ""  #: gemini: what the vector is for, ``RETRIEVAL_QUERY``
    command: Sequence[str] = ()  #: the program and its words; no shell reads them
    package: Literal["", "fastembed", "sentence-transformers"] = ""
    timeout: str = "30s"  #: for everything, asking again included


class SearchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.search]``: where the files of search indexes are that a database cannot have itself."""

    folder: str  #: in place of the database's own, and of the user's for caches


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[apps.NAME.schedule]``: when jobs run, as cron expressions; ``off`` leaves a job out, empty is its usual time."""

    search: str = ""
    backup: str = ""
    prune: str = ""
    verify: str = ""
    drill: str = ""
    optimize: str = ""
    vacuum: str = ""  #: usually off: it locks what it rewrites
    cleanup: str = ""
    status: str = ""
    #: further runs of ``backup``, ``verify``, ``optimize`` or ``vacuum`` for one database
    databases: dict[str, dict[Literal["backup", "verify", "optimize", "vacuum"], str]] = {}


#: In place of a folder of migrations: the database has none.
NO_MIGRATIONS = "none"


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
    embedder: Embedder | None = None
    search: SearchConfig | None = None
    schedule: Schedule = Schedule()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    apps: dict[str, AppConfig] = {}


class App(msgspec.Struct, frozen=True, kw_only=True):
    """One app as configured: every address resolved, nothing opened yet."""

    name: str
    profile: str  #: a name, or the path of a profile file
    protected: bool
    databases: Mapping[str, Url]
    migrations: Mapping[str, Path]
    unmigrated: Collection[str] = ()  #: databases that have no migrations, as the configuration says
    backup: BackupConfig | None = None
    scratch: Url | None = None  #: a server for trial restores
    embedder: Embedder | None = None
    env_file: Path | None = None  #: the app's own file of settings
    search: Path | None = None  #: the folder of search indexes, where one is named
    folder: Path  #: what relative paths are relative to
    directory: Path  #: where the app is installed
    schedule: Schedule = Schedule()


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
        if atomic.is_regular(place):
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
    if atomic.is_regular(here):
        return [here]
    from platformdirs import site_config_path, user_config_path

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
        if path == NO_MIGRATIONS:
            continue
        migrations[database] = folder / _filled(path, ("apps", name, "migrations", database), complain, own)
    return App(
        name=name,
        profile=str(folder / app.profile) if app.profile.endswith(".toml") else app.profile,
        protected=app.protected,
        databases=databases,
        migrations=migrations,
        unmigrated=[database for database, path in app.migrations.items() if path == NO_MIGRATIONS],
        backup=_backup(app.backup, ("apps", name, "backup"), folder, complain, own),
        scratch=_scratch(app.backup, ("apps", name, "backup", "scratch"), complain, own),
        schedule=app.schedule,
        embedder=_embedder(app.embedder, ("apps", name, "embedder"), folder, complain),
        env_file=folder / app.env_file if app.env_file else None,
        search=_search(app.search, ("apps", name, "search", "folder"), folder, complain, own),
        folder=folder,
        directory=folder / app.directory,
    )


#: The usual address of a service, and the usual variable of its key, which goes to no other address unasked.
SERVICES = {
    "gemini": ("https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY"),
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
}
_REMOTE = ("url", "key_env", "key_file", "dimensions")
#: What each kind of embedder has to be told, and what it may be told besides.
_EMBEDDERS: Mapping[EmbedderKind, tuple[Sequence[str], Sequence[str]]] = {
    "gemini": (["model"], [*_REMOTE, "task"]),
    "openai": (["model"], _REMOTE),
    "command": (["command"], ["model"]),
    "local": (["model", "package"], []),
}


def _embedder(
    told: Embedder | None, at: Sequence[toml.Key], folder: Path, complain: Complain
) -> Embedder | None:
    if told is None:
        return None
    for name, why in _wrong(told):
        complain((*at, name), why)
    service = SERVICES.get(told.kind, ("", ""))
    if not told.url and not told.key_file:
        told = msgspec.structs.replace(told, key_env=told.key_env or service[1])
    address = told.url or service[0]
    if told.kind in SERVICES:
        _want_safe(address, bool(told.key_env or told.key_file), (*at, "url"), complain)

    def placed(text: str) -> str:
        return str(folder / atomic.expand_home(text)) if text else ""

    # A program without a slash is looked for on the PATH.
    command = [placed(word) if not place and "/" in word else word for place, word in enumerate(told.command)]
    return msgspec.structs.replace(told, url=address, key_file=placed(told.key_file), command=command)


def _wrong(told: Embedder) -> Iterator[tuple[str, str]]:
    """Yield the keys of an embedder that are wrong by themselves, and why."""
    wanted, may = _EMBEDDERS[told.kind]
    for name in ("model", *_REMOTE, "task", "command", "package"):
        if getattr(told, name) and name not in (*wanted, *may):
            yield name, f"an embedder of kind {told.kind} takes none"
        if name in wanted and not getattr(told, name):
            yield name, f"an embedder of kind {told.kind} wants it"
    if not is_span(told.timeout) or not told.timeout[:-1].strip("0"):
        yield "timeout", f"{told.timeout!r} is no length of time; write 30s or 2m"
    if told.command and not told.command[0]:
        yield "command", "it names no program"
    if told.key_env and told.key_file:
        yield "key_file", "the key comes from key_env or from key_file, not from both"
    if told.key_env and not re.fullmatch(_VARIABLE, f"${{{told.key_env}}}"):
        yield "key_env", "it is the name of a variable, not the key itself"


def _want_safe(address: str, has_key: bool, at: Sequence[toml.Key], complain: Complain) -> None:  # noqa: FBT001
    try:
        place = urls.endpoint(address)
    except UrlInvalidError as error:
        complain(at, str(error.facts["reason"]))
        return
    if has_key and not (place.secure or place.is_here):
        complain(at, "the key would cross the network in plain sight; write https://, or use no key")


def embedder_key(app: App) -> Secret | None:
    """Return the key of an app's embedder, from the variable or file that the configuration names; None: it names none.

    A variable of the app's own file of settings counts before one of the environment.

    Raises:
        EmbedderKeyMissingError: there is none, or it is no key.
    """
    told = app.embedder
    if told is None or not (told.key_env or told.key_file):
        return None
    place = told.key_file or told.key_env
    try:
        text = _key_in(Path(told.key_file)) if told.key_file else _key_of(app, told.key_env)
    except KeyError as error:
        reason = f"neither {told.key_env} nor {told.key_env}_FILE is set"
        raise EmbedderKeyMissingError(app=app.name, place=place, reason=reason) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else "it is not valid UTF-8"
        raise EmbedderKeyMissingError(app=app.name, place=place, reason=reason) from error
    if not re.fullmatch(_KEY, text):
        reason = (
            "it is empty" if not text else "it holds what no key does: blanks, or other signs than ASCII's"
        )
        raise EmbedderKeyMissingError(app=app.name, place=place, reason=reason)
    return Secret(text)


def _key_of(app: App, name: str) -> str:
    from dbctl.files import dotenv

    own = dotenv.read(atomic.read_settings(app.env_file)) if app.env_file else {}
    return (own[name] if name in own else _variable(name)).strip()


def _key_in(path: Path) -> str:
    with atomic.named(path) as file:
        return str(file.readline(_LONGEST_KEY).decode().strip())


def _search(
    told: SearchConfig | None,
    at: Sequence[toml.Key],
    folder: Path,
    complain: Complain,
    own: Mapping[str, str],
) -> Path | None:
    if told is None:
        return None
    if not told.folder:
        complain(at, "it is empty")
    return folder / atomic.expand_home(_filled(told.folder, at, complain, own))


def caches() -> Path | None:
    """Return the folder of this user for what dbctl can make again; None where this user has none."""
    if sys.platform != "linux":
        from platformdirs import user_cache_path

        return user_cache_path("dbctl") / "search"
    # As platformdirs has it, without loading that for every search; in a container a user may have no home at all.
    named = Path(os.environ.get("XDG_CACHE_HOME", "").strip())
    base = named if named.is_absolute() else atomic.expand_home("~/.cache") if has_home() else None
    return base and base / "dbctl" / "search"


def variables_set(names: Mapping[str, str]) -> dict[str, str]:
    """Return what the variables of the environment hold that are set, each under the name given for it."""
    return {name: os.environ[variable] for variable, name in names.items() if variable in os.environ}


def has_home() -> bool:
    """Whether this user has a home directory."""
    return os.path.expanduser("~").startswith("/")  # noqa: PTH111 - pathlib's raises where there is none


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
    told: BackupConfig | None,
    at: Sequence[toml.Key],
    folder: Path,
    complain: Complain,
    own: Mapping[str, str],
) -> BackupConfig | None:
    if told is None:
        return None
    spans = {name: getattr(told, name) for name in ("max_age", "verify_within", "drill_within")}
    for key, text in (
        *(((*at, name), text) for name, text in spans.items()),
        ((*at, "keep", "within"), told.keep.within),
    ):
        if text and not is_span(text):
            complain(key, f"{text!r} is no length of time; write 26h, 30d or 1y")
    if not told.repository:
        complain((*at, "repository"), "it is empty")
    repository = _filled(told.repository, (*at, "repository"), complain, own)
    encrypt = told.encrypt and _encrypt(told.encrypt, (*at, "encrypt"), folder, complain, own)
    return msgspec.structs.replace(told, repository=repository, encrypt=encrypt)


def _encrypt(
    told: Encrypt, at: Sequence[toml.Key], folder: Path, complain: Complain, own: Mapping[str, str]
) -> Encrypt:
    if told.recipients:
        from dbctl.files import age
    for number, text in enumerate(told.recipients):
        twice = "it stands here twice" if text in told.recipients[:number] else ""
        if problem := age.recipient_problem(text) or twice:
            complain((*at, "recipients"), f"recipient {number + 1}: {problem}")
    meant = bool(told.recipients or told.recipients_file)
    if meant and told.passphrase_file:
        complain((*at, "passphrase_file"), "age encrypts for recipients or by a passphrase, never both")
    if not (meant or told.passphrase_file):
        complain(at, "it names neither recipients nor a passphrase_file, so nobody could open a backup")

    def placed(name: str, text: str) -> str:
        return str(folder / atomic.expand_home(_filled(text, (*at, name), complain, own))) if text else ""

    files = {
        name: placed(name, getattr(told, name))
        for name in ("recipients_file", "passphrase_file", "identity_file")
    }
    return msgspec.structs.replace(told, **files)


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """The files of what opens encrypted backups."""

    identities: Sequence[Path]
    passphrases: Sequence[Path]
    aside: Path | None  #: as ``aside`` says


def opening(app: App, identities: Sequence[Path] = (), passphrase: Path | None = None) -> Opening:
    """Return the files that options, the environment (``DBCTL_BACKUP_…``) and the configuration name, in that order."""
    told = (app.backup and app.backup.encrypt) or Encrypt()
    named = (os.environ.get("DBCTL_BACKUP_IDENTITY_FILE", ""), told.identity_file)
    secrets = (os.environ.get("DBCTL_BACKUP_PASSPHRASE_FILE", ""), told.passphrase_file)
    return Opening(
        identities=[*identities, *(Path(one) for one in named if one)],
        passphrases=[*([passphrase] if passphrase else []), *(Path(one) for one in secrets if one)],
        aside=aside(app),
    )


def aside(app: App) -> Path | None:
    """Return the folder of this machine for what is not for the repository, or not yet; None: as ``staging`` says."""
    told = app.backup.staging if app.backup else ""
    return app.folder / atomic.expand_home(told) if told else None


def _filled(text: str, at: Sequence[toml.Key], complain: Complain, own: Mapping[str, str]) -> str:
    """Put the values of ``${NAME}`` in; one that is not set is a mistake, and its name stands for it.

    Where it is part of a login (``://USER:${NAME}@``) it is what it is: nothing of it is read as part of the address.
    """
    if "${" not in text:
        return text
    login = re.match(_LOGIN, text)

    def value(found: re.Match[str]) -> str:
        try:
            told = own[found[1]] if found[1] in own else _variable(found[1])
        except (KeyError, OSError, UnicodeDecodeError) as error:
            complain(at, _why(found[1], error))
            return found[1]
        if login is None or found.start() > login.end():
            return told
        from urllib.parse import quote

        return quote(told, safe="", errors="surrogateescape")

    return re.sub(_VARIABLE, value, text)


def _own(app: AppConfig, folder: Path, at: Sequence[toml.Key], complain: Complain) -> Mapping[str, str]:
    """Return the variables of the app's own file of settings.

    They count before those of the environment, where another app's ``DATABASE_URL`` may stand.
    """
    if not app.env_file:
        return {}
    from dbctl.files import dotenv

    try:
        return dotenv.read(atomic.read_settings(folder / app.env_file))
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
    return atomic.read_settings(Path(file)).removesuffix("\n").removesuffix("\r")


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
    return [name for name in dict.fromkeys(re.findall(_VARIABLE, text)) if name not in own]


def storage() -> Mapping[str, str]:
    """Return the variables of ``STORAGE`` that are set, or that a file holds which ``NAME_FILE`` names.

    Raises:
        UsageError: such a file cannot be read.
    """
    found = {}
    for name in STORAGE:
        try:
            found[name] = _variable(name)
        except KeyError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(detail=_why(name, error)) from error
    return found


def staging() -> Path:
    """Return where files wait on their way when nothing says otherwise: on a disk, for ``/tmp`` may be memory."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 - the folder made in it is private


def _absolute(url: Url, folder: Path) -> Url:
    if not url.is_local:
        return url
    return msgspec.structs.replace(url, path=str(folder / atomic.expand_home(url.path)))


def given(texts: Sequence[str], folder: Path, *, option: str = "--url") -> dict[str, Url]:
    """Return the databases of ``--url NAME=URL``, or of another option; one without a name is called main.

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
            raise UsageError(detail=f"{option} gives database {name!r} twice")
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
    import pwd

    said = os.environ.get("SUDO_USER", "")
    if said and os.geteuid() == 0:
        return said
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        return str(os.geteuid())
