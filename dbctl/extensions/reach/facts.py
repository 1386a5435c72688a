"""What the container at the end of a route is, and the others next to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dbctl.errors.usage import UsageError
from dbctl.extensions.reach.containers import PROJECT, SERVICE, Container
from dbctl.extensions.reach.errors import RouteError
from dbctl.extensions.reach.routes import ROUTES
from dbctl.files import limited_program
from dbctl.files.ssh import choose_reason
from dbctl.services.setup.containers import ContainerFacts
from dbctl.url import encode_route

#: What cannot be opened, in messages.
TARGET = "the database"


def describe_containers(via: str, *, with_neighbors: bool = False) -> Sequence[ContainerFacts]:
    """Return the container at the end of a route, and with ``with_neighbors`` then the other running ones of its program.

    Raises:
        UsageError: the route ends at a machine.
        UnreachableError: the route cannot be opened, or its program cannot describe the containers.
    """
    end = ROUTES.find_end(via, TARGET)
    if not isinstance(end, Container):
        hint = f"Pass the address of a database that it reaches, such as postgresql://USER@HOST/NAME?via={encode_route(via)}"
        raise UsageError(detail=f"{via} ends at a machine, and not in a container", hint=hint)
    program = end.command[0]
    if program == "kubectl":
        return [_describe_pod(end, via)]
    identifier = end.command[-1]
    others = _run(end, [program, "ps", "--quiet", "--no-trunc"]).decode().split() if with_neighbors else []
    identifiers = [identifier, *(other for other in others if other != identifier)]
    descriptions = msgspec.json.decode(_run(end, [program, "container", "inspect", *identifiers]))
    return [_describe(end, via, description) for description in descriptions]


def _run(end: Container, words: Sequence[str]) -> bytes:
    """Return the output of a program on the machine of a container."""
    try:
        return end.machine.run(words)
    except limited_program.ProgramFailedError as error:
        lines = error.error_lines or [str(error)]
        raise end.machine.explain(TARGET, lines) or RouteError(
            target=TARGET, part=end.part, reason=choose_reason(lines), command=end.machine.describe(words)
        ) from error


def _describe(end: Container, via: str, description: Mapping[str, Any]) -> ContainerFacts:
    """Return the facts of a container of Docker or Podman."""
    program, identifier = end.command[0], end.command[-1]
    config, name = description["Config"], description["Name"].removeprefix("/")
    labels = config.get("Labels") or {}
    project, service = labels.get(PROJECT, ""), labels.get(SERVICE, "")
    networks = description["NetworkSettings"].get("Networks") or {}
    aliases = {alias for network in networks.values() for alias in network.get("Aliases") or ()}
    ports = {*(config.get("ExposedPorts") or ()), *(description["NetworkSettings"].get("Ports") or ())}
    *machines, part = via.split()
    kind = part.partition(":")[0]
    if kind == "compose" and service:
        part = f"compose:{project}/{service}"
    elif description["Id"] != identifier:
        part = f"{program}:{name}"
    return ContainerFacts(
        via=" ".join([*machines, part]),
        name=name,
        image=config.get("Image") or "",
        environment=dict(text.partition("=")[::2] for text in config.get("Env") or ()),
        ports=_list_ports(ports),
        hostnames={name, *aliases, *filter(None, [service, config.get("Hostname")])},
        networks=networks,
        service=service,
        project=project,
        command=end.machine.write_command([program, "exec", name]),
    )


def _describe_pod(end: Container, via: str) -> ContainerFacts:
    """Return the facts of a container of Kubernetes; its variables may come from secrets, so they are read in it."""
    words = [word for word in end.command if word != "-i"]
    namespace, name = words[words.index("--namespace") + 1 :][:2]
    output = _run(end, ["kubectl", "get", "pod", name, "--namespace", namespace, "--output", "json"])
    pod = msgspec.json.decode(output)
    selected = words[words.index("--container") + 1] if "--container" in words else ""
    containers = pod["spec"]["containers"]
    container = next((item for item in containers if item["name"] == selected), containers[0])
    variables = _run(end, [*words, "env", "-0"]).decode(errors="replace").split("\0")
    return ContainerFacts(
        via=via,
        name=container["name"],
        image=container["image"],
        environment=dict(text.partition("=")[::2] for text in variables if text),
        ports=[port["containerPort"] for port in container.get("ports") or ()],
        hostnames=[],
        networks=[],
        command=end.machine.write_command(words),
    )


def _list_ports(texts: Iterable[str]) -> list[int]:
    """Return the numbers of ports such as ``5432/tcp``."""
    return [int(number) for number in (text.partition("/")[0] for text in texts) if number.isdigit()]
