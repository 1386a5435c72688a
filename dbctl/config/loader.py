"""Read ``dbctl.toml``: find the file, parse it, and resolve paths and variables. No other module reads it."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from dbctl import url as urls
from dbctl.config.embedders import SERVICES, check_embedder
from dbctl.config.environment import VARIABLE_PATTERN, ReportProblem, fill_variables, read_env_file
from dbctl.config.model import (
    NO_MIGRATIONS,
    PLAIN,
    UNNAMED_APP,
    App,
    AppConfig,
    BackupConfig,
    ConfigFile,
    Configuration,
    Embedder,
    EncryptionConfig,
    InstancesConfig,
    Replica,
    SearchConfig,
    Selection,
    has_placeholder,
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
from dbctl.model import is_duration, parse_duration
from dbctl.url import Url

FILE_NAME = "dbctl.toml"


def find_app(selection: Selection, *, allow_fleet: bool = False) -> App:
    """Return the selected app, or the only one; the instance of a fleet is selected as ``APP/INSTANCE``.

    Args:
        selection: the options of the command line.
        allow_fleet: return a fleet itself, with ``*`` in its addresses.

    Raises:
        ConfigMissingError: no configuration exists, or it has no app.
        AppAmbiguousError: several apps are configured, and none is selected.
        AppMissingError: the selected app is not configured.
        ConfigInvalidError: the file has an error; contains the first one, with its line and key.
        FleetSelectedError: it is a fleet, and not one instance is selected.
        InstanceNameInvalidError: no instance can have the selected name.
        ReplicaNotConfiguredError: replicas are selected, and no database has one.
    """
    if selection.configured:
        return selection.configured
    app = _find_configured(selection)
    if not app.is_fleet:
        return app
    from dbctl.config.fleet import select_instance

    _, separator, instance = selection.app.removeprefix(app.name).partition("/")
    return app if allow_fleet and not separator else select_instance(app, instance)


def _find_configured(selection: Selection) -> App:
    """Return the selected app, or the fleet of the selected instance."""
    if selection.profile and selection.urls:
        app = _app_from_options(selection, selection.profile)
        return select_replicas(app) if selection.replica else app
    try:
        configuration = read(config_path(selection), only=selection.app)
    except ConfigMissingError:
        if selection.urls:
            return _app_from_options(selection, PLAIN)
        raise
    apps, names = configuration.apps, ", ".join(configuration.apps)
    name, fleet_name = selection.app, selection.app.partition("/")[0]
    if name not in apps and fleet_name in apps and apps[fleet_name].is_fleet:
        name = fleet_name
    if name and name not in apps:
        raise AppMissingError(name=name, file=configuration.path, names=names or "none")
    if not name and len(apps) > 1:
        raise AppAmbiguousError(names=names)
    if not apps:
        raise ConfigMissingError(reason=f"{configuration.path} has no [apps.NAME]")
    app = apps[name or next(iter(apps))]
    urls_by_name = parse_urls(selection.urls, Path.cwd())
    app = msgspec.structs.replace(
        app,
        profile=selection.profile or app.profile,
        databases={**app.databases, **urls_by_name},
        replicas={name: replica for name, replica in app.replicas.items() if name not in urls_by_name},
    )
    return select_replicas(app) if selection.replica else app


def select_replicas(app: App) -> App:
    """Replace the URLs of databases by those of their replicas.

    Raises:
        ReplicaNotConfiguredError: no database has one.
    """
    if not app.replicas:
        from dbctl.errors import ReplicaNotConfiguredError

        raise ReplicaNotConfiguredError(app=app.name)
    urls = {name: replica.url for name, replica in app.replicas.items()}
    return msgspec.structs.replace(app, databases={**app.databases, **urls}, reads_replicas=True)


def load(selection: Selection) -> Configuration:
    """Read the configuration.

    Raises:
        ConfigInvalidError: the file has an error; contains the first one, with its line and key.
        ConfigMissingError, FileMissingError, FileFailedError: the file does not exist, or cannot be read.
    """
    return read(config_path(selection))


def read(file: Path, *, only: str = "") -> Configuration:
    """Read one configuration file: ``parse``, with the exceptions of ``load``."""
    try:
        return parse(file, only=only)
    except toml.TomlError as error:
        first = error.problems[0]
        raise ConfigInvalidError(file=file, line=first.line, key=first.key, reason=first.reason) from error


def config_path(selection: Selection) -> Path:
    """Return the first existing file of ``--config``, ``DBCTL_CONFIG``, ``./dbctl.toml``, the user's and the system's."""
    explicit = selection.config or os.environ.get("DBCTL_CONFIG", "")
    if explicit:
        return Path(explicit)
    paths = _default_paths()
    for path in paths:
        if atomic.is_regular(path):
            return path
    raise ConfigMissingError(reason=f"looked for {', '.join(map(str, paths))}")


def parse(file: Path, *, only: str = "") -> Configuration:
    """Read one configuration file.

    Args:
        file: the path.
        only: the selected app or instance: unset variables and missing files of other apps are not errors.

    Raises:
        TomlError: the file has errors; contains all of them.
        FileMissingError, FileFailedError: the file does not exist, or cannot be read.
    """
    try:
        values, text = toml.load(file)
    except FileNotFoundError as error:
        raise FileMissingError(kind="configuration", path=file) from error
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error
    folder = file.resolve().parent
    problems: list[toml.Problem] = []
    apps = {}
    for name, app in toml.structure(values, ConfigFile, text).apps.items():
        app_problems = list[tuple[Sequence[toml.Key], str]]()
        apps[name] = _Resolver(name, app, folder, _collect_into(app_problems)).resolve()
        if only in ("", name) or only.startswith(f"{name}/"):
            problems += [toml.create_problem(text, key, reason) for key, reason in app_problems]
    if problems:
        raise toml.TomlError(*sorted(problems, key=lambda problem: problem.line))
    return Configuration(path=file, apps=apps)


def _collect_into(problems: list[tuple[Sequence[toml.Key], str]]) -> ReportProblem:
    return lambda key, reason: problems.append((key, reason))


def _default_paths() -> list[Path]:
    local = Path(FILE_NAME)
    if atomic.is_regular(local):
        return [local]
    from platformdirs import site_config_path, user_config_path

    return [local, user_config_path("dbctl") / FILE_NAME, site_config_path("dbctl") / FILE_NAME]


class _Resolver:
    """Resolves the paths and variables of one app; reports each error with its key in the file."""

    def __init__(self, name: str, app: AppConfig, folder: Path, report: ReportProblem) -> None:
        self._name, self._app, self._folder = name, app, folder
        self._report_problem = report
        self._variables = read_env_file(app, folder, ("apps", name, "env_file"), report)

    def resolve(self) -> App:
        app, folder = self._app, self._folder
        addresses = {"main": app.databases} if isinstance(app.databases, str) else app.databases
        databases = {name: self._url(address, "databases", name) for name, address in addresses.items()}
        return App(
            name=self._name,
            profile=str(folder / app.profile) if app.profile.endswith(".toml") else app.profile,
            protected=app.protected,
            prefix=app.prefix,
            databases={name: _resolve_path(url, folder) for name, url in databases.items() if url},
            replicas=dict(self._replicas(databases)),
            migrations={
                database: folder / self._fill(path, "migrations", database)
                for database, path in app.migrations.items()
                if path != NO_MIGRATIONS
            },
            unmigrated=[database for database, path in app.migrations.items() if path == NO_MIGRATIONS],
            backup=self._backup(app.backup) if app.backup else None,
            scratch=self._url(app.backup.scratch, "backup", "scratch") if app.backup else None,
            schedule=app.schedule,
            embedder=self._embedder(app.embedder) if app.embedder else None,
            env_file=folder / app.env_file if app.env_file else None,
            pepper_file=Path(self._path(self._fill(app.pepper_file, "pepper_file")))
            if app.pepper_file
            else None,
            search=self._search_folder(app.search) if app.search else None,
            folder=folder,
            directory=folder / app.directory,
            instances=app.instances,
            listing_url=self._listing_url(app.instances),
        )

    def _listing_url(self, section: InstancesConfig) -> Url | None:
        if bool(section.url) != bool(section.query):
            self._report("url and query require each other", "instances", "query" if section.url else "url")
        url = self._url(section.url, "instances", "url")
        return url and _resolve_path(url, self._folder)

    def _report(self, reason: str, *key: toml.Key) -> None:
        self._report_problem(("apps", self._name, *key), reason)

    def _fill(self, text: str, *key: toml.Key) -> str:
        return fill_variables(text, ("apps", self._name, *key), self._report_problem, self._variables)

    def _path(self, text: str) -> str:
        return str(self._folder / atomic.expand_home(text)) if text else ""

    def _url(self, text: str, *key: toml.Key) -> Url | None:
        """Return a URL; None if it is empty, or invalid, which is reported."""
        try:
            return (
                urls.parse_url(self._fill(text, *key))
                if text or key[0] in ("databases", "replicas")
                else None
            )
        except UrlInvalidError as error:
            self._report(str(error), *key)
            return None

    def _replicas(self, databases: Mapping[str, Url | None]) -> Iterator[tuple[str, Replica]]:
        for name, section in self._app.replicas.items():
            url, primary = self._url(section.url, "replicas", name, "url"), databases.get(name)
            if name not in databases:
                self._report(f"databases has no {name!r}", "replicas", name)
            elif url and primary and (url.engine != primary.engine or url.is_local):
                reason = f"it is no address of a server with the engine of {name!r}"
                self._report(reason, "replicas", name, "url")
            elif url and primary and has_placeholder(url) != has_placeholder(primary):
                reason = f"it must contain * exactly if the address of {name!r} does"
                self._report(reason, "replicas", name, "url")
            elif not is_duration(section.max_lag):
                reason = f"{section.max_lag!r} is not a duration; write 30s or 5m"
                self._report(reason, "replicas", name, "max_lag")
            elif url:
                yield name, Replica(url=url, max_lag=parse_duration(section.max_lag))

    def _search_folder(self, section: SearchConfig) -> Path:
        if not section.folder:
            self._report("it is empty", "search", "folder")
        return self._folder / atomic.expand_home(self._fill(section.folder, "search", "folder"))

    def _embedder(self, embedder: Embedder) -> Embedder:
        for name, reason in check_embedder(embedder):
            self._report(reason, "embedder", name)
        service = SERVICES.get(embedder.kind, ("", ""))
        if not embedder.url and not embedder.key_file:
            embedder = msgspec.structs.replace(embedder, key_env=embedder.key_env or service[1])
        address = embedder.url or service[0]
        if embedder.kind in SERVICES:
            self._require_encryption(address, has_key=bool(embedder.key_env or embedder.key_file))
        # A program without a slash is searched on the PATH.
        command = [
            self._path(word) if not index and "/" in word else word
            for index, word in enumerate(embedder.command)
        ]
        return msgspec.structs.replace(
            embedder, url=address, key_file=self._path(embedder.key_file), command=command
        )

    def _require_encryption(self, address: str, *, has_key: bool) -> None:
        try:
            endpoint = urls.parse_endpoint(address)
        except UrlInvalidError as error:
            self._report(str(error.context["reason"]), "embedder", "url")
            return
        if has_key and not (endpoint.secure or endpoint.is_loopback):
            reason = "the key would be sent unencrypted; write https://, or use no key"
            self._report(reason, "embedder", "url")

    def _backup(self, section: BackupConfig) -> BackupConfig:
        spans: dict[tuple[str, ...], str] = {
            (name,): getattr(section, name) for name in ("max_age", "verify_within", "drill_within")
        }
        for key, text in {**spans, ("keep", "within"): section.keep.within}.items():
            if text and not is_duration(text):
                self._report(f"{text!r} is not a duration; write 26h, 30d or 1y", "backup", *key)
        if not section.repository:
            self._report("it is empty", "backup", "repository")
        repository = self._fill(section.repository, "backup", "repository")
        encrypt = section.encrypt and self._encryption(section.encrypt)
        return msgspec.structs.replace(section, repository=repository, encrypt=encrypt)

    def _encryption(self, section: EncryptionConfig) -> EncryptionConfig:
        key = ("backup", "encrypt")
        if section.recipients:
            from dbctl.files import age
        for index, text in enumerate(section.recipients):
            duplicate = "it is a duplicate" if text in section.recipients[:index] else ""
            if problem := age.recipient_problem(text) or duplicate:
                self._report(f"recipient {index + 1}: {problem}", *key, "recipients")
        has_recipients = bool(section.recipients or section.recipients_file)
        if has_recipients and section.passphrase_file:
            reason = "use either recipients or a passphrase; age does not support both"
            self._report(reason, *key, "passphrase_file")
        if not (has_recipients or section.passphrase_file):
            self._report("recipients, recipients_file or passphrase_file is missing", *key)
        files = {
            name: self._path(self._fill(getattr(section, name), *key, name))
            for name in ("recipients_file", "passphrase_file", "identity_file")
        }
        return msgspec.structs.replace(section, **files)


def referenced_variables(file: Path) -> Sequence[str]:
    """Return the environment variables that a configuration refers to, without those of the apps' env files."""
    try:
        values, text = toml.load(file)
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error
    folder, unread = file.resolve().parent, list[str]()
    app_variables: set[str] = set()
    for app in toml.structure(values, ConfigFile, text).apps.values():
        app_variables |= read_env_file(app, folder, (), lambda _, reason: unread.append(reason)).keys()
    return [name for name in dict.fromkeys(re.findall(VARIABLE_PATTERN, text)) if name not in app_variables]


def _resolve_path(url: Url, folder: Path) -> Url:
    if not url.is_local:
        return url
    return msgspec.structs.replace(url, path=str(folder / atomic.expand_home(url.path)))


def parse_urls(texts: Sequence[str], folder: Path, *, option: str = "--url") -> dict[str, Url]:
    """Return the databases of ``--url NAME=URL``, or of another option; a URL without a name is for ``main``.

    Raises:
        UsageError: two URLs have the same name.
        UrlInvalidError: a URL is invalid.
    """
    urls_by_name: dict[str, Url] = {}
    for text in texts:
        name, separator, address = text.partition("=")
        if not separator or not name.replace("-", "_").isidentifier():
            name, address = "main", text
        if name in urls_by_name:
            raise UsageError(detail=f"duplicate {option} for database {name!r}")
        urls_by_name[name] = _resolve_path(urls.parse_url(address), folder)
    return urls_by_name


def _app_from_options(selection: Selection, profile: str) -> App:
    folder = Path.cwd()
    app = App(
        name=selection.app or UNNAMED_APP,
        profile=profile,
        protected=False,
        databases=parse_urls(selection.urls, folder),
        migrations={},
        folder=folder,
        directory=folder,
    )
    return msgspec.structs.replace(app, name=app.name.partition("/")[0]) if app.is_fleet else app
