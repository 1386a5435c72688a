"""The route to a database that has no address on this machine.

An extension opens it. A server has a socket on this machine then, and a path in a volume of a container is one of this machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, cast

from msgspec import structs

from dbctl import progress
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConnectionLostError, RoutedPathError, UnreachableError
from dbctl.url import Url


class ReadablePath(NamedTuple):
    """Where this process reads a file."""

    path: Path
    machine: str = ""  #: of which it is a private copy; empty: it is the file itself
    taken_at: datetime | None = None  #: when the copy was begun; it has the content of that time or later


class Routes(ABC):
    """The open routes of this process; its only instance is the place ``routes`` of an extension."""

    @abstractmethod
    def open_socket(self, url: Url, target: str, name: str) -> Path:
        """Return a private socket that is relayed to host and port of ``url``; the route is opened once per process.

        The driver expects ``name`` as the name of the socket.

        Raises:
            UnreachableError: a part of the route cannot be opened.
        """

    @abstractmethod
    def find_path(self, url: Url, target: str) -> Path | None:
        """Return the path on this machine of a file or folder; None: it is on another machine.

        Raises:
            UnreachableError: it is in a container, and not in a volume that this machine has.
        """

    @abstractmethod
    def wrap_program(self, url: Url, target: str, argv: Sequence[str]) -> Sequence[str] | None:
        """Return the program of this machine that runs ``argv``, with the same input and output, in the container at the end of the route.

        None: the route ends at a machine, on which dbctl runs no program of the server.

        Raises:
            UnreachableError: a part of the route cannot be opened.
        """

    @abstractmethod
    def copy_file(self, url: Url, target: str, *, timeout: float) -> ReadablePath:
        """Return a copy of a database file of another machine, which is made once per process and deleted with it.

        Raises:
            DbctlError: it cannot be copied; ``timeout``: seconds to wait for a lock.
        """

    @abstractmethod
    def find_fault(self, url: Url, target: str) -> UnreachableError | None:
        """Return why a connection that used the route of ``url`` failed; None: the route works, or has not been opened."""


def open_socket(url: Url, target: str, name: str) -> Path:
    """Return a socket for an address with a route; see ``Routes.open_socket``.

    Raises:
        NotSupportedError: the extension for routes is not installed.
        UnreachableError: a part of the route cannot be opened.
    """
    return _load_routes(url).open_socket(url, target, name)


def locate_path(url: Url, target: str) -> Path:
    """Return the path of a file or folder on this machine.

    Raises:
        RoutedPathError: it is on another machine.
        Others, as ``Routes.find_path``.
    """
    path = find_path(url, target)
    if path is None:
        raise RoutedPathError(target=target, path=url.path, via=url.via)
    return path


def locate_readable_path(url: Url, target: str, *, timeout: float) -> ReadablePath:
    """Return where a database file is read; raises as ``Routes.find_path`` and ``Routes.copy_file``."""
    if path := find_path(url, target):
        return ReadablePath(path)
    copy = _load_routes(url).copy_file(url, target, timeout=timeout)
    progress.add_note(
        f"{target} was read from a copy of {copy.machine}, begun at {copy.taken_at:%Y-%m-%dT%H:%M:%SZ}"
    )
    return copy


def find_path(url: Url, target: str) -> Path | None:
    """Return the path of a file or folder on this machine; None: it is on another machine; raises as ``Routes.find_path``."""
    return _load_routes(url).find_path(url, target) if url.via else Path(url.path)


class LocalAddresses(Mapping[str, Url]):
    """Addresses of databases by name; from its first use on, one in a volume of a container is a path of this machine."""

    def __init__(self, urls: Mapping[str, Url], app: str) -> None:
        self._urls, self._app = dict(urls), app
        self._routed = {name for name, url in urls.items() if url.has_routed_path}

    def __getitem__(self, name: str) -> Url:
        if name in self._routed:
            self._routed.remove(name)
            # It keeps its route if this fails: opening it then raises the error.
            with suppress(DbctlError):
                url, target = self._urls[name], f"{self._app}/{name}"
                if path := _load_routes(url).find_path(url, target):
                    self._urls[name] = structs.replace(url, path=str(path), via="", routed=str(url))
        return self._urls[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._urls)

    def __len__(self) -> int:
        return len(self._urls)


def wrap_program(url: Url, target: str, argv: Sequence[str]) -> Sequence[str] | None:
    """Return the program that runs ``argv`` in the container of an address; None: it has none. See ``Routes.wrap_program``."""
    return _load_routes(url).wrap_program(url, target, argv) if url.via else None


def create_unreachable_error(
    url: Url, target: str, reason: str, hint: str, *, can_pass: bool = True
) -> UnreachableError:
    """Return the error of a lost or refused connection: that of its route, if the route has failed."""
    if fault := find_fault(url, target):
        return fault
    error = UnreachableError(target=target, reason=reason, hint=hint)
    error.can_pass = can_pass
    return error


def create_lost_error(
    url: Url, target: str, reason: str, consequence: str, *, is_refused: bool = False
) -> UnreachableError:
    """Return the error of a connection that was lost in the middle, or refused: that of its route, if the route has failed."""
    fault = find_fault(url, target)
    if fault is None:
        if is_refused:
            return UnreachableError(target=target, reason=reason, hint=consequence)
        return ConnectionLostError(target=target, reason=reason, hint=consequence)
    fault.hint = f"{consequence} {fault.hint}"
    return fault


def find_fault(url: Url, target: str) -> UnreachableError | None:
    """Return why the route of an address failed; None: it works, or the address has none."""
    return _load_routes(url).find_fault(url, target) if url.via else None


def _load_routes(url: Url) -> Routes:
    from dbctl.extensions import registry

    hint = "Use an address that this machine reaches."
    return cast("Routes", registry.require("routes", f"the route {url.via}", hint))
