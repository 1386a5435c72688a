"""The route to a database that has no address on this machine: an extension opens it; servers have a socket on this machine then."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import cast

from dbctl.errors.connection import RoutedPathError, UnreachableError
from dbctl.url import Url


class Routes(ABC):
    """The open routes of this process; its only instance is the place ``routes`` of an extension."""

    @abstractmethod
    def open_socket(self, url: Url, target: str, name: str) -> Path:
        """Return a private socket that is relayed to host and port of ``url``; the route is opened once per process.

        Args:
            url: an address with a route.
            target: ``app/database``, for messages.
            name: of the socket, as the driver expects it.

        Raises:
            UnreachableError: a part of the route cannot be opened.
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
    """Return the path of a file or folder on this machine; the path of an address with a route is one of another machine.

    Raises:
        RoutedPathError: the address has a route.
    """
    if url.via:
        raise RoutedPathError(target=target, path=url.path, via=url.via)
    return Path(url.path)


def create_unreachable_error(
    url: Url, target: str, reason: str, hint: str, *, can_pass: bool = True
) -> UnreachableError:
    """Return the error of a lost or refused connection: that of its route, if the route has failed."""
    if fault := find_fault(url, target):
        return fault
    error = UnreachableError(target=target, reason=reason, hint=hint)
    error.can_pass = can_pass
    return error


def find_fault(url: Url, target: str) -> UnreachableError | None:
    """Return why the route of an address failed; None: it works, or the address has none."""
    return _load_routes(url).find_fault(url, target) if url.via else None


def _load_routes(url: Url) -> Routes:
    from dbctl.extensions import registry

    hint = "Use an address that this machine reaches."
    return cast("Routes", registry.require("routes", f"the route {url.via}", hint))
