"""Find the databases of a Compose file."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dbctl.errors.connection import FileFailedError
from dbctl.errors.usage import UsageError
from dbctl.files.atomic import explain_failure, read_settings
from dbctl.services.setup import addresses
from dbctl.services.setup.addresses import Address, SecretPlace
from dbctl.services.setup.containers import (
    FILE_SUFFIX,
    ContainerFacts,
    find_engine,
    find_service,
    read_login,
    write_address,
)
from dbctl.url import DEFAULT_PORTS, LOOPBACK

#: The names of Compose files, and of those that Compose merges into them, in the order of Compose.
NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_OVERRIDES = (
    "compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml",
)  # fmt: skip
#: The variables with the files of the project, and the sign between them.
_FILES, _SEPARATOR = "COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR"


def read_settings_file(folder: Path) -> Mapping[str, str]:
    """Return the variables of ``.env`` in the folder of a project."""
    settings = folder / ".env"
    return addresses.read_variables(settings) if settings.is_file() else {}


def find_compose_file(directory: Path) -> Path | None:
    files = [*_list_named(directory), *(directory / name for name in NAMES)]
    return next((file for file in files if file.is_file()), None)


def list_compose_files(path: Path) -> Sequence[Path]:
    """Return the files that Compose merges if ``path`` is its first one."""
    folder = path.parent
    if path in (named := _list_named(folder)):
        return named
    if path.name not in NAMES:
        return [path]
    overrides = [folder / name for name in _OVERRIDES if (folder / name).is_file()]
    return [path, *overrides[:1]]


def _list_named(folder: Path) -> Sequence[Path]:
    """Return the files of ``COMPOSE_FILE``, of the environment or ``.env``."""
    variables = {**read_settings_file(folder), **os.environ}
    texts = variables.get(_FILES, "").split(variables.get(_SEPARATOR) or os.pathsep)
    return [folder / text for text in texts if text]


def read_project(path: Path) -> Mapping[str, Any]:
    """Return the content of the files of a project.

    Raises:
        FileFailedError: one cannot be read, or is no Compose file.
    """
    import msgspec.yaml

    merged = dict[str, Any]()
    for file in list_compose_files(path):
        try:
            content = msgspec.yaml.decode(read_settings(file))
        except (OSError, ValueError) as error:
            raise FileFailedError(path=file, reason=explain_failure(error)) from error
        if not isinstance(content, dict) or not isinstance(content.get("services", {}), dict):
            raise FileFailedError(path=file, reason="it has no services")
        merged = _merge(merged, content)
    if not merged.keys() & {"services", "include"}:
        raise FileFailedError(path=path, reason="it has no services")
    return merged


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with the values of both: a list is continued, and any other value of the second replaces that of the first."""
    merged = dict(first)
    for key, value in second.items():
        before = merged.get(key)
        if key == "environment" and before is not None:
            merged[key] = {**to_mapping(before), **to_mapping(value)}
        elif isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(before, value)
        elif key in ("ports", "env_file") and before is not None:
            merged[key] = [*to_list(before), *to_list(value)]
        else:
            merged[key] = value
    return merged


def to_mapping(environment: Any) -> Mapping[str, Any]:
    """Return the variables of a service, which may be a list of ``NAME=VALUE``."""
    if isinstance(environment, Mapping):
        return environment
    pairs = (str(entry).partition("=") for entry in to_list(environment))
    return {name: value if sign else None for name, sign, value in pairs}


def to_list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


#: A variable in a value, as Compose replaces it: ``$NAME``, ``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}``; ``$$`` is a dollar.
#: A default may contain variables.
_REFERENCE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>\w+)|\{(?P<name>\w+)(?::?(?P<sign>[-?+])(?P<word>(?:\$\{[^}]*\}|[^}])*))?\})"
)
#: The variable with the name of the project.
_PROJECT_VARIABLE = "COMPOSE_PROJECT_NAME"
#: A published port: ``[ADDRESS:]PUBLISHED:PORT``.
_PUBLISHED = re.compile(r"(?:(?P<host>\[[^]]+\]|[\w.]+):)?(?P<published>\d+):(?P<port>\d+)(?:/tcp)?")


class ComposeFile:
    """A Compose file, with the variables of ``.env`` next to it."""

    def __init__(self, path: Path) -> None:
        """Read the file, and those that Compose merges into it.

        Raises:
            FileFailedError: one cannot be read, or is no Compose file.
        """
        self.path, self.folder = path, path.parent
        self._settings = self.folder / ".env"
        self._variables = read_settings_file(self.folder)
        content = read_project(path)
        self._is_partial = "include" in content
        self._name, secrets = content.get("name") or "", content.get("secrets")
        self._secrets: Mapping[str, Any] = secrets if isinstance(secrets, dict) else {}
        self.services: Mapping[str, Mapping[str, Any]] = {
            str(name): service
            for name, service in content.get("services", {}).items()
            if isinstance(service, dict)
        }

    def list_addresses(self) -> Iterator[tuple[str, Address]]:
        """Yield the services with a database server: their name, and the address of their database.

        Raises:
            UsageError: a service does not name its database, or where its password is; or services without a known image may have one.
            FileFailedError: an environment file of a service cannot be read.
        """
        is_found = False
        for name, service in self.services.items():
            if engine := find_engine(self._fill(service.get("image", ""))):
                is_found = True
                yield name, self._build_address(name, service, engine)
        extended = [name for name, service in self.services.items() if "extends" in service]
        if not is_found and (self._is_partial or extended):
            key = f"extends of {', '.join(extended)}" if extended else "include"
            raise UsageError(
                detail=f"{self.path} has no service with the image of a database, and dbctl does not read its {key}",
                hint=f"While it runs, pass the container of the database: compose:{self._project}/SERVICE",
            )

    def _build_address(self, name: str, service: Mapping[str, Any], engine: str) -> Address:
        files, variables = self._read_environment(service)
        filled = {key: self._fill(value) for key, value in variables.items()}
        port = str(DEFAULT_PORTS[engine])
        endpoint, container = self._find_endpoint(name, service, port), None
        if endpoint is None:
            endpoint = LOOPBACK, port
            container = find_service(self._project, name, self.path, port)
            filled |= container.environment  # which have also what only the environment of Compose defined

        def find_secret(key: str) -> SecretPlace | None:
            return self._find_secret(name, filled, key, container)

        def read(key: str) -> str:
            """Return a value, which may be in a file."""
            secret = find_secret(key)
            return secret.read() if secret else filled.get(key, "")

        login = read_login(engine, filled, read)
        if not login.database:
            raise UsageError(
                detail=f"service {name} of {self.path} names no database; pass its address, mysql://USER@HOST/NAME"
            )
        key = login.key
        reference = _REFERENCE.fullmatch(variables.get(key, ""))
        variable = (reference["plain"] or reference["name"]) if reference else None
        secret, settings, password = find_secret(key) if key else None, None, ""
        if secret is None and key in files:
            password, settings = f"${{{key}}}", files[key]
        elif secret is None and variable in self._variables:
            password, settings = f"${{{variable}}}", self._settings
        elif secret is None and container and key:
            secret = container.locate(key)
        elif secret is None:
            password = quote(filled.get(key, ""), safe="")
        return Address(
            text=write_address(engine, login, f"${{{key}}}" if secret else password, *endpoint),
            via=container.via if container else "",
            env_file=settings,
            secrets={key: secret} if secret else {},
        )

    def _read_environment(self, service: Mapping[str, Any]) -> tuple[Mapping[str, Path], Mapping[str, str]]:
        """Return the variables of a service, not filled, and the environment files of those that come from one."""
        files, variables = dict[str, Path](), dict[str, str]()
        for entry in to_list(service.get("env_file")):
            file = self.folder / self._fill(entry.get("path", "") if isinstance(entry, dict) else entry)
            if isinstance(entry, dict) and entry.get("required") is False and not file.is_file():
                continue
            values = addresses.read_variables(file)
            variables |= values
            files |= dict.fromkeys(values, file)
        environment = to_mapping(service.get("environment"))
        own = {str(key): str(value) for key, value in environment.items() if value is not None}
        return {key: file for key, file in files.items() if key not in own}, variables | own

    def _find_secret(
        self, service: str, variables: Mapping[str, str], key: str, container: ContainerFacts | None
    ) -> SecretPlace | None:
        """Return the file that ``KEY_FILE`` names, on this machine or in the container; None without this variable."""
        path = variables.get(f"{key}{FILE_SUFFIX}", "")
        if not path:
            return None
        secret = self._secrets.get(Path(path).name)
        file = secret.get("file") if isinstance(secret, dict) else None
        if file:
            return SecretPlace(path=self.folder / self._fill(file))
        if container:
            return container.locate(key)
        detail = f"service {service} of {self.path}: {key}_FILE is a file of the container, {path}"
        raise UsageError(detail=f"{detail}; pass the address of the database")

    @property
    def _project(self) -> str:
        """The name of the project, as Compose chooses it."""
        variable = os.environ.get(_PROJECT_VARIABLE) or self._variables.get(_PROJECT_VARIABLE)
        name = variable or self._fill(self._name)
        return name or re.sub(r"[^a-z0-9_-]", "", self.path.absolute().parent.name.lower()).lstrip("_-")

    def _find_endpoint(self, name: str, service: Mapping[str, Any], port: str) -> tuple[str, str] | None:
        """Return host and port of a service: the published ones, otherwise those in the network of its containers; None without any."""
        if service.get("network_mode") == "host":
            return LOOPBACK, port
        for entry in to_list(service.get("ports")):
            text = self._fill(entry)
            if isinstance(entry, dict):
                address = self._fill(entry.get("host_ip", ""))
                published = self._fill(entry.get("published", ""))
                text = f"{address}{':' if address else ''}{published}:{entry.get('target')}"
            match = _PUBLISHED.fullmatch(text)
            if match and match["port"] == port:
                host = match["host"] or ""
                return (LOOPBACK if host in ("", "0.0.0.0", "[::]") else host), match["published"]  # noqa: S104 - compared
        try:
            socket.getaddrinfo(name, port)  # in a container of its network
        except (OSError, UnicodeError):  # UnicodeError: the name has a part that no host name has
            return None
        return name, port

    def _fill(self, value: object) -> str:
        """Return a value with its variables replaced as Compose does."""

        def replace(match: re.Match[str]) -> str:
            if match["escaped"]:
                return "$"
            value = self._variables.get(match["plain"] or match["name"], "")
            if match["sign"] == "+":
                return self._fill(match["word"]) if value else ""
            return value or (self._fill(match["word"]) if match["sign"] == "-" else "")

        return _REFERENCE.sub(replace, str(value))
