"""Resolve the paths, variables and addresses of one configured app, or of an instance of a fleet (``APP/INSTANCE``)."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import msgspec

from dbctl import url as urls
from dbctl.config.environment import fill_variables, read_env_file
from dbctl.config.model import (
    ActionHooks,
    ActionName,
    App,
    AppConfig,
    BackupConfig,
    DatabaseBackupConfig,
    DatabaseConfig,
    EncryptionConfig,
    HooksConfig,
    InstancesConfig,
    MaintenanceModeConfig,
    Replica,
    SearchConfig,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.usage import FleetSelectedError, UrlInvalidError
from dbctl.files import atomic, toml
from dbctl.model import join_hint
from dbctl.units import is_duration, parse_duration
from dbctl.url import PLACEHOLDER, Url

#: The value for a database without migrations, instead of a folder.
NO_MIGRATIONS = "none"


class AnyVariable(dict[str, str]):
    """Contains every variable, with its name as value."""

    def __contains__(self, _name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        """Return the value of a variable."""
        return name


class ConfigSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base class of sections that extensions own."""

    def find_problems(self, apps: Collection[str]) -> Iterator[tuple[Sequence[str], str]]:  # noqa: ARG002 - for subclasses
        """Yield the key, in the section, and the reason of each invalid value, without reading a variable or a file.

        ``apps`` are those to which the section applies.
        """
        yield from ()

    def resolve(self, resolver: "Resolver") -> "ConfigSection":
        """Return the section of an app with resolved paths; its invalid values are reported to ``resolver``."""
        del resolver
        return self

    @property
    def names_program(self) -> bool:
        """Whether it names a program that dbctl runs: then root reads it only from files that no other user may write."""
        return False

    @property
    def observes_runs(self) -> bool:
        """Whether its extension observes runs (``Extension.on_run``), also those that are not recorded."""
        return False


def list_app_sections(app: AppConfig) -> Mapping[str, ConfigSection]:
    """Return the sections of installed extensions that are configured, by their names."""
    names = [name for name in app.__struct_fields__ if name not in AppConfig.__struct_fields__]
    sections = {name: getattr(app, name) for name in names}
    return {name: section for name, section in sections.items() if isinstance(section, ConfigSection)}


class Resolver:
    """Resolves the paths and variables of one app."""

    def __init__(self, name: str, app: AppConfig, folder: Path, *, reads_variables: bool = True) -> None:
        self._name, self._app, self._folder = name, app, folder
        self.problems: list[tuple[Sequence[toml.Key], str]] = []  #: the errors, with their keys in the file
        self._variables: Mapping[str, str] = {} if reads_variables else AnyVariable()
        if reads_variables and app.env_file:
            # They take precedence over the environment, which may have the ``DATABASE_URL`` of another app.
            self._variables = read_env_file(app, folder, ("apps", name, "env_file"), self._append)

    def resolve(self) -> App:
        app, folder = self._app, self._folder
        addresses = {"main": app.databases} if isinstance(app.databases, str) else app.databases
        databases = {
            name: self._url(address, "databases", name, via=app.via) for name, address in addresses.items()
        }
        return App(
            name=self._name,
            profile=str(folder / app.profile) if app.profile.endswith(".toml") else app.profile,
            protected=app.protected,
            require=app.require,
            prefix=app.prefix,
            databases={name: resolve_path(url, folder) for name, url in databases.items() if url},
            replicas=dict(self._replicas(databases)) if app.replicas else {},
            migrations={
                database: folder / self._fill(path, "migrations", database, required=True)
                for database, path in app.migrations.items()
                if path != NO_MIGRATIONS
            },
            unmigrated=[database for database, path in app.migrations.items() if path == NO_MIGRATIONS],
            backup=self._backup(app.backup) if app.backup else None,
            scratch=self._url(app.backup.scratch, "backup", "scratch")
            if app.backup and app.backup.scratch
            else None,
            hooks={
                action: self._hooks(action, section)
                for action in get_args(ActionName)
                if (section := getattr(app.hooks, action)) != ActionHooks()
            }
            if app.hooks != HooksConfig()
            else {},
            maintenance_mode=self._maintenance_mode(app.maintenance_mode) if app.maintenance_mode else None,
            env_file=folder / app.env_file if app.env_file else None,
            pepper_file=Path(self.resolve_file(self._fill(app.pepper_file, "pepper_file", required=True)))
            if app.pepper_file
            else None,
            pepper_env=app.pepper_env,
            search=self._search_folder(app.search) if app.search else None,
            folder=folder,
            directory=folder / app.directory,
            instances=app.instances,
            extension_sections={}
            if type(app) is AppConfig
            else {name: section.resolve(self) for name, section in list_app_sections(app).items()},
            listing_url=self._listing_url(app.instances) if app.instances != InstancesConfig() else None,
        )

    def _listing_url(self, section: InstancesConfig) -> Url | None:
        if bool(section.url) != bool(section.query):
            self.report("url and query require each other", "instances", "query" if section.url else "url")
        url = self._url(section.url, "instances", "url", via=self._app.via)
        return url and resolve_path(url, self._folder)

    def report(self, reason: str, *key: toml.Key) -> None:
        """Report an invalid value of the app, with its key in ``[apps.NAME]``."""
        self._append(("apps", self._name, *key), reason)

    def _append(self, key: Sequence[toml.Key], reason: str) -> None:
        self.problems.append((key, reason))

    def _fill(self, text: str, *key: toml.Key, required: bool = False) -> str:
        """Return a text with its variables; ``required``: report one that is empty, as a path that would be the folder of the configuration."""
        if "${" in text:
            text = fill_variables(text, ("apps", self._name, *key), self._append, self._variables)
        if required and not text:
            self.report("it is empty", *key)
        return text

    def resolve_file(self, text: str) -> str:
        """Return a path, which may be relative to the folder of the configuration; empty for none."""
        return str(self._folder / atomic.expand_home(text)) if text else ""

    def _url(
        self,
        text: str | DatabaseConfig,
        *key: toml.Key,
        via: str = "",
        via_key: Sequence[toml.Key] = ("via",),
    ) -> Url | None:
        """Return a URL; None if it is empty, or invalid, which is reported. It has the route ``via``, unless it names one."""
        if isinstance(text, DatabaseConfig):
            if text.via is not None:
                via, via_key = text.via, (*key, "via")
            return self._url(text.url, *key, "url", via=via, via_key=via_key)
        if not text and key[0] not in ("databases", "replicas"):
            return None
        place: Sequence[toml.Key] = key
        try:
            url = urls.parse_url(self._fill(text, *key))
            if via and not url.via and not url.path.startswith(urls.S3_PREFIX):
                place, known, route = via_key, len(self.problems), self._fill(via, *via_key)
                if len(self.problems) > known:  # its variable is missing
                    return None
                url = msgspec.structs.replace(url, via=urls.check_route(route))
        except UrlInvalidError as error:
            self.report(str(error), *place)
            return None
        if url.path.startswith(urls.S3_PREFIX):
            self._check_storage(url.path, *key)
        return url

    def _replicas(self, databases: Mapping[str, Url | None]) -> Iterator[tuple[str, Replica]]:
        for name, section in self._app.replicas.items():
            url = self._url(section.url, "replicas", name, "url", via=self._app.via)
            primary = databases.get(name)
            if name not in databases:
                self.report(f"databases has no {name!r}", "replicas", name)
            elif url and primary and (url.engine != primary.engine or url.is_local):
                reason = f"it is no address of a server with the engine of {name!r}"
                self.report(reason, "replicas", name, "url")
            elif url and primary and url.has_placeholder != primary.has_placeholder:
                reason = f"it must contain * exactly if the address of {name!r} does"
                self.report(reason, "replicas", name, "url")
            elif not is_duration(section.max_lag):
                reason = f"{section.max_lag!r} is not a duration; write 30s or 5m"
                self.report(reason, "replicas", name, "max_lag")
            elif url:
                yield name, Replica(url=url, max_lag=parse_duration(section.max_lag))

    def _search_folder(self, section: SearchConfig) -> Path:
        return self._folder / atomic.expand_home(
            self._fill(section.folder, "search", "folder", required=True)
        )

    def resolve_command(self, words: Sequence[str]) -> Sequence[str]:
        """Return a program and its arguments; a program without a slash is searched on the PATH."""
        return [
            self.resolve_file(word) if not index and "/" in word else word for index, word in enumerate(words)
        ]

    def _hooks(self, action: ActionName, section: ActionHooks) -> ActionHooks:
        commands = section.list_programs()
        self._check_programs(commands, section.timeout, "hooks", action)
        resolved = {key: self.resolve_command(words) for key, words in commands.items()}
        return ActionHooks(
            before=resolved.get("before", ()),
            after=resolved.get("after", ()),
            failed=resolved.get("failed", ()),
            finally_=resolved.get("finally", ()),
            timeout=section.timeout,
        )

    def _maintenance_mode(self, section: MaintenanceModeConfig) -> MaintenanceModeConfig:
        self._check_programs({"on": section.on, "off": section.off}, section.timeout, "maintenance_mode")
        return msgspec.structs.replace(
            section, on=self.resolve_command(section.on), off=self.resolve_command(section.off)
        )

    def _check_programs(self, commands: Mapping[str, Sequence[str]], timeout: str, *key: toml.Key) -> None:
        for name, words in commands.items():
            if not words or not words[0].strip():
                self.report("the program is missing", *key, name)
            elif "\0" in "".join(words):
                self.report("it contains a NUL character", *key, name)
        if not is_duration(timeout, may_be_zero=False):
            self.report(f"{timeout!r} is not a duration; write 30s or 10m", *key, "timeout")

    def _backup(self, section: BackupConfig) -> BackupConfig:
        for key in ("max_age", "verify_within", "drill_within", "full_every", "object_lock"):
            if (text := getattr(section, key)) and not is_duration(text):
                self.report(f"{text!r} is not a duration; write 26h, 30d or 1y", "backup", key)
        for name, reason in section.keep.find_problems():
            self.report(reason, "backup", "keep", name)
        for database, limits in section.databases.items():
            self._database_backup(limits, "backup", "databases", database)
        repository = self._fill(section.repository, "backup", "repository", required=True)
        if urls.is_foreign_address(repository):
            self._check_storage(repository, "backup", "repository")
        if section.object_lock and section.object_lock[:-1].strip("0") == "":
            self.report("a lock of no time protects nothing", "backup", "object_lock")
        if section.object_lock and not repository.startswith("s3://"):
            reason = "dbctl sets locks in s3:// only; use such a repository, or set the key to an empty text"
            self.report(reason, "backup", "object_lock")
        encrypt = section.encrypt and self._encryption(section.encrypt)
        return msgspec.structs.replace(section, repository=repository, encrypt=encrypt)

    def _database_backup(self, section: DatabaseBackupConfig, *key: toml.Key) -> None:
        for name in ("max_age", "max_log_age"):
            if (text := getattr(section, name)) and not is_duration(text):
                self.report(f"{text!r} is not a duration; write 15m, 26h or 30d", *key, name)
        for name, reason in section.keep.find_problems():
            self.report(reason, *key, "keep", name)
        for name in ("max_bytes", "min_free"):
            if getattr(section.keep, name):
                reason = "it limits the backups of all databases together; set it in [apps.NAME.backup]"
                self.report(reason, *key, "keep", name)

    def _check_storage(self, text: str, *key: toml.Key) -> None:
        """Report an address of storage that commands refuse."""
        from dbctl.config.storage import (
            PROVIDERS,
            RCLONE,
            SFTP,
            is_file_server,
            is_storage,
            parse_address,
            parse_file_server,
        )
        from dbctl.errors.backup import StorageSettingInvalidError

        if not (is_storage(text) or is_file_server(text)):
            known = ", ".join([*(f"{name}://" for name in PROVIDERS), SFTP, RCLONE])
            reason = f"unknown scheme; use a directory, or one of {known}; write ./ before a directory with a colon"
            self.report(reason, *key)
            return
        try:
            parse_file_server(text) if is_file_server(text) else parse_address(text)
        except StorageSettingInvalidError as error:
            self.report(join_hint(str(error), error.hint), *key)

    def _encryption(self, section: EncryptionConfig) -> EncryptionConfig:
        key = ("backup", "encrypt")
        if section.recipients:
            from dbctl.files import age
        for index, text in enumerate(section.recipients):
            duplicate = "it is a duplicate" if text in section.recipients[:index] else ""
            if problem := age.recipient_problem(text) or duplicate:
                self.report(f"recipient {index + 1}: {problem}", *key, "recipients")
        has_recipients = bool(section.recipients or section.recipients_file)
        passphrases = [name for name in ("passphrase_file", "passphrase_env") if getattr(section, name)]
        if len(passphrases) + has_recipients > 1:
            reason = "use recipients, a file with a passphrase, or a variable with it; age does not support several"
            self.report(reason, *key, passphrases[-1])
        if not (has_recipients or passphrases):
            self.report("recipients, recipients_file, passphrase_file or passphrase_env is missing", *key)
        files = {
            name: self.resolve_file(self._fill(getattr(section, name), *key, name, required=True))
            for name in ("recipients_file", "passphrase_file", "identity_file")
            if getattr(section, name)
        }
        return msgspec.structs.replace(section, **files)


def resolve_path(url: Url, folder: Path) -> Url:
    """Return an address whose path is absolute."""
    if not url.is_local:
        return url
    return msgspec.structs.replace(url, path=str(folder / atomic.expand_home(url.path)))


#: Names of instances: they become parts of paths, addresses, folders of backups, and messages.
_NAME_PATTERN = r"\w[\w.@+-]*(?: [\w.@+-]+)*"
LONGEST_NAME = 100  #: characters


class FleetSelection(msgspec.Struct, frozen=True):
    """The instances of a fleet that a command processes; a plain app is its own only instance."""

    app: App
    pattern: str = ""  #: of names of instances: ``a*``; empty: all
    problem: DbctlError | None = None  #: why no command works on the app, of which only the name is known


def is_pattern(text: str) -> bool:
    """Whether the text selects instances by a pattern, and not by their name."""
    return not text or any(sign in text for sign in "*?[")


def is_valid_name(name: object) -> bool:
    """Whether an instance can have this name."""
    return isinstance(name, str) and len(name) <= LONGEST_NAME and bool(re.fullmatch(_NAME_PATTERN, name))


def select_instance(app: App, name: str) -> App:
    """Return one instance of a fleet as an app.

    Raises:
        FleetSelectedError: the name is a pattern, or empty: all instances are selected.
        InstanceNameInvalidError: no instance can have this name.
    """
    if is_pattern(name):
        raise FleetSelectedError(app=app.name, selections=[FleetSelection(app, name)])
    if not is_valid_name(name):
        from dbctl.errors.operations import InstanceNameInvalidError

        raise InstanceNameInvalidError(app=app.name, name=name)
    return msgspec.structs.replace(
        app,
        name=f"{app.name}/{name}",
        fleet=app.name,
        databases={database: _fill(url, name) for database, url in app.databases.items()},
        replicas={
            database: msgspec.structs.replace(
                replica,
                url=_fill(replica.url, name),
                primary=replica.primary and _fill(replica.primary, name),
            )
            for database, replica in app.replicas.items()
        },
        directory=Path(str(app.directory).replace(PLACEHOLDER, name)),
    )


def _fill(url: Url, name: str) -> Url:
    options = url.options
    if PLACEHOLDER in options:
        from urllib.parse import quote

        options = options.replace(PLACEHOLDER, quote(name))
    path, via = (text.replace(PLACEHOLDER, name) for text in (url.path, url.via))
    return msgspec.structs.replace(url, path=path, options=options, via=via)
