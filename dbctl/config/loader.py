"""Read the configuration: find ``dbctl.toml``, and parse it with the files of ``dbctl.d``. No other module reads them."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from dbctl import url as urls
from dbctl.config import environment
from dbctl.config.model import (
    PLAIN,
    STATE_OFF,
    UNNAMED_APP,
    App,
    AppConfig,
    AuditConfig,
    ConfigFile,
    Configuration,
    HooksConfig,
    JournalConfig,
    NotifyConfig,
    SecretSource,
    Selection,
)
from dbctl.config.resolver import Resolver, resolve_path
from dbctl.errors import (
    AppAmbiguousError,
    AppMissingError,
    ConfigInvalidError,
    ConfigMissingError,
    FileFailedError,
    FileMissingError,
    UsageError,
)
from dbctl.files import atomic, toml
from dbctl.model import is_duration
from dbctl.url import Url

FILE_NAME = "dbctl.toml"
#: The folder of further files, next to ``dbctl.toml``; next to ``NAME.toml`` it is ``NAME.d``.
PARTS_FOLDER = "dbctl.d"


class SourceFile(msgspec.Struct, frozen=True):
    """One file of a configuration."""

    path: Path
    text: str
    values: Mapping[str, Any]  #: the parsed tables


class Sections(msgspec.Struct, frozen=True):
    """The sections of all files of a configuration; variables and paths are not resolved."""

    files: Sequence[SourceFile]
    folder: Path  #: the base of relative paths
    apps: Mapping[str, AppConfig]
    secrets: Mapping[str, SecretSource]
    journal: JournalConfig
    audit: AuditConfig
    notify: NotifyConfig
    #: the file of each section: ``("apps", NAME)``, ``("secrets", NAME)``, and one name for the others
    origins: Mapping[tuple[str, ...], SourceFile]


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
    apps, names = configuration.apps, ", ".join(configuration.files)
    name, fleet_name = selection.app, selection.app.partition("/")[0]
    if name not in apps and fleet_name in apps and apps[fleet_name].is_fleet:
        name = fleet_name
    if name and name not in apps:
        raise AppMissingError(
            name=name, file=configuration.path, names=names or "none", candidates=list(configuration.files)
        )
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
    """Read a configuration: ``parse``, with the exceptions of ``load``."""
    with report_first_problem(file):
        return parse(file, only=only)


@contextmanager
def report_first_problem(file: Path) -> Iterator[None]:
    """Translate the errors of ``read_sections`` and ``parse``.

    Raises:
        ConfigInvalidError: with the first error, its file, line and key.
    """
    try:
        yield
    except toml.TomlError as error:
        first = error.problems[0]
        raise ConfigInvalidError(
            file=first.file or file, line=first.line, key=first.key, reason=first.reason
        ) from error


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
    """Read a configuration, and resolve its apps.

    Args:
        file: the path of the main file.
        only: the selected app or instance: other apps are not resolved, so that their variables may be unset.

    Raises:
        TomlError: the files have errors; contains all of them.
        FileMissingError, FileFailedError: a file does not exist, or cannot be read.
        ConfigUntrustedError: other users may write a configuration that lets root run commands.
    """
    sections = read_sections(file)
    use_section_secrets(sections)
    apps, problems = dict[str, App](), list[toml.Problem]()
    for name, app in sections.apps.items():
        if only in ("", name) or only.startswith(f"{name}/"):
            app_problems = list[tuple[Sequence[toml.Key], str]]()
            resolved = Resolver(name, app, sections.folder, _collect_into(app_problems)).resolve()
            has_channels = bool(sections.notify.channels or app.notify.channels)
            has_rules = app.notify.on is None or bool(app.notify.on)
            apps[name] = msgspec.structs.replace(
                resolved,
                state=sections.journal.folder,
                has_messages=has_channels and has_rules,
            )
            problems += _locate(sections.origins["apps", name], app_problems)
    _raise_problems(problems, [source.path for source in sections.files])
    files = {name: sections.origins["apps", name].path for name in sections.apps}
    return Configuration(path=file, apps=apps, files=files)


def use_section_secrets(sections: Sections) -> None:
    """Look up variables in the section ``[secrets]`` from now on."""
    environment.use_secrets(sections.secrets, sections.folder)


def read_sections(file: Path, copies: Mapping[Path, Path] | None = None) -> Sections:
    """Read the files of a configuration: the main file, and those in its folder, sorted by name.

    Args:
        file: the path of the main file.
        copies: files that are read instead of files of the configuration.

    Raises:
        TomlError, FileMissingError, FileFailedError, ConfigUntrustedError: as ``parse``.
    """
    files, problems = list[SourceFile](), list[toml.Problem]()
    entries, origins = dict[tuple[str, ...], Any](), dict[tuple[str, ...], SourceFile]()
    paths = _list_files(file)
    for path in paths:
        try:
            source, content = _read_source(path, (copies or {}).get(path, path))
        except toml.TomlError as error:
            problems += [msgspec.structs.replace(problem, file=path) for problem in error.problems]
            continue
        files.append(source)
        reasons: list[tuple[Sequence[toml.Key], str]] = [
            (("secrets", name, *key), reason)
            for name, secret in content.secrets.items()
            for key, reason in environment.check_secret(name, secret)
        ]
        reasons += _check_journal(content.journal)
        for key, entry in _list_sections(source, content):
            if other := origins.get(key):
                line = toml.line_of(other.text, key)
                reasons.append((key, f"{other.path}, line {line} also defines it"))
            origins[key], entries[key] = source, entry
        problems += _locate(source, reasons)
    _raise_problems(problems, paths)
    folder = base_folder(file)
    journal = _resolve_journal(entries.pop(("journal",), JournalConfig()), folder)
    audit = entries.pop(("audit",), AuditConfig())
    notify = entries.pop(("notify",), NotifyConfig())
    apps, secrets = (
        {name: entry for (kind, name), entry in entries.items() if kind == table}
        for table in ("apps", "secrets")
    )
    sections = Sections(files, folder, apps, secrets, journal, audit, notify, origins)
    _raise_problems(_check_notifications(sections), paths)
    if os.geteuid() == 0 and _has_commands(sections):
        from dbctl.config.trust import require_trusted

        for source in files:
            require_trusted(source.path)
    return sections


def _read_source(path: Path, copy: Path) -> tuple[SourceFile, ConfigFile]:
    try:
        values, text = toml.load(copy)
    except FileNotFoundError as error:
        raise FileMissingError(kind="configuration", path=path) from error
    except OSError as error:
        raise FileFailedError(path=path, reason=error.strerror) from error
    return SourceFile(path, text, values), toml.structure(values, ConfigFile, text)


def _list_sections(source: SourceFile, content: ConfigFile) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the sections of a file that only one file may define, by their keys."""
    for table, section in (("apps", content.apps), ("secrets", content.secrets)):
        for name, entry in section.items():
            yield (table, name), entry
    for name in ("journal", "audit", "notify"):
        if name in source.values:
            yield (name,), getattr(content, name)


def _has_commands(sections: Sections) -> bool:
    """Whether the configuration names programs that dbctl runs."""
    if any(secret.command for secret in sections.secrets.values()):
        return True
    return any(
        app.hooks != HooksConfig() or app.maintenance_mode or (app.embedder and app.embedder.command)
        for app in sections.apps.values()
    )


def find_problems(sections: Sections) -> list[toml.Problem]:
    """Return the invalid values of apps, without reading a variable or secret: texts that contain one are not checked."""
    problems = list[toml.Problem]()
    for name, app in sections.apps.items():
        source, reasons = sections.origins["apps", name], list[tuple[Sequence[toml.Key], str]]()
        Resolver(name, app, sections.folder, _collect_into(reasons), reads_variables=False).resolve()
        problems += _locate(
            source, [entry for entry in reasons if not _has_variable(source.values, entry[0])]
        )
    return problems


def _has_variable(value: Any, key: Sequence[toml.Key]) -> bool:
    for part in key:
        value = value.get(part) if isinstance(value, dict) else value
    return isinstance(value, str) and "${" in value


def base_folder(file: Path) -> Path:
    """Return the base of relative paths: a section means the same in ``dbctl.toml`` and in a file of ``dbctl.d``."""
    folder = file.resolve().parent
    return folder.parent if folder.name == PARTS_FOLDER else folder


def _list_files(file: Path) -> list[Path]:
    folder = file.resolve().with_suffix(".d")
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".toml") and entry.name[0] != "."]
    except (FileNotFoundError, NotADirectoryError):
        return [file]
    except OSError as error:
        raise FileFailedError(path=folder, reason=error.strerror) from error
    return [file, *(file.parent / folder.name / name for name in sorted(names))]


def _locate(source: SourceFile, problems: Sequence[tuple[Sequence[toml.Key], str]]) -> list[toml.Problem]:
    return [
        msgspec.structs.replace(toml.create_problem(source.text, key, reason), file=source.path)
        for key, reason in problems
    ]


def _raise_problems(problems: Sequence[toml.Problem], files: Sequence[Path]) -> None:
    """Raise the problems in the order of the files and their lines, if any."""
    if problems:
        order = {path: index for index, path in enumerate(files)}
        raise toml.TomlError(*sorted(problems, key=lambda entry: (order[entry.file or files[0]], entry.line)))


def _check_journal(section: JournalConfig) -> Iterator[tuple[Sequence[toml.Key], str]]:
    if not is_duration(section.keep):
        yield ("journal", "keep"), f"{section.keep!r} is not a duration; write 90d or 1y"


def _check_notifications(sections: Sections) -> list[toml.Problem]:
    places = {("notify",): sections.notify} | {
        ("apps", name, "notify"): app.notify for name, app in sections.apps.items()
    }
    configured = {key: section for key, section in places.items() if section != NotifyConfig()}
    if not configured:
        return []
    from dbctl.config.notify import check_notify

    problems = list[toml.Problem]()
    for key, section in configured.items():
        is_shared = len(key) == 1 and len(sections.apps) > 1
        reasons = [((*key, *inner), reason) for inner, reason in check_notify(section, is_shared=is_shared)]
        problems += _locate(sections.origins[key[:2]], reasons)
    return problems


def _resolve_journal(section: JournalConfig, folder: Path) -> JournalConfig:
    if not section.folder or section.folder == STATE_OFF:
        return section
    return msgspec.structs.replace(section, folder=str(folder / atomic.expand_home(section.folder)))


def _collect_into(problems: list[tuple[Sequence[toml.Key], str]]) -> environment.ReportProblem:
    return lambda key, reason: problems.append((key, reason))


def _default_paths() -> list[Path]:
    local = Path(FILE_NAME)
    if atomic.is_regular(local):
        return [local]
    from platformdirs import site_config_path, user_config_path

    return [local, user_config_path("dbctl") / FILE_NAME, site_config_path("dbctl") / FILE_NAME]


def referenced_variables(file: Path) -> Sequence[str]:
    """Return the environment variables that a configuration refers to, without those of its secrets and the apps' env files."""
    sections = read_sections(file)
    ignored, unread = set(sections.secrets), list[str]()
    for app in sections.apps.values():
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
