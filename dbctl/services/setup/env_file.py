"""Read the URL of a database from the app's own file of settings, without its password."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dbctl.config.environment import fill_variables
from dbctl.errors.connection import FileFailedError, FileMissingError
from dbctl.errors.usage import NotSupportedError, UrlInvalidError, UsageError
from dbctl.files import app_settings
from dbctl.files.atomic import explain_failure, read_settings
from dbctl.profiles.model.databases import Database, Environment, Variable
from dbctl.services.app.validation import BOOLEAN_WORDS
from dbctl.url import SOCKET_OPTIONS, Url, parse_url

#: Prefix of URLs that are paths of files.
FILE_PREFIX = "file:"


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
