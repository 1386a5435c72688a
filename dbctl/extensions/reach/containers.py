"""The container at the end of a route."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from dbctl.errors.connection import UnreachableError
from dbctl.extensions.reach.errors import (
    ClusterAccessError,
    ContainerAccessError,
    ContainerAmbiguousError,
    ContainerDeniedError,
    ContainerMissingError,
    ContainerShellError,
    ContainerStoppedError,
    RoutedServerRefusedError,
    RouteError,
    RouteProgramMissingError,
)
from dbctl.extensions.reach.machines import Machine, join_address
from dbctl.files import limited_program
from dbctl.files.ssh import choose_reason
from dbctl.model import Struct

#: The labels by which Compose marks the containers of a service.
PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
#: The label whose value is ``True`` for a container of ``docker compose run``, which is none of the service.
ONE_OFF = "com.docker.compose.oneoff"
#: Connects standard input and output to HOST and PORT with what the container has; the end of either direction ends both, so that no
#: session of the server outlives its client. The server is often process 1 of the container, which inherits orphans, and PostgreSQL takes
#: one that a signal ended for a crashed session, and restarts: so bash waits for its children, and no SIGPIPE ends them. A program that
#: ends at once loses its message in the client of Docker.
_RELAY = """host=$1; case $host in *:*) host="[$host]";; esac
if command -v socat > /dev/null; then exec socat - "TCP:$host:$2"
elif command -v bash > /dev/null; then
  exec bash -c 'trap "" PIPE; exec 3<>"/dev/tcp/$1/$2" 4<&0 || { sleep 0.2; exit 1; }
cat <&4 >&3 & cat <&3 & wait -n; kill $(jobs -p) 2> /dev/null; wait; exit 0' relay "$1" "$2"
else exec nc "$1" "$2"
fi"""
#: Prints the path of the program that ``_RELAY`` uses.
_PROBE = "command -v socat || command -v bash || command -v nc"
#: What the clients report, in lower case.
_DENIED = r"permission denied while trying to connect|dial unix \S+ connect: permission denied"
_UNREACHABLE_DAEMON = r"cannot connect to the docker daemon|unable to connect to podman"
_MISSING = r"no such|not found|notfound"
_UNREACHABLE_CLUSTER = (
    r"forbidden|unauthorized|you must be logged in|unable to connect to the server|connection to the server"
)


class Container(Struct, frozen=True):
    """A running container, found once by its name, so that another one of the same name does not replace it during a command."""

    machine: Machine
    part: str  #: of the route, for messages
    command: Sequence[str]  #: the program that runs another one in it, with input
    address: str = ""  #: at which its machine may reach it; empty: unknown
    relay: str = ""  #: the program in it that ``_RELAY`` uses; empty: it has none
    #: raises the error of a container that does not run any more
    require_running: Callable[[], object] = lambda: None

    def wrap(self, argv: Sequence[str]) -> Sequence[str]:
        """Return the program of this machine that runs ``argv`` in the container, with the same input and output."""
        return self.machine.wrap([*self.command, *argv])

    def build_relay(self, host: str, port: int) -> Sequence[str]:
        """Return the program whose input and output are a connection to an address that the container reaches."""
        if self.relay:
            return self.wrap(["sh", "-c", _RELAY, "relay", host, str(port)])
        return self.machine.build_relay(self.address, port)

    def find_loss(self) -> RouteError | None:
        """Return why the container does not run any more."""
        try:
            self.require_running()
        except RouteError as error:
            return error
        return None

    def explain_relay(
        self, target: str, part: str, lines: Sequence[str], address: tuple[str, int]
    ) -> RouteError:
        """Return the error of a connection to an address, whose program ended with ``lines``; see ``Machine.explain_relay``."""
        if loss := self.find_loss():
            return loss
        if not self.relay:
            return self.machine.explain_relay(target, part, lines, (self.address, address[1]))
        if failure := self.machine.explain(target, lines):
            return failure
        reason, command = choose_reason(lines), self.machine.describe([*self.command, "true"])
        if "refused" in reason.lower():
            host, port = address
            script = f"nc -z {host} {port} || bash -c '< /dev/tcp/{host}/{port}'"
            command = self.machine.describe([*self.command, "sh", "-c", script])
            reason = f"{join_address(*address)}, seen from {self.part}: Connection refused"
            return RoutedServerRefusedError(
                target=target, part=part, reason=reason, command=command, place=self.part
            )
        return RouteError(target=target, part=part, reason=reason, command=command)


def find_container(machine: Machine, part: str, target: str) -> Container:
    """Return the container of a part of a route.

    Raises:
        RouteError: none is running, several match, or its program is missing or may not be used.
    """
    kind, _, name = part.partition(":")
    finder = _Kubernetes if kind == "kubernetes" else Docker
    return finder(machine, part, target, kind).find(name)


class _Finder:
    """Finds containers with a program."""

    def __init__(self, machine: Machine, part: str, target: str, kind: str) -> None:
        self._machine, self._part, self._target = machine, part, target
        self._facts = {"target": target, "part": part}
        self._program = {"compose": "docker", "kubernetes": "kubectl"}.get(kind, kind)
        has_other = not shutil.which("docker") and shutil.which("podman")
        if kind == "compose" and type(machine) is Machine and has_other:
            self._program = "podman"  # it marks the containers of its Compose alike

    def _run(self, *words: str) -> bytes:
        try:
            return self._machine.run([self._program, *words])
        except limited_program.ProgramFailedError as error:
            raise self._create_error(error, [self._program, *words]) from error

    def _create_error(
        self, error: limited_program.ProgramFailedError, words: Sequence[str]
    ) -> UnreachableError:
        if failure := self._machine.explain(self._target, error.error_lines):
            return failure
        reason = choose_reason(error.error_lines or [str(error)])
        command = self._machine.describe(words)
        text = "\n".join(error.error_lines).lower()
        if error.cause == "missing" or ("command not found" in text and self._program in text):
            missing = f"{self._program} is not installed on {self._machine.place}"
            return RouteProgramMissingError(
                **self._facts, reason=missing, program=self._program, place=self._machine.place
            )
        facts = self._facts | {"program": self._program, "place": self._machine.place}
        return self._classify(text, facts | {"reason": reason, "command": command})

    def _classify(self, text: str, facts: dict[str, str]) -> RouteError:
        is_cluster = self._program == "kubectl"
        if not is_cluster and re.search(_DENIED, text):
            return ContainerDeniedError(**facts)
        if not is_cluster and re.search(_UNREACHABLE_DAEMON, text):
            return ContainerAccessError(**facts)
        if re.search(_MISSING, text):
            listing = ["get", "pods", "--all-namespaces"] if is_cluster else ["ps"]
            return ContainerMissingError(
                **facts | {"command": self._machine.describe([self._program, *listing])}
            )
        if is_cluster and re.search(_UNREACHABLE_CLUSTER, text):
            return ClusterAccessError(**facts)
        return RouteError(**facts)

    def _select(self, matches: Sequence[tuple[str, str]], what: str, command: Sequence[str]) -> str:
        """Return the only one of the containers that match, each with its text for ``via``."""
        if not matches:
            raise ContainerMissingError(
                **self._facts, reason=f"no running {what}", command=self._machine.describe(command)
            )
        if len(matches) > 1:
            names = ", ".join(text for _, text in matches)
            raise ContainerAmbiguousError(**self._facts, reason=f"{len(matches)} match", names=names)
        return matches[0][0]

    def _create(
        self, command: Sequence[str], address: str, require_running: Callable[[], object]
    ) -> Container:
        try:
            output = self._machine.run([*command, "sh", "-c", _PROBE])
            relay = output.decode(errors="replace").strip().rpartition("/")[2]
        except limited_program.ProgramFailedError as error:
            if failure := self._machine.explain(self._target, error.error_lines):
                raise failure from error
            require_running()  # one that has just ended does not lack a program
            relay = ""
        if not (relay or address):
            reason = "it has none of bash, socat and nc, and no address that its machine reaches"
            raise ContainerShellError(**self._facts, reason=reason)
        return Container(self._machine, self._part, command, address, relay, require_running)


class Docker(_Finder):
    """Docker, Podman and Compose."""

    def inspect(self, name: str, *, is_running: bool = True) -> Any:
        """Return the description of a container; of a service, perhaps of a stopped one, unless ``is_running``."""
        if self._part.startswith("compose:"):
            name = self._find_service(name, is_running=is_running)
        (container,) = msgspec.json.decode(self._run("container", "inspect", name))
        return container

    def describe_machine(self) -> str:
        """Return name and kernel of the machine with the containers, as ``uname -nr``."""
        fields = ".Host.Hostname .Host.Kernel" if self._program == "podman" else ".Name .KernelVersion"
        columns = " ".join(f"{{{{{field}}}}}" for field in fields.split())
        return self._run("info", "--format", columns).decode().strip()

    def read_volume_options(self, name: str) -> Any:
        """Return what is mounted where a volume is while a container uses it; empty: nothing."""
        (volume,) = msgspec.json.decode(self._run("volume", "inspect", name))
        return volume.get("Options")

    def exec_words(self, container: Any) -> Sequence[str]:
        """Return the program that runs another one in a container, with input."""
        return [self._program, "exec", "-i", container["Id"]]

    def find(self, name: str) -> Container:
        container = self.inspect(name)
        self._require_running(container)
        networks = (container["NetworkSettings"].get("Networks") or {}).values()
        addresses = [network["IPAddress"] for network in networks if network.get("IPAddress")]

        def require_running() -> None:
            (now,) = msgspec.json.decode(self._run("container", "inspect", container["Id"]))
            self._require_running(now)

        return self._create(self.exec_words(container), next(iter(addresses), ""), require_running)

    def _require_running(self, container: Any) -> None:
        state = container["State"]
        if not state["Running"] or state.get("Paused"):
            reason = f"the container is {state.get('Status') or 'stopped'}"
            raise ContainerStoppedError(**self._facts, reason=reason, command=self.describe_start(container))

    def describe_start(self, container: Any) -> str:
        """Return the command line by which a person lets a container run."""
        action = "unpause" if container["State"].get("Paused") else "start"
        return self._machine.describe([self._program, action, container["Name"].removeprefix("/")])

    def _find_service(self, name: str, *, is_running: bool) -> str:
        project, _, service = name.rpartition("/")
        filters = [f"label={SERVICE}={service}", *([f"label={PROJECT}={project}"] if project else [])]
        words = [word for text in filters for word in ("--filter", text)]
        label = "index .Labels" if self._program == "podman" else ".Label"
        columns = f'{{{{.ID}}}} {{{{.Names}}}} {{{{{label} "{ONE_OFF}"}}}} {{{{{label} "{PROJECT}"}}}}'
        words += ["--no-trunc", "--format", columns]
        rows = self._list_containers(words)
        if not (rows or is_running):
            rows = self._list_containers(["--all", *words])
        owners = [owner for _, _, owner in rows]
        containers = [
            (
                identifier,
                f"compose:{owner}/{service}" if owners.count(owner) == 1 else f"{self._program}:{names}",
            )
            for identifier, names, owner in rows
        ]
        return self._select(containers, f"container of the service {service}", [self._program, "ps"])

    def _list_containers(self, words: Sequence[str]) -> list[tuple[str, str, str]]:
        """Return id, names and project of the containers of a service that ``ps`` with these words lists."""
        rows = (line.split(" ", 3) for line in self._run("ps", *words).decode().splitlines())
        return [
            (identifier, names, owner)
            for identifier, names, is_one_off, owner in rows
            if is_one_off != "True"
        ]


class _Kubernetes(_Finder):
    """A pod, by its name or by a selector such as ``app=db``."""

    def find(self, name: str) -> Container:
        namespace, pod, *containers = name.split("/")
        selection = ["--selector", pod] if "=" in pod else ["--field-selector", f"metadata.name={pod}"]
        output = self._run("get", "pods", "--namespace", namespace, *selection, "--output", "json")
        pods = [item for item in msgspec.json.decode(output)["items"] if _is_running(item)]
        matches = [
            (item["metadata"]["name"], f"kubernetes:{namespace}/{item['metadata']['name']}") for item in pods
        ]
        list_words = ["kubectl", "get", "pods", "--namespace", namespace]
        selected = self._select(matches, f"pod {pod}", list_words)
        container = ["--container", containers[0]] if containers else []
        command = ["kubectl", "exec", "-i", "--namespace", namespace, selected, *container, "--"]
        (address,) = (item["status"].get("podIP", "") for item in pods)
        # Another pod of a StatefulSet has the same name.
        identifier = next(item["metadata"].get("uid") for item in pods)

        def require_running() -> None:
            output = self._run("get", "pods", "--namespace", namespace, *selection, "--output", "json")
            items = [item for item in msgspec.json.decode(output)["items"] if _is_running(item)]
            same = [item for item in items if item["metadata"].get("uid") == identifier]
            self._select([(selected, selected) for _ in same], f"pod {selected}", list_words)

        return self._create(command, address, require_running)


def _is_running(pod: Any) -> bool:
    return bool(pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp"))
