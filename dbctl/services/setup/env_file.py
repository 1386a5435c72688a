"""Where a database is, as the app's own file of settings says it, without its password in the answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dbctl.errors import FileFailedError, FileMissingError, NotSupportedError, UrlInvalidError, UsageError
from dbctl.files import dotenv, read_settings
from dbctl.profiles.model import Database, Environment, Variable
from dbctl.services.app import WORDS
from dbctl.url import Url, parse

#: How an address begins that is the path of a file.
FILE = "file:"


def found(told: Database, directory: Path, given: Path | None) -> Path | None:
    """Return the file of settings: the one given, else the first that the profile names below ``directory``."""
    if told.environment is None:
        return None
    if given is not None:
        if not given.is_file():
            raise FileMissingError(what="file of settings", path=given)
        return given
    return next((directory / name for name in told.environment.find if (directory / name).is_file()), None)


def read(file: Path) -> Mapping[str, str]:
    """Return the variables of a file of settings.

    Raises:
        FileFailedError: it cannot be read, or is no text.
    """
    try:
        return dotenv.read(read_settings(file))
    except OSError as error:
        raise FileFailedError(path=file, reason=error.strerror) from error
    except UnicodeDecodeError as error:
        raise FileFailedError(path=file, reason="it is not valid UTF-8") from error


def places(told: Database, directory: Path, file: Path) -> list[Path] | None:
    """Return where the file can be that the settings name (``file:./data/app.db``); None where they name none."""
    environment = told.environment
    said = read(file).get(environment.url, "") if environment else ""
    if environment is None or not said.startswith(FILE):
        return None
    path = Path(said.removeprefix(FILE).removeprefix("//").partition("?")[0])
    if path.is_absolute():
        return [path]
    return [directory / folder / path for folder in environment.relative_to]


def address(told: Database, file: Path, name: str) -> str:
    """Return the address of a database as a configuration holds it, what is secret in it as ``${NAME}``; or nothing.

    Raises:
        UsageError: what the file says is no address.
        NotSupportedError: it is one of another engine.
    """
    environment, values = told.environment, read(file)
    if environment is None:
        return ""
    if environment.url and values.get(environment.url):
        _checked(told, values[environment.url], file, environment.url, name)
        return f"${{{environment.url}}}"
    if not environment.scheme or not any(one in values for one in _parts(environment)):
        return ""
    made = _made(environment, values)
    _checked(told, made.replace(f"${{{environment.password.name}}}", "x"), file, "the address", name)
    return made


def words(told: Database) -> str:
    """Return the variables that would say where a database is."""
    if told.environment is None:
        return ""
    return ", ".join([*([told.environment.url] if told.environment.url else []), *_parts(told.environment)])


def _parts(told: Environment) -> list[str]:
    parts = (told.host, told.port, told.database, told.user, told.password)
    return [one.name for one in parts if one.name]


def _made(environment: Environment, values: Mapping[str, str]) -> str:
    from urllib.parse import quote

    def said(one: Variable) -> str:
        return quote(values.get(one.name) or one.default, safe="")

    host = values.get(environment.host.name) or environment.host.default
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    port = said(environment.port)
    secret = values.get(environment.password.name)
    password = f"${{{environment.password.name}}}" if secret else quote(environment.password.default, safe="")
    user = said(environment.user)
    login = f"{user}{':' if password else ''}{password}@" if user else ""
    encrypted = WORDS.get(values.get(environment.tls, "").strip().lower(), False)
    option = f"?{environment.tls_option}" if encrypted else ""
    return f"{environment.scheme}://{login}{host}{':' if port else ''}{port}/{said(environment.database)}{option}"


def _checked(told: Database, text: str, file: Path, what: str, name: str) -> Url:
    """Take an address apart; no message repeats it, because a password is in it."""
    try:
        url = parse(text)
    except UrlInvalidError as error:
        raise UsageError(detail=f"{file}: {what}: {error}; say where it is with --url {name}=URL") from error
    if url.engine not in told.engines:
        instead = f"{what} of {file} says so; it lives in {' or '.join(told.engines)}."
        raise NotSupportedError(what=url.engine, by=name, instead=instead)
    return url
