"""The configured apps: find ``dbctl.toml``, resolve variables, addresses and paths, and select an app."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from dbctl import url as urls
from dbctl.config import environment
from dbctl.config.model import PLAIN, UNNAMED_APP, App, Configuration
from dbctl.config.resolver import Resolver, resolve_path, select_instance
from dbctl.config.sections import (
    Sections,
    Selection,
    check_replaced_defaults,
    locate_problems,
    read_sections,
    report_first_problem,
    sort_problems,
)
from dbctl.errors.usage import AppAmbiguousError, AppMissingError, ConfigMissingError, UsageError
from dbctl.files import toml
from dbctl.url import Url

FILE_NAME = "dbctl.toml"


def find_app(selection: Selection, *, allow_fleet: bool = False) -> App:
    """Return the selected app, or the only one; the instance of a fleet is selected as ``APP/INSTANCE``.

    With ``allow_fleet`` it may be a fleet itself, with ``*`` in its addresses.

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
    _, separator, instance = selection.app.removeprefix(app.name).partition("/")
    return app if allow_fleet and not separator else select_instance(app, instance)


def _find_configured(selection: Selection) -> App:
    """Return the selected app, or the fleet of the selected instance."""
    if selection.profile and selection.urls:
        app = _app_from_options(selection, selection.profile)
        return select_replicas(app) if selection.replica else app
    try:
        configuration = load(selection, only=selection.app)
    except ConfigMissingError:
        if selection.urls:
            return _app_from_options(selection, PLAIN)
        raise
    apps, names = configuration.apps, ", ".join(configuration.files)
    name, fleet_name = selection.app, selection.app.partition("/")[0]
    if name not in apps and fleet_name in apps and apps[fleet_name].is_fleet:
        name = fleet_name
    if name and name not in apps:
        raise app_missing_error(name, configuration.path, list(configuration.files))
    if not name and len(apps) > 1:
        raise AppAmbiguousError(names=names)
    if not apps:
        raise no_app_error(configuration.path)
    app = apps[name or next(iter(apps))]
    if selection.profile:
        app = msgspec.structs.replace(app, profile=selection.profile)
    if selection.urls:
        urls_by_name = parse_urls(selection.urls, Path.cwd())
        replicas = {name: replica for name, replica in app.replicas.items() if name not in urls_by_name}
        app = msgspec.structs.replace(app, databases={**app.databases, **urls_by_name}, replicas=replicas)
    return select_replicas(app) if selection.replica else app


def no_app_error(file: Path) -> ConfigMissingError:
    """Return the error of a configuration without apps, such as a file that was truncated: no problem would be reported."""
    return ConfigMissingError(reason=f"{file} has no [apps.NAME]")


def app_missing_error(name: str, file: Path, configured: Sequence[str]) -> AppMissingError:
    return AppMissingError(name=name, file=file, names=", ".join(configured) or "none", candidates=configured)


def select_replicas(app: App) -> App:
    """Replace the URLs of databases by those of their replicas.

    Raises:
        ReplicaNotConfiguredError: no database has one.
    """
    if not app.replicas:
        from dbctl.errors.operations import ReplicaNotConfiguredError

        raise ReplicaNotConfiguredError(app=app.name)
    urls = {name: replica.url for name, replica in app.replicas.items()}
    replicas = {
        name: msgspec.structs.replace(replica, primary=app.databases[name])
        for name, replica in app.replicas.items()
    }
    return msgspec.structs.replace(
        app, databases={**app.databases, **urls}, replicas=replicas, reads_replicas=True
    )


def load(selection: Selection, *, only: str = "") -> Configuration:
    """Return the configuration; for ``only``, see ``resolve``.

    Raises:
        ConfigInvalidError: the file has an error; contains the first one, with its line and key.
        ConfigMissingError, FileMissingError, FileFailedError: the file does not exist, or cannot be read.
    """
    sections = load_sections(selection)
    with report_first_problem(sections.files[0].path):
        return resolve(sections, only=only)


def load_sections(selection: Selection) -> Sections:
    """Return the sections of the configuration, without resolving apps; raises as ``load``."""
    if selection.sections:
        return selection.sections
    file = config_path(selection)
    with report_first_problem(file):
        return read_sections(file)


def read(file: Path) -> Configuration:
    """Read a configuration: ``parse``, with the exceptions of ``load``."""
    with report_first_problem(file):
        return parse(file)


def config_path(selection: Selection) -> Path:
    """Return the first existing file of ``--config``, ``DBCTL_CONFIG``, ``./dbctl.toml``, the user's and the system's."""
    if selection.sections:
        return selection.sections.files[0].path
    explicit = selection.config or os.environ.get("DBCTL_CONFIG", "")
    if explicit:
        return Path(explicit)
    local = Path(FILE_NAME)
    if os.path.isfile(local):
        return local
    paths = [local, *(folder / FILE_NAME for folder in environment.config_folders().values())]
    for path in paths[1:]:
        if os.path.isfile(path):
            return path
    raise ConfigMissingError(reason=f"looked for {', '.join(map(str, paths))}")


def parse(file: Path) -> Configuration:
    """Read a configuration, and resolve its apps.

    Raises:
        TomlError: the files have errors; contains all of them.
        FileMissingError, FileFailedError: a file does not exist, or cannot be read.
        ConfigUntrustedError: other users may write a configuration that lets root run commands.
    """
    return resolve(read_sections(file))


def resolve(sections: Sections, *, only: str = "") -> Configuration:
    """Resolve the apps of a configuration; with ``only``, an app or instance, no others, so that their variables may be unset.

    Raises:
        TomlError: the sections have errors; contains all of them.
    """
    environment.use_secrets(sections.secrets, sections.folder)
    apps, problems = dict[str, App](), list[toml.Problem]()
    for name, app in sections.apps.items():
        if only in ("", name) or only.startswith(f"{name}/"):
            resolver = Resolver(name, app, sections.folder)
            apps[name] = msgspec.structs.replace(resolver.resolve(), state=sections.journal.folder)
            if resolver.problems:
                problems += locate_problems(sections.origins["apps", name], resolver.problems)
    if problems:
        raise sort_problems(problems, [source.path for source in sections.files])
    files = {name: sections.origins["apps", name].path for name in sections.apps}
    return Configuration(path=sections.files[0].path, apps=apps, files=files)


def find_problems(sections: Sections) -> list[toml.Problem]:
    """Return the invalid values of apps, without reading a variable or secret: texts that contain one are not checked."""
    problems = check_replaced_defaults(sections)
    for name, app in sections.apps.items():
        source = sections.origins["apps", name]
        resolver = Resolver(name, app, sections.folder, reads_variables=False)
        resolver.resolve()
        places = [(*source.locate(key), key, reason) for key, reason in resolver.problems]
        problems += locate_problems(
            source,
            [(key, reason) for place, written, key, reason in places if not place.has_variable(written)],
        )
    return problems


def referenced_variables(file: Path) -> Sequence[str]:
    """Return the environment variables that a configuration refers to, without those of its secrets and the apps' env files."""
    sections = read_sections(file)
    ignored, unread = set(sections.secrets), list[str]()
    for app in filter(lambda app: app.env_file, sections.apps.values()):
        ignored |= environment.read_env_file(
            app, sections.folder, (), lambda _, reason: unread.append(reason)
        ).keys()
    texts = "\n".join(source.text for source in sections.files)
    return [
        name for name in dict.fromkeys(re.findall(environment.VARIABLE_PATTERN, texts)) if name not in ignored
    ]


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
        urls_by_name[name] = resolve_path(urls.parse_url(address), folder)
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
