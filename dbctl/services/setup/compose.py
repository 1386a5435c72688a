"""Find the databases of a Compose file, and write their addresses with variables instead of passwords."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from dbctl.config.secrets import MASK, redact_text
from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import UrlInvalidError, UsageError
from dbctl.files.atomic import explain_failure, read_settings
from dbctl.model import Secret, Struct
from dbctl.services.setup import env_file
from dbctl.url import DEFAULT_PORTS, find_engine, find_scheme, parse_url

#: The names of files with settings in the format of ``.env``.
ENV_FILE = re.compile(r"\.env(\..+)?|.+\.env")
#: The login and the password at the beginning of an address.
_LOGIN = re.compile(r"([A-Za-z][\w+]*://[^:@/?#]*:)(?P<password>.*)(?=@[^@]*$)")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


class SecretFile(Struct, frozen=True, kw_only=True):
    """A file whose first line is a secret."""

    path: Path
    text: Secret | None = None  #: the content of a new file; None: the file exists


class Address(Struct, frozen=True, kw_only=True):
    """The address of a database for a configuration."""

    text: str  #: ``${NAME}`` is the name of a variable
    env_file: Path | None = None  #: the app's own file with the variables
    secrets: Mapping[str, SecretFile] = {}  #: by the names of their variables

    def fill(self) -> str:
        """Return the address with the values of its variables.

        Raises:
            UsageError: a variable is not set, or its file cannot be read.
            FileFailedError: the file of settings cannot be read.
        """
        variables = dict(env_file.read_variables(self.env_file)) if self.env_file else {}
        for name, secret in self.secrets.items():
            variables[name] = secret.text.reveal() if secret.text else env_file.read_secret(secret.path)
        return env_file.fill(self.text, variables)


def hide_password(
    address: Address, folder: Path, app: str, database: str, used_names: Collection[str]
) -> Address:
    """Return an address without a password in clear: a new file of ``folder`` contains it, which ``[secrets]`` names.

    Args:
        address: the address.
        folder: of the configuration.
        app: the name of the app, with which the name of the file begins.
        database: the name of the database.
        used_names: the names of other secrets of the configuration.
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
    file = SecretFile(path=folder / stem, text=secret)
    return Address(
        text=f"{begin}${{{name}}}{end}",
        env_file=address.env_file,
        secrets={**address.secrets, name: file},
    )


def list_env_addresses(file: Path) -> Iterator[tuple[str, Address]]:
    """Yield the addresses of databases in an environment file, with the name of each database.

    A file of SQLite must exist; its relative path begins in the folder of the environment file.
    """
    for name, value in env_file.read_variables(file).items():
        scheme, separator, _ = value.partition(":")
        engine = find_engine(find_scheme(scheme.partition("+")[0].lower())) if separator else None
        if engine is None or not name.replace("-", "_").isidentifier():
            continue
        text = value if _VARIABLE.search(value) else f"${{{name}}}"
        address = Address(text=text, env_file=file)
        try:
            url = parse_url(address.fill())
        except UrlInvalidError:
            continue
        if engine.kind == "server":
            yield Path(url.path).stem or name.lower(), address
        for path in (Path(url.path), file.parent / url.path.lstrip("/")) if url.is_file else ():
            if path.is_absolute() and path.is_file():
                yield path.stem, Address(text=str(path))
                break


#: The names of Compose files, in the order of Compose.
NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
#: The last parts of the names of images, and their engine.
_IMAGES = {
    **dict.fromkeys(
        ("pgvecto-rs", "pgvector", "postgis", "postgres", "postgresql", "timescaledb", "timescaledb-ha"),
        "postgresql",
    ),
    **dict.fromkeys(("mariadb", "mysql", "mysql-server", "percona", "percona-server"), "mysql"),
}


class _Names(NamedTuple):
    """Variables of the images of an engine, in the order in which they are read."""

    users: Sequence[str]
    passwords: Sequence[str]  #: of that user
    superuser: str  #: the user if no variable names one
    superuser_passwords: Sequence[str]
    databases: Sequence[str]
    has_database_of_user: bool = False  #: without a variable, the database has the name of the user


_NAMES = {
    "postgresql": _Names(
        users=("POSTGRES_USER", "POSTGRESQL_USERNAME"),
        passwords=("POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"),
        superuser="postgres",
        superuser_passwords=("POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"),
        databases=("POSTGRES_DB", "POSTGRESQL_DATABASE"),
        has_database_of_user=True,
    ),
    "mysql": _Names(
        users=("MARIADB_USER", "MYSQL_USER"),
        passwords=("MARIADB_PASSWORD", "MYSQL_PASSWORD"),
        superuser="root",
        superuser_passwords=("MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD"),
        databases=("MARIADB_DATABASE", "MYSQL_DATABASE"),
    ),
}
#: A variable in a value, as Compose replaces it: ``$NAME``, ``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}``; ``$$`` is a dollar.
_REFERENCE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>\w+)|\{(?P<name>\w+)(?::?(?P<sign>[-?+])(?P<word>[^}]*))?\})"
)
#: A published port: ``[ADDRESS:]PUBLISHED:PORT``.
_PUBLISHED = re.compile(r"(?:(?P<host>\[[^]]+\]|[\w.]+):)?(?P<published>\d+):(?P<port>\d+)(?:/tcp)?")


class ComposeFile:
    """A Compose file, with the variables of ``.env`` next to it."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            FileFailedError: it cannot be read, or is no Compose file.
        """
        import msgspec.yaml

        self.path, self.folder = path, path.parent
        self._settings = self.folder / ".env"
        self._variables = env_file.read_variables(self._settings) if self._settings.is_file() else {}
        try:
            content = msgspec.yaml.decode(read_settings(path))
        except (OSError, ValueError) as error:
            raise FileFailedError(path=path, reason=explain_failure(error)) from error
        if not isinstance(content, dict) or not isinstance(content.get("services"), dict):
            raise FileFailedError(path=path, reason="it has no services")
        self._secrets = content.get("secrets") or {}
        self.services: Mapping[str, Mapping[str, Any]] = {
            str(name): service for name, service in content["services"].items() if isinstance(service, dict)
        }

    def list_addresses(self) -> Iterator[tuple[str, Address]]:
        """Yield the services with a database server: their name, and the address of their database.

        Raises:
            UsageError: a service does not name its database, or where its password is.
            FileFailedError: an environment file of a service cannot be read.
        """
        for name, service in self.services.items():
            image = (
                self._fill(service.get("image", "")).partition("@")[0].rpartition("/")[2].partition(":")[0]
            )
            if engine := _IMAGES.get(image):
                yield name, self._build_address(name, service, engine)

    def _build_address(self, name: str, service: Mapping[str, Any], engine: str) -> Address:
        files, variables = self._read_environment(service)
        filled = {key: self._fill(value) for key, value in variables.items()}

        def read(key: str) -> str:
            """Return a value, which may be in a file."""
            secret = self._find_secret(name, filled, key)
            return env_file.read_secret(secret) if secret else filled.get(key, "")

        names = _NAMES[engine]
        own = next(filter(None, map(read, names.users)), "")
        user, keys = own or names.superuser, names.passwords if own else names.superuser_passwords
        key = next((key for key in keys if filled.get(key) or filled.get(f"{key}_FILE")), "")
        database = next(filter(None, map(read, names.databases)), user if names.has_database_of_user else "")
        if not database:
            raise UsageError(
                detail=f"service {name} of {self.path} names no database; pass its address, mysql://USER@HOST/NAME"
            )
        reference = _REFERENCE.fullmatch(variables.get(key, ""))
        variable = (reference["plain"] or reference["name"]) if reference else None
        secret, settings, password = self._find_secret(name, filled, key) if key else None, None, ""
        secrets = dict[str, SecretFile]()
        if secret:
            password, secrets[key] = f"${{{key}}}", SecretFile(path=secret)
        elif key in files:
            password, settings = f"${{{key}}}", files[key]
        elif variable in self._variables:
            password, settings = f"${{{variable}}}", self._settings
        else:
            password = quote(filled.get(key, ""), safe="")
        login = f"{quote(user, safe='')}{':' if password else ''}{password}"
        host, port = self._find_port(name, service, str(DEFAULT_PORTS[engine]))
        text = f"{engine}://{login}@{host}:{port}/{quote(database, safe='')}"
        return Address(text=text, env_file=settings, secrets=secrets)

    def _read_environment(self, service: Mapping[str, Any]) -> tuple[Mapping[str, Path], Mapping[str, str]]:
        """Return the variables of a service, not filled, and the environment files of those that come from one."""
        files, variables = dict[str, Path](), dict[str, str]()
        for entry in _to_list(service.get("env_file")):
            file = self.folder / self._fill(entry.get("path", "") if isinstance(entry, dict) else entry)
            if isinstance(entry, dict) and entry.get("required") is False and not file.is_file():
                continue
            values = env_file.read_variables(file)
            variables |= values
            files |= dict.fromkeys(values, file)
        environment = service.get("environment") or {}
        if isinstance(environment, list):
            environment = dict(str(entry).partition("=")[::2] for entry in environment if "=" in str(entry))
        own = {str(key): str(value) for key, value in environment.items() if value is not None}
        return {key: file for key, file in files.items() if key not in own}, variables | own

    def _find_secret(self, service: str, variables: Mapping[str, str], key: str) -> Path | None:
        """Return the file on this machine that ``KEY_FILE`` names; None without this variable."""
        path = variables.get(f"{key}_FILE", "")
        if not path:
            return None
        secret = self._secrets.get(Path(path).name)
        file = secret.get("file") if isinstance(secret, dict) else None
        if not file:
            detail = f"service {service} of {self.path}: {key}_FILE is a file of the container, {path}"
            raise UsageError(detail=f"{detail}; pass the address of the database")
        return self.folder / self._fill(file)

    def _find_port(self, name: str, service: Mapping[str, Any], port: str) -> tuple[str, str]:
        """Return host and port of a service: the published ones, otherwise those in the network of its containers."""
        if service.get("network_mode") == "host":
            return "127.0.0.1", port
        for entry in _to_list(service.get("ports")):
            text = self._fill(entry)
            if isinstance(entry, dict):
                address, published = (
                    self._fill(entry.get("host_ip", "")),
                    self._fill(entry.get("published", "")),
                )
                text = f"{address}{':' if address else ''}{published}:{entry.get('target')}"
            match = _PUBLISHED.fullmatch(text)
            if match and match["port"] == port:
                host = match["host"] or ""
                return ("127.0.0.1" if host in ("", "0.0.0.0", "[::]") else host), match["published"]  # noqa: S104 - compared
        try:
            socket.getaddrinfo(name, port)  # in a container of its network
        except OSError:
            advice = f'add ports: ["127.0.0.1:{port}:{port}"], or run dbctl in a container of its network'
            raise UsageError(
                detail=f"service {name} of {self.path} publishes no port on this machine; {advice}"
            ) from None
        return name, port

    def _fill(self, value: object) -> str:
        """Return a value with its variables replaced as Compose does."""

        def replace(match: re.Match[str]) -> str:
            if match["escaped"]:
                return "$"
            value = self._variables.get(match["plain"] or match["name"], "")
            if match["sign"] == "+":
                return match["word"] if value else ""
            return value or (match["word"] if match["sign"] == "-" else "")

        return _REFERENCE.sub(replace, str(value))


def find_compose_file(directory: Path) -> Path | None:
    """Return the Compose file of a directory."""
    return next((directory / name for name in NAMES if (directory / name).is_file()), None)


def _to_list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
