"""Addresses of databases for a configuration, with variables instead of passwords, and the URL in the app's own file of settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from msgspec import structs

from dbctl.config.environment import VariableUnreadableError, fill_variables, read_command
from dbctl.config.model import SecretSource
from dbctl.config.secrets import MASK, redact_text
from dbctl.errors.connection import FileFailedError, FileMissingError
from dbctl.errors.usage import NotSupportedError, UrlInvalidError, UsageError
from dbctl.files import app_settings
from dbctl.files.atomic import explain_failure, read_settings
from dbctl.model import Secret, Struct
from dbctl.profiles.model.databases import Database, Environment, Variable
from dbctl.services.app.validation import BOOLEAN_WORDS
from dbctl.url import SOCKET_OPTIONS, VIA, Url, find_engine, find_scheme, parse_url

#: Prefix of URLs that are paths of files.
FILE_PREFIX = "file:"
#: The names of files with settings in the format of ``.env``.
ENV_FILE = re.compile(r"\.env(\..+)?|.+\.env")
#: The login and the password at the beginning of an address.
_LOGIN = re.compile(r"([A-Za-z][\w+]*://[^:@/?#]*:)(?P<password>.*)(?=@[^@]*$)")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


def find_env_file(section: Database, directory: Path, path: Path | None) -> Path | None:
    """Return the environment file: ``path``, otherwise the first file of the profile that exists below ``directory``."""
    if section.environment is None:
        return None
    if path is not None:
        if not path.is_file():
            raise FileMissingError(kind="environment file", path=path)
        return path
    files = (file for pattern in section.environment.find for file in sorted(directory.glob(pattern)))
    return next((file for file in files if file.is_file()), None)


def read_variables(file: Path) -> Mapping[str, str]:
    """Return the variables of an environment file.

    Raises:
        FileFailedError: the file cannot be read, or is not valid.
    """
    try:
        return app_settings.parse_settings(file.name, read_settings(file))
    except (OSError, ValueError) as error:
        raise FileFailedError(path=file, reason=explain_failure(error)) from error


def read_secret(file: Path) -> str:
    """Return the content of a file with a secret, without the line break at its end.

    Raises:
        FileFailedError: the file cannot be read.
    """
    try:
        return read_settings(file).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        raise FileFailedError(path=file, reason=explain_failure(error)) from error


def list_database_paths(section: Database, directory: Path, file: Path) -> list[Path] | None:
    """Return the possible paths of a database in a ``file:`` URL (``file:./data/app.db``), or None for other URLs."""
    environment = section.environment
    url = read_variables(file).get(environment.url, "") if environment else ""
    if environment is None or not url.startswith(FILE_PREFIX):
        return None
    path = Path(url.removeprefix(FILE_PREFIX).removeprefix("//").partition("?")[0])
    if path.is_absolute():
        return [path]
    return [directory / folder / path for folder in environment.relative_to]


def build_address(section: Database, values: Mapping[str, str], place: object, name: str) -> str:
    """Return the URL of a database for a configuration, with secrets as ``${NAME}``, or an empty string.

    ``values`` are the variables of the app, which are at ``place``, for messages.

    Raises:
        UsageError: the variables do not form a valid URL.
        NotSupportedError: the URL names another engine.
    """
    environment = section.environment
    if environment is None:
        return ""
    if environment.url and values.get(environment.url):
        _parse_url(section, values[environment.url], place, environment.url, name)
        return f"${{{environment.url}}}"
    scheme = _select_scheme(environment, values)
    if not scheme or not any(variable in values for variable in _list_variable_names(environment)):
        return ""
    url = _build_url(environment, scheme, values)
    _parse_url(section, url.replace(f"${{{environment.password.name}}}", "x"), place, "the URL", name)
    return url


def fill(address: str, variables: Mapping[str, str]) -> str:
    """Return a URL with the values of its variables.

    Raises:
        UsageError: neither ``variables`` nor the environment has one of them.
    """
    problems = list[str]()
    filled = fill_variables(address, (), lambda _, reason: problems.append(reason), variables)
    if problems:
        raise UsageError(detail=problems[0])
    return filled


def join_variable_names(section: Database) -> str:
    if section.environment is None:
        return ""
    return ", ".join(
        [
            *([section.environment.url] if section.environment.url else []),
            *_list_variable_names(section.environment),
        ]
    )


def _list_variable_names(environment: Environment) -> list[str]:
    variables = (
        environment.host,
        environment.port,
        environment.database,
        environment.user,
        environment.password,
    )
    return [variable.name for variable in variables if variable.name]


def _select_scheme(environment: Environment, values: Mapping[str, str]) -> str:
    """Return the scheme for the engine that the variables name; empty if it is a file, or unknown."""
    engine = values.get(environment.engine.name, environment.engine.default)
    return environment.schemes.get(engine.lower(), "") if engine else environment.scheme


def _build_url(environment: Environment, scheme: str, values: Mapping[str, str]) -> str:
    from urllib.parse import quote

    def read_value(variable: Variable) -> str:
        return quote(values.get(variable.name) or variable.default, safe="")

    host, port, socket = _split_host(values.get(environment.host.name) or environment.host.default)
    port = port or read_value(environment.port)
    secret = values.get(environment.password.name)
    password = f"${{{environment.password.name}}}" if secret else quote(environment.password.default, safe="")
    user = read_value(environment.user)
    login = f"{user}{':' if password else ''}{password}@" if user else ""
    encrypted = BOOLEAN_WORDS.get(values.get(environment.tls, "").strip().lower(), False)
    options = [environment.tls_option] if encrypted else []
    options += [f"{SOCKET_OPTIONS[scheme]}={quote(socket)}"] if socket else []
    query = f"?{'&'.join(options)}" if options else ""
    return f"{scheme}://{login}{host}{':' if port else ''}{port}/{read_value(environment.database)}{query}"


def _split_host(text: str) -> tuple[str, str, str]:
    """Return host, port and socket of an address as PHP programs write it: ``HOST``, ``HOST:PORT``, ``HOST:/SOCKET``, ``/SOCKET``."""
    from urllib.parse import quote

    host, colon, rest = text.rpartition(":")
    if text.startswith("/"):
        return "", "", text
    if colon and rest.startswith("/"):
        return "", "", rest
    if colon and rest.isdigit() and (":" not in host or host.endswith("]")):
        return host if host.startswith("[") else quote(host, safe=""), rest, ""
    return (f"[{text}]" if ":" in text and not text.startswith("[") else quote(text, safe="[:]")), "", ""


def _parse_url(section: Database, text: str, place: object, label: str, name: str) -> Url:
    """Parse a URL; error messages do not contain it, because it contains a password."""
    try:
        url = parse_url(text)
    except UrlInvalidError as error:
        raise UsageError(detail=f"{place}: {label}: {error}; use --url {name}=URL") from error
    if url.engine not in section.engines:
        hint = f"{label} in {place} is of this engine; allowed: {' or '.join(section.engines)}."
        raise NotSupportedError(feature=url.engine, subject=name, hint=hint)
    return url


class SecretPlace(Struct, frozen=True, kw_only=True):
    """Where a secret is: in a file, or in the first line that a program prints."""

    path: Path = Path()
    text: Secret | None = None  #: the content of a new file; None: the file exists
    command: Sequence[str] = ()  #: the program and its arguments, instead of a file

    def read(self) -> str:
        """Return the secret.

        Raises:
            FileFailedError: its file cannot be read.
            UsageError: its program failed.
        """
        if self.text:
            return self.text.reveal()
        if not self.command:
            return read_secret(self.path)
        try:
            return read_command(shlex.join(self.command), SecretSource(command=self.command), Path())
        except VariableUnreadableError as error:
            hint = "If the container lacks that program, pass the address of the database with its password instead."
            raise UsageError(detail=str(error), hint=hint) from error


class Address(Struct, frozen=True, kw_only=True):
    """The address of a database for a configuration."""

    text: str  #: ``${NAME}`` is the name of a variable
    via: str = ""  #: the route to it
    env_file: Path | None = None  #: the app's own file with the variables
    secrets: Mapping[str, SecretPlace] = {}  #: by the names of their variables

    def fill(self) -> str:
        """Return the address with the values of its variables, and with its route.

        Raises:
            UsageError: a variable is not set, or its program failed.
            FileFailedError: its file, or the file of settings, cannot be read.
        """
        variables = dict(read_variables(self.env_file)) if self.env_file else {}
        variables |= {name: secret.read() for name, secret in self.secrets.items()}
        return self._add_route(fill(self.text, variables))

    def mask(self) -> str:
        """Return the address without passwords, and with its route."""
        return self._add_route(redact_text(self.text))

    def _add_route(self, text: str) -> str:
        return f"{text}{'&' if '?' in text else '?'}{VIA}={quote(self.via, safe=':/')}" if self.via else text


def hide_password(
    address: Address, folder: Path, app: str, database: str, used_names: Collection[str]
) -> Address:
    """Return an address without a password in clear: a new file of ``folder`` contains it, which ``[secrets]`` names.

    The name of the file begins with ``app``; ``used_names`` are those of other secrets of the configuration.
    """
    if MASK not in redact_text(address.text):
        return address
    stem = app if database == "main" else f"{app}-{database}"
    login = _LOGIN.match(address.text)
    begin, end = (login[1], address.text[login.end(1) + len(login["password"]) :]) if login else ("", "")
    secret = parse_url(address.text).password if login else None
    kind = "password"
    if secret is None or MASK in redact_text(f"{begin}${{PASSWORD}}{end}"):  # a parameter is secret, too
        begin, end, kind, secret = "", "", "url", Secret(address.fill())
    stem = f"{stem}-{kind}"
    name = re.sub(r"\W|^(?=\d)", "_", stem, flags=re.ASCII).upper()
    while name in used_names:
        name += "_"
    file = SecretPlace(path=folder / stem, text=secret)
    return structs.replace(address, text=f"{begin}${{{name}}}{end}", secrets={**address.secrets, name: file})


def list_env_addresses(file: Path) -> Iterator[tuple[str, Address]]:
    """Yield the addresses of databases in an environment file, with the name of each database.

    A file of SQLite must exist; its relative path begins in the folder of the environment file.
    """
    variables = read_variables(file)
    for name, value in list_urls(variables):
        text = value if _VARIABLE.search(value) else f"${{{name}}}"
        address = Address(text=text, env_file=file)
        try:
            url = parse_url(address.fill())
        except UrlInvalidError:
            continue
        engine = find_engine(url.engine)
        if engine and engine.kind == "server":
            yield Path(url.path).stem or name.lower(), address
        for path in (Path(url.path), file.parent / url.path.lstrip("/")) if url.is_file else ():
            if path.is_absolute() and path.is_file():
                yield path.stem, Address(text=str(path))
                break


def list_urls(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the variables whose value begins like the address of a database."""
    for name, value in variables.items():
        scheme, separator, _ = value.partition(":")
        engine = find_scheme(scheme.partition("+")[0].lower()) if separator else ""
        if engine and name.replace("-", "_").isidentifier():
            yield name, value
