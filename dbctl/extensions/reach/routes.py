"""The open routes of this process: each is opened once, and ends with the process."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from dbctl.engines.contract.route import ReadablePath, Routes
from dbctl.errors.connection import UnreachableError, report_file_errors
from dbctl.extensions.reach.containers import Container, find_container
from dbctl.extensions.reach.errors import RouteError
from dbctl.extensions.reach.machines import Machine, SshMachine
from dbctl.extensions.reach.relay import Relay
from dbctl.extensions.reach.snapshots import PREFIX as SNAPSHOT_PREFIX
from dbctl.extensions.reach.snapshots import copy_file
from dbctl.extensions.reach.volumes import locate
from dbctl.files import temp
from dbctl.url import DEFAULT_PORTS, LOOPBACK, Url

PREFIX = "dbctl-route-"
#: Bytes of the path of a folder in which the sockets of a route, and the temporary one of ssh, have paths that the system accepts.
LONGEST_FOLDER = 52
#: Waits for the end of dbctl, also by SIGKILL, and then ends the connection of ssh, and deletes the folder of the sockets. It renames the
#: folder first: an ssh that is still opening the connection then cannot create its socket, and ends; and no other dbctl deletes the folder
#: before the connection has ended. PATH may be that of a service, which does not name the folder of rm.
_CLEANER = """trap '' INT TERM HUP
PATH=$PATH:/usr/bin:/bin
read -r _
mv -- "$1" "$2"
folder=$2; shift 2
[ $# = 0 ] || "$@" > /dev/null 2>&1
rm -rf -- "$folder" """


class Route:
    """One route, from this process to a machine or a container."""

    def __init__(self, via: str, target: str) -> None:
        """Open the route.

        Raises:
            RouteError: a part of it cannot be opened.
        """
        self._via = via
        self._relays: dict[tuple[str, int, str], Relay] = {}
        parts = via.split()
        hosts = [part.removeprefix("ssh:") for part in parts if part.startswith("ssh:")]
        with ExitStack() as stack:
            parent = _runtime_folder()
            self._folder = _choose_path(parent, PREFIX)
            self.machine = SshMachine(hosts, self._folder) if hosts else Machine()
            try:
                stack.enter_context(_open_folder(self._folder, PREFIX, self.machine))
            except OSError as error:
                raise self._create_error(target, parent, error) from error
            self.machine.open(target)
            self._stack = stack.pop_all()  # never closed: the route is open until the process ends
        self._container_part = "" if len(parts) == len(hosts) else parts[-1]
        self._target, self._copies = target, dict[str, ReadablePath]()

    @cached_property
    def end(self) -> Machine | Container:
        """The end of the route; raises as ``find_container``."""
        if self._container_part:
            return find_container(self.machine, self._container_part, self._target)
        return self.machine

    def copy_file(self, url: Url, target: str, *, timeout: float) -> ReadablePath:
        """Return a copy of a file at the end of the route; raises as ``snapshots.copy_file``."""
        if url.path not in self._copies:
            path = url.path
            if self._container_part:
                path = locate(self.machine, self._container_part, url, target)
            folder = _choose_path(Path(tempfile.gettempdir()), SNAPSHOT_PREFIX)
            facts = {"target": target, "part": self._via}
            with ExitStack() as stack:
                with report_file_errors(folder.parent):
                    stack.enter_context(_open_folder(folder, SNAPSHOT_PREFIX, Machine()))
                self._copies[url.path] = copy_file(self.machine, path, folder, facts, timeout=timeout)
                self._stack.enter_context(stack.pop_all())
        return self._copies[url.path]

    def open_socket(self, host: str, port: int, name: str, target: str) -> Path:
        """Return the socket that is relayed to an address at the end of the route.

        Raises:
            RouteError: the socket cannot be created, a lost connection not opened again, or the container is not running.
        """
        self.machine.open(target)
        key = host, port, name
        if key not in self._relays:
            argv = self.end.build_relay(host, port)
            folder = self._folder / f"{os.getpid()}-{len(self._relays)}"
            try:
                folder.mkdir(exist_ok=True)  # an earlier attempt may have failed
                self._relays[key] = Relay(folder / name, argv)
            except OSError as error:
                raise self._create_error(target, folder / name, error) from error
        return self._relays[key].path

    def inherit(self) -> None:
        """Leave the sockets to the parent process, whose threads serve them, and which alone has their programs as children."""
        self._inherited, self._relays = self._relays, {}

    def wrap_program(self, argv: Sequence[str]) -> Sequence[str] | None:
        """Return the program that runs ``argv`` in the container at the end; None: it has none."""
        return self.end.wrap(argv) if isinstance(self.end, Container) else None

    def _create_error(self, target: str, path: Path, error: OSError) -> RouteError:
        command = shlex.join(["ls", "-ld", str(_runtime_folder())])
        reason = f"{path}: {error.strerror or error}"
        return RouteError(target=target, part=self._via, reason=reason, command=command)

    def find_fault(self, host: str, port: int, target: str) -> UnreachableError | None:
        """Return why a connection to an address failed; None: no program of a connection failed."""
        relays = [relay for key, relay in list(self._relays.items()) if key[:2] == (host, port)]
        lines = next(filter(None, (relay.find_failure() for relay in relays)), [])
        if loss := self.machine.find_loss(target):
            return loss
        if not lines:
            # The program of a server that ends with its container may end before it, without an error.
            return self.end.find_loss() if relays and isinstance(self.end, Container) else None
        # A program that shares a connection does not learn why the host refused its request.
        lines = [*lines, *self.machine.read_report()]
        return self.end.explain_relay(target, self._via, lines, (host, port))


class OpenRoutes(Routes):
    """The routes by their texts."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._inherit)

    def _inherit(self) -> None:
        """Use the routes that the parent process opened, and ends: the workers of a fleet share one connection of ssh."""
        self._lock = threading.Lock()
        for route in self._routes.values():
            route.inherit()

    def open_socket(self, url: Url, target: str, name: str) -> Path:
        with self._lock:
            return self._open(url.via, target).open_socket(*_read_address(url), name, target)

    def wrap_program(self, url: Url, target: str, argv: Sequence[str]) -> Sequence[str] | None:
        with self._lock:
            return self._open(url.via, target).wrap_program(argv)

    def find_end(self, via: str, target: str) -> Machine | Container:
        """Return the end of a route.

        Raises:
            RouteError: a part of it cannot be opened.
        """
        with self._lock:
            return self._open(via, target).end

    def find_machine(self, via: str, target: str) -> Machine:
        """Return the last machine of a route, on which its container is; raises as ``find_end``."""
        with self._lock:
            return self._open(via, target).machine

    def is_open(self, via: str) -> bool:
        """Whether the connection to the last machine of a route was opened."""
        return via in self._routes

    def _open(self, via: str, target: str) -> Route:
        if via not in self._routes:
            self._routes[via] = Route(via, target)
        return self._routes[via]

    def copy_file(self, url: Url, target: str, *, timeout: float) -> ReadablePath:
        with self._lock:
            return self._open(url.via, target).copy_file(url, target, timeout=timeout)

    def find_path(self, url: Url, target: str) -> Path | None:
        if url.via.startswith("ssh:"):
            return None
        return Path(locate(Machine(), url.via, url, target))

    def find_fault(self, url: Url, target: str) -> UnreachableError | None:
        route = self._routes.get(url.via)
        return route.find_fault(*_read_address(url), target) if route else None


def _read_address(url: Url) -> tuple[str, int]:
    """Return host and port of a server, as the end of its route sees them."""
    return url.host.strip("[]") or LOOPBACK, url.port or DEFAULT_PORTS[url.engine]


ROUTES = OpenRoutes()


def _runtime_folder() -> Path:
    """Return the folder of the user for sockets, otherwise that for temporary files."""
    folders = (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp")  # noqa: S108 - a folder of mode 0700 in it
    return next(filter(_is_usable, map(Path, folders)), Path(tempfile.gettempdir()))


def _is_usable(folder: Path) -> bool:
    """Whether the user may create a folder in it that no other user can replace, and sockets there have short paths."""
    try:
        status = folder.stat()
    except OSError:
        return False
    is_safe = status.st_uid == os.geteuid() or bool(status.st_mode & stat.S_ISVTX)
    is_short = len(bytes(folder)) <= LONGEST_FOLDER
    return folder.is_absolute() and is_short and is_safe and os.access(folder, os.W_OK | os.X_OK)


def _choose_path(parent: Path, prefix: str) -> Path:
    return parent / f"{prefix}{secrets.token_urlsafe(6)}"


@contextmanager
def _open_folder(folder: Path, prefix: str, machine: Machine) -> Iterator[None]:
    """Create a private folder, and at the end of the process, also by SIGKILL, end the connection of a machine and delete the folder.

    Raises:
        OSError: it cannot be created.
    """
    # The name is that of no folder of another process that deletes abandoned ones.
    closed = folder.with_name(f".{folder.name}")
    words = ["/bin/sh", "-c", _CLEANER, "dbctl-route", str(folder), str(closed), *machine.close_words(closed)]
    # Before the folder exists, which a process that is killed in between would leave.
    cleaner = subprocess.Popen(  # noqa: S603 - a script of this module
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with cleaner, temp.folder(folder.parent, prefix, name=folder.name):
        try:
            yield
        finally:
            cleaner.communicate()  # the connection ends before the lock of the folder
