"""Find the databases of an app below a directory, and write a configuration."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from msgspec import structs

from dbctl.config import loader as config
from dbctl.config import model
from dbctl.config.model import Retention
from dbctl.config.sections import Sections, Selection, require_trusted
from dbctl.errors.connection import FileFailedError, FileMissingError, UnreachableError
from dbctl.errors.databases import AlreadyExistsError
from dbctl.errors.usage import DatabaseUnknownError, NotSupportedError, UsageError
from dbctl.files import toml
from dbctl.files.atomic import write_atomically
from dbctl.model import ChangeResult, Effect, Plan
from dbctl.profiles import loader
from dbctl.profiles.model.profile import Profile
from dbctl.services.app.app import App
from dbctl.services.app.session import Session
from dbctl.services.backup.due import has_rules
from dbctl.services.backup.retention.rules import rules_by_name
from dbctl.services.setup.addresses import (
    Address,
    SecretPlace,
    build_address,
    find_env_file,
    hide_password,
    join_variable_names,
    list_database_paths,
    read_variables,
)
from dbctl.services.setup.database_files import (
    find_app_directory,
    find_database,
    find_migrations,
    find_mismatch,
    strip_pattern,
)
from dbctl.url import Url, is_foreign_address, locate_path, resolve_engine

#: The schema of the configuration; a path of this installation would be wrong after an update, and on another machine.
SCHEMA_ADDRESS = "https://raw.githubusercontent.com/dbctl/dbctl/main/dbctl/config/config.schema.json"
#: The initial backup section. The durations match the jobs of ``schedule cron``.
BACKUP_SECTION = """repository = "backups"
keep = {{ {keep} }}
max_age = "26h"
verify_within = "8d"
drill_within = "32d"
"""
#: Options that admins change most often, below the app, below its backups, and at the end of its section.
APP_OPTIONS = "# protected = true  # destructive commands require --confirm with the name of the app\n"
BACKUP_OPTIONS = """# compress = "zstd"
# encrypt = { passphrase_env = "BACKUP_PASSPHRASE" }  # a variable or a secret; or recipients = ["age1…"]
"""
SCHEMA_ONLY_OPTION = (
    "# schema_only = [{names}]  # backups without the rows of these tables, which the app does not need"
)
SCHEDULE_OPTIONS = """
# [apps.{app}.schedule]
# backup = "0 */6 * * *"  # the default is once a day; for: dbctl schedule cron
# cleanup = "off"
"""
DEFAULT_RETENTION = Retention(last=7, daily=14, weekly=8, monthly=12)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class InitResult(ChangeResult, frozen=True, kw_only=True):
    """Result of ``init``."""

    app: str
    profile: str
    config: str
    databases: Mapping[str, str]  #: without passwords, with routes
    migrations: Mapping[str, str]
    missing: Sequence[str]  #: optional databases that were not found
    mismatches: Mapping[
        str, Sequence[str]
    ]  #: by those databases, why files with their names are not them, such as damage
    secrets: Sequence[str]  #: new files with the passwords of addresses, which only their owner can read

    @property
    def effect(self) -> Effect | None:
        counts = {"databases": len(self.databases), "optional missing": len(self.missing)}
        return Effect("added", "app", [self.app], place=f"to {self.config}", counts=counts)

    @property
    def remarks(self) -> Sequence[str]:
        return [
            *describe_mismatches(self.mismatches),
            *(
                f"wrote the password of an address to {path}, which only its owner can read; {self.config} names the file"
                for path in self.secrets
            ),
        ]


def describe_mismatches(mismatches: Mapping[str, Sequence[str]]) -> Sequence[str]:
    return [
        f"{name} is not configured, so no backup will contain it: {'; '.join(reasons)}"
        for name, reasons in mismatches.items()
    ]


def read_configuration(file: Path, app: str) -> Sections | None:
    """Return the sections of the configuration; None: it does not exist.

    Raises:
        AlreadyExistsError: it contains an app with that name.
        FileFailedError: it is not a regular file.
    """
    exists = os.path.lexists(file)
    if exists and not os.path.isfile(file):
        raise FileFailedError(path=file, reason="it is not a regular file")
    if not exists:
        return None
    sections = config.load_sections(Selection(config=str(file)))
    if app in sections.apps:
        raise AlreadyExistsError(
            target=sections.origins["apps", app].path,
            kind="an app",
            name=app,
            hint="Choose another name with --app, or edit the file.",
        )
    return sections


def _write_database(address: Address) -> str:
    """Return the value of a database in the configuration."""
    text = toml.quoted(address.text, value=True)
    return f"{{ url = {text}, via = {toml.quoted(address.via, value=True)} }}" if address.via else text


def _split_urls(urls: Sequence[str]) -> dict[str, str]:
    """Return the texts of ``--url NAME=URL`` by the names of databases; without a name, it is for ``main``."""
    config.parse_urls(urls, Path.cwd())
    names = [next(iter(config.parse_urls([text], Path.cwd()))) for text in urls]
    return {name: text.removeprefix(f"{name}=") for name, text in zip(names, urls, strict=True)}


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
        new: bool = False,
        settings: Path | None = None,
        recognized: Mapping[str, Address] = MappingProxyType({}),
    ) -> None:
        """Find the databases: in ``urls`` and ``recognized``, in the environment file ``settings``, and below the directory.

        The default directory is the current one, or the usual directory of the app if only that contains its files. With
        ``new``, required files that do not exist get their usual path, also below a directory that does not exist yet.

        Raises:
            DatabaseNotFoundError: a required database does not exist below the directory.
            UsageError: several files match, or the app's name is invalid.
            AlreadyExistsError: the configuration contains an app with that name.
            ConfigUntrustedError: root would refuse the configuration, because it names programs and others may write it.
        """
        app_profile = loader.load(profile)
        directory = find_app_directory(app_profile, new=new) if directory is None else directory
        self.app = app or app_profile.name
        self.protected, self.target = False, ""  #: deletes nothing
        self._file, self._mark_protected = file, protected
        self._profile = self._relative(Path(profile)) if profile.endswith(".toml") else profile
        if not NAME.fullmatch(self.app):
            raise UsageError(
                detail=f"--app {self.app!r}: only letters, digits, dots, dashes and underscores are allowed"
            )
        if not (new or directory.is_dir()):
            raise FileMissingError(kind="directory", path=directory)
        self._sections = read_configuration(file, self.app)
        options = _split_urls(urls)
        addresses = self._read_addresses(
            app_profile, {**recognized, **{name: Address(text=text) for name, text in options.items()}}
        )
        addresses |= self._read_settings(
            app_profile,
            directory,
            settings,
            [name for name in app_profile.databases if name not in addresses],
        )
        mismatches: dict[str, list[str]] = {
            name: [] for name in app_profile.databases if name not in addresses
        }
        files = {
            name: path
            for name, reasons in mismatches.items()
            if (path := find_database(app_profile, name, directory, reasons, new=new))
        }
        self._mismatches = {
            name: reasons for name, reasons in mismatches.items() if reasons and name not in files
        }
        self._folders = sorted({path.parent for path in files.values() if not path.parent.is_dir()})
        addresses |= {name: Address(text=self._relative(path)) for name, path in files.items()}
        relative_directory = self._relative(
            next((strip_pattern(app_profile.databases[name], path) for name, path in files.items()), None)
            or directory
        )
        keep = app_profile.backup.keep if has_rules(app_profile.backup.keep) else DEFAULT_RETENTION
        rules = (
            f"{name} = {toml.quoted(value, value=True) if isinstance(value, str) else value}"
            for name, value in rules_by_name(keep).items()
        )
        self._backup = BACKUP_SECTION.format(keep=", ".join(rules))
        self._proposed = app_profile.list_schema_only()
        # Only needed if backups include files of the app.
        self._directory = relative_directory if app_profile.backup.extra and relative_directory != "." else ""
        present = {name: addresses[name] for name in app_profile.databases if name in addresses}
        self._prefix = self._detect_prefix(app_profile, present)
        self._settings = next(
            (self._relative(entry.env_file) for entry in present.values() if entry.env_file), ""
        )
        self._databases, self._secrets = self._hide_passwords(present)
        if os.geteuid() == 0 and any(secret.command for secret in self._secrets.values()):
            require_trusted(file)
        self._missing = [name for name in app_profile.databases if name not in addresses]
        self._migrations = {
            name: self._relative(folder)
            for name, database in app_profile.databases.items()
            for folder in find_migrations(database, directory)
            if name in self._databases
        }

    def plan(self) -> Plan:
        """Return the plan; writes nothing."""
        verb = "add to" if self._sections else "create"
        steps = [f"{verb} {self._file}: [apps.{self.app}]"]
        steps += [f"settings of the app = {self._settings}"] if self._settings else []
        steps += [f"{name} = {address}" for name, address in self._mask_passwords().items()]
        for name, secret in self._secrets.items():
            if secret.command:
                steps.append(f"{name} is the output of: {shlex.join(secret.command)}")
            elif secret.text:
                steps.append(f"write the password of {name} to {secret.path} (mode 0600)")
        steps += [f"create the directory {folder}" for folder in self._folders]
        steps += describe_mismatches(self._mismatches)
        steps += [f"migrations of {name} = {folder}" for name, folder in self._migrations.items()]
        steps += [f"backups: {self._backup.replace(chr(10), ', ').strip(', ')}"]
        return Plan(title=f"Configure {self.app}", target=self.app, steps=steps)

    def apply(self, confirmed: str | None = None) -> InitResult:
        """Write the configuration atomically; existing text remains unchanged.

        Raises:
            UsageError: a section cannot be appended to the existing text.
        """
        del confirmed  # no other process writes this section
        exists = self._sections is not None
        old_text = self._file.read_bytes().decode() if exists else ""
        gap = "" if not old_text else "\n" if old_text.endswith("\n") else "\n\n"
        # Editors with a language server for TOML complete and explain the keys.
        header = "" if old_text else f"#:schema {SCHEMA_ADDRESS}\n\n"
        text = old_text + gap + header + self._create_section()
        try:
            toml.loads(text.removeprefix("\ufeff"))
        except toml.TomlError as error:
            detail = f"{self._file}: [apps.{self.app}] cannot be appended ({error}); edit the file"
            raise UsageError(detail=detail) from error
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        written = self._write_secrets()
        try:
            with write_atomically(self._file, mode=0o600, replace=exists) as out:
                out.write(text)
        except BaseException:
            for path in written:
                path.unlink()
            raise
        return InitResult(
            app=self.app,
            profile=self._profile,
            config=str(self._file),
            databases=self._mask_passwords(),
            migrations=self._migrations,
            missing=self._missing,
            mismatches=self._mismatches,
            secrets=[str(path) for path in written],
        )

    def _write_secrets(self) -> list[Path]:
        """Write the new files with secrets, and return their paths."""
        written = list[Path]()
        for secret in self._secrets.values():
            if secret.text:
                with write_atomically(secret.path, mode=0o600) as out:
                    out.write(secret.text.reveal() + "\n")
                written.append(secret.path)
        return written

    def _hide_passwords(
        self, addresses: Mapping[str, Address]
    ) -> tuple[dict[str, Address], dict[str, SecretPlace]]:
        """Return the addresses as the configuration contains them, and its new secrets by the names of their variables."""
        databases, secrets = dict[str, Address](), dict[str, SecretPlace]()
        configured = self._sections.secrets if self._sections else {}
        for name, address in addresses.items():
            used_names = {*configured, *secrets}
            clashing = {key: f"{key}_{len(used_names)}" for key in address.secrets if key in used_names}
            text = address.text
            for key, other in clashing.items():
                text = text.replace(f"${{{key}}}", f"${{{other}}}")
            renamed = {clashing.get(key, key): secret for key, secret in address.secrets.items()}
            address = structs.replace(address, text=text, secrets=renamed)  # noqa: PLW2901 - with free names
            hidden = hide_password(address, self._file.parent, self.app, name, {*used_names, *renamed})
            databases[name] = hidden
            secrets |= hidden.secrets
        return databases, secrets

    def _mask_passwords(self) -> dict[str, str]:
        return {name: address.mask() for name, address in self._databases.items()}

    def _create_section(self) -> str:
        lines = [f"[apps.{toml.quoted(self.app)}]", f"profile = {toml.quoted(self._profile, value=True)}"]
        lines += [f"prefix = {toml.quoted(self._prefix, value=True)}"] if self._prefix is not None else []
        lines.append("protected = true" if self._mark_protected else APP_OPTIONS.rstrip())
        lines += [f"directory = {toml.quoted(self._directory, value=True)}"] if self._directory else []
        lines += [f"env_file = {toml.quoted(self._settings, value=True)}"] if self._settings else []
        databases = {name: _write_database(address) for name, address in self._databases.items()}
        migrations = {name: toml.quoted(path, value=True) for name, path in self._migrations.items()}
        for section, entries in (("databases", databases), ("migrations", migrations)):
            if entries:
                lines += ["", f"[apps.{toml.quoted(self.app)}.{section}]"]
                lines += [f"{toml.quoted(name)} = {value}" for name, value in entries.items()]
        lines += ["", f"[apps.{toml.quoted(self.app)}.backup]", self._backup + BACKUP_OPTIONS.rstrip()]
        if self._proposed:
            names = ", ".join(toml.quoted(name, value=True) for name in self._proposed)
            lines.append(SCHEMA_ONLY_OPTION.format(names=names))
        text = "\n".join(lines) + "\n" + SCHEDULE_OPTIONS.format(app=toml.quoted(self.app))
        for name, secret in self._secrets.items():
            text += f"\n[secrets.{name}]\n{self._write_secret(secret)}\n"
        return text

    def _write_secret(self, secret: SecretPlace) -> str:
        if not secret.command:
            return f"file = {toml.quoted(self._relative(secret.path), value=True)}"
        return f"command = [{', '.join(toml.quoted(word, value=True) for word in secret.command)}]"

    def _read_settings(
        self, profile: Profile, directory: Path, settings: Path | None, names: Sequence[str]
    ) -> dict[str, Address]:
        """Return the addresses of databases from the app's own environment file.

        Raises:
            NotSupportedError: a file was specified, but the profile defines no variables.
            UsageError: the specified file sets none of the variables.
        """
        addresses = dict[str, Address]()
        if settings and not any(section.environment for section in profile.databases.values()):
            hint = "Specify its databases: --url DATABASE=URL."
            raise NotSupportedError(feature="--env-file", subject=profile.title, hint=hint)
        for name in names:
            file = find_env_file(profile.databases[name], directory, settings)
            paths = list_database_paths(profile.databases[name], directory, file) if file else None
            if paths is not None:  # otherwise it is searched like the other databases
                valid = [path for path in paths if path.is_file() and not find_mismatch(path, profile, name)]
                addresses |= {name: Address(text=self._relative(valid[0]))} if valid else {}
                continue
            values = read_variables(file) if file else {}
            address = build_address(profile.databases[name], values, file, name)
            if file and address:
                addresses[name] = Address(text=address, env_file=file)
            elif file and settings:
                variables = join_variable_names(profile.databases[name])
                raise UsageError(detail=f"{file} has no URL of {name}: it sets none of {variables}")
        return addresses

    def _read_addresses(self, profile: Profile, addresses: Mapping[str, Address]) -> dict[str, Address]:
        """Return addresses of options and of recognized databases, with relative paths.

        Raises:
            DatabaseUnknownError, NotSupportedError: the profile has no such database, or none of its engine.
        """
        checked = dict[str, Address]()
        for name, address in addresses.items():
            if name not in profile.databases:
                raise DatabaseUnknownError(app=self.app, name=name, names=", ".join(profile.databases))
            has_more = address.env_file or address.secrets or address.via
            text = address.fill() if has_more else address.text
            (url,) = config.parse_urls([f"{name}={text}"], Path.cwd()).values()
            section = profile.databases[name]
            url = resolve_engine(url, section.engines)
            if url.engine not in section.engines:
                engines = " or ".join(section.engines)
                raise NotSupportedError(
                    feature=url.engine, subject=f"{profile.title}'s {name}", hint=f"Its engine is {engines}."
                )
            checked[name] = Address(text=self._locate(url, section.engines)) if url.is_local else address
        return checked

    def _detect_prefix(self, profile: Profile, addresses: Mapping[str, Address]) -> str | None:
        """Return the prefix of the app's tables if it differs from that of the profile.

        If the server is not reachable now, each command detects the prefix.

        Raises:
            AmbiguousPrefixError: the main database has the tables with several prefixes.
        """
        if not profile.prefix:
            return None
        folder = self._file.resolve().parent
        try:
            filled = [f"{name}={address.fill()}" for name, address in addresses.items()]
            databases = config.parse_urls(filled, folder)
        except UsageError:  # a variable is not set now
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
        app = App(Session(Selection(configured=configured), timeout=1), configured, profile)
        try:
            app.resolve_profile()
        except UnreachableError:
            return None
        return app.profile.prefix if app.profile.prefix != profile.prefix else None

    def _locate(self, url: Url, engines: Sequence[str]) -> str:
        """Return the relative path of a file or folder, with its engine if a path alone would mean another one."""
        path = self._relative(Path(url.path))
        return path if locate_path(Path(url.path), engines).engine == url.engine else f"{url.engine}:{path}"

    def _relative(self, path: Path) -> str:
        relative = os.path.relpath(os.path.realpath(path), Path(os.path.realpath(self._file)).parent)
        return f"./{relative}" if is_foreign_address(relative) else relative
