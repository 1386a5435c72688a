"""Which apps are here: the only reader of ``dbctl.toml``."""

# Without postponed annotations: msgspec reads them in every run, and text would have to be compiled each time.
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from dbctl import url as urls
from dbctl.config.environment import VARIABLE, Complain, fill_variables, read_env_file
from dbctl.config.model import (
    NO_MIGRATIONS,
    PLAIN,
    UNNAMED_APP,
    App,
    AppConfig,
    BackupConfig,
    Configuration,
    Embedder,
    EmbedderKind,
    Encrypt,
    SearchConfig,
    Selection,
)
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
from dbctl.files import atomic, toml
from dbctl.model import is_span
from dbctl.url import Url

FILE_NAME = "dbctl.toml"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    apps: dict[str, AppConfig] = {}


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
    own = read_env_file(app, folder, ("apps", name, "env_file"), complain)
    for database, address in app.databases.items():
        at = ("apps", name, "databases", database)
        try:
            databases[database] = _absolute(urls.parse(fill_variables(address, at, complain, own)), folder)
        except UrlInvalidError as error:
            complain(at, str(error))
    for database, path in app.migrations.items():
        if path == NO_MIGRATIONS:
            continue
        migrations[database] = folder / fill_variables(
            path, ("apps", name, "migrations", database), complain, own
        )
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
    if told.key_env and not re.fullmatch(VARIABLE, f"${{{told.key_env}}}"):
        yield "key_env", "it is the name of a variable, not the key itself"


def _want_safe(address: str, has_key: bool, at: Sequence[toml.Key], complain: Complain) -> None:  # noqa: FBT001
    try:
        place = urls.endpoint(address)
    except UrlInvalidError as error:
        complain(at, str(error.facts["reason"]))
        return
    if has_key and not (place.secure or place.is_here):
        complain(at, "the key would cross the network in plain sight; write https://, or use no key")


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
    return folder / atomic.expand_home(fill_variables(told.folder, at, complain, own))


def _scratch(
    told: BackupConfig | None, at: Sequence[toml.Key], complain: Complain, own: Mapping[str, str]
) -> Url | None:
    if told is None or not told.scratch:
        return None
    try:
        return urls.parse(fill_variables(told.scratch, at, complain, own))
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
    repository = fill_variables(told.repository, (*at, "repository"), complain, own)
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
        return (
            str(folder / atomic.expand_home(fill_variables(text, (*at, name), complain, own))) if text else ""
        )

    files = {
        name: placed(name, getattr(told, name))
        for name in ("recipients_file", "passphrase_file", "identity_file")
    }
    return msgspec.structs.replace(told, **files)


def variables(file: Path) -> Sequence[str]:
    """Return the variables of the environment that a configuration names, but for those of the apps' own files."""
    try:
        told, text = toml.load(file)
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error
    folder, unread = file.resolve().parent, list[str]()
    own: set[str] = set()
    for app in toml.structure(told, _File, text).apps.values():
        own |= read_env_file(app, folder, (), lambda _, why: unread.append(why)).keys()
    return [name for name in dict.fromkeys(re.findall(VARIABLE, text)) if name not in own]


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
