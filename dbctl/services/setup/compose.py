"""Find the databases of a Compose file."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dbctl.errors.usage import UsageError
from dbctl.services.setup import env_file
from dbctl.services.setup.addresses import Address, SecretPlace
from dbctl.services.setup.compose_files import read_project, read_settings_file, to_list, to_mapping
from dbctl.services.setup.containers import LOOPBACK, ContainerFacts, find_service
from dbctl.services.setup.images import FILE_SUFFIX, find_engine, read_login, write_address
from dbctl.url import DEFAULT_PORTS

#: A variable in a value, as Compose replaces it: ``$NAME``, ``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}``; ``$$`` is a dollar.
_REFERENCE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>\w+)|\{(?P<name>\w+)(?::?(?P<sign>[-?+])(?P<word>[^}]*))?\})"
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
        self._name, self._secrets = content.get("name") or "", content.get("secrets") or {}
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
            values = env_file.read_variables(file)
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
        except OSError:
            return None
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
