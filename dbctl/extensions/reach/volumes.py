"""A path in a container as one of its machine: in a volume that both have, with the locks of the same kernel."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from dbctl.extensions.reach.containers import Docker
from dbctl.extensions.reach.errors import (
    ContainerStoppedError,
    FileMountError,
    PodFileError,
    RouteError,
    VolumeDeniedError,
    VolumeForeignError,
    VolumeMissingError,
)
from dbctl.extensions.reach.machines import Machine
from dbctl.files.limited_program import ProgramFailedError
from dbctl.url import Url, find_engine

#: Prints the kernel, the device and inode of the folder, and the path without links.
_IDENTIFY = """path=$(readlink -f -- "$1") || { stat -L -- "$1" > /dev/null; exit 1; }
folder=$path; [ -d "$path" ] || folder=$(dirname -- "$path")
cat /proc/sys/kernel/random/boot_id && stat -L -c '%d %i' -- "$folder" && printf '%s' "$path" """


class _Location(NamedTuple):
    """A path as a machine or a container sees it."""

    kernel: str
    folder: str  #: device and inode; of the path itself, if it is a folder
    path: str


def locate(machine: Machine, part: str, url: Url, target: str) -> str:
    """Return the path on ``machine`` of the path of ``url`` in a container, which may be stopped; the file may be missing.

    Raises:
        RouteError: the path is in no volume, or the volume is not on the machine.
    """
    return _Finder(machine, part, url, target).find()


class _Finder:
    def __init__(self, machine: Machine, part: str, url: Url, target: str) -> None:
        self._machine, self._url = machine, url
        self._facts = {"target": target, "part": part}
        kind, _, self._name = part.partition(":")
        if kind == "kubernetes":
            raise PodFileError(**self._facts, reason="dbctl reaches no files in pods")
        if not url.path.startswith("/"):
            raise VolumeMissingError(**self._facts, reason=f"{url.path} is not an absolute path")
        entry = find_engine(url.engine)
        self._is_file = entry is not None and entry.kind == "file"
        self._docker = Docker(machine, part, target, kind)

    def find(self) -> str:
        container = self._docker.inspect(self._name, is_running=False)
        inside: _Location | None = None
        if container["State"]["Running"]:
            # It fails in a container without these programs.
            with suppress(ProgramFailedError):
                inside = self._identify(self._url.path, self._docker.exec_words(container))
        path = inside.path if inside else posixpath.normpath(self._url.path)
        mount = self._select_mount(container["Mounts"], path)
        source = str(mount["Source"])
        place = posixpath.normpath(posixpath.join(source, posixpath.relpath(path, mount["Destination"])))
        if not inside:
            self._compare_machines(mount, container)
        outside = self._identify_here(place)
        if inside and inside[:2] != outside[:2]:
            raise self._create_foreign_error(f"{place} is another folder there")
        if not PurePosixPath(outside.path).is_relative_to(self._identify_here(source).path):
            raise VolumeMissingError(
                **self._facts, reason=f"{path} is a link to a path outside of its volume"
            )
        return outside.path

    def _identify(self, path: str, words: Sequence[str] = ()) -> _Location:
        """Return a path as the machine sees it, or the container in which ``words`` run a program.

        Raises:
            ProgramFailedError: its folder is missing or may not be read, or the programs are missing.
        """
        output = self._machine.run([*words, "sh", "-c", _IDENTIFY, "identify", path])
        return _Location(*output.decode(errors="surrogateescape").split("\n", 2))

    def _identify_here(self, path: str) -> _Location:
        try:
            return self._identify(path)
        except ProgramFailedError as error:
            if failure := self._machine.explain(self._facts["target"], error.error_lines):
                raise failure from error
            lines = error.error_lines or [str(error)]
            if "permission denied" in lines[-1].lower():
                raise VolumeDeniedError(**self._facts, reason=lines[-1], place=self._machine.place) from error
            raise self._create_foreign_error(lines[-1]) from error

    def _select_mount(self, mounts: Sequence[Mapping[str, Any]], path: str) -> Mapping[str, Any]:
        """Return the mount with a path, whose files all are in it."""
        folders = {posixpath.normpath(mount["Destination"]): mount for mount in mounts}
        inner = [folder for folder in folders if PurePosixPath(folder).is_relative_to(path)]
        if inner and (inner != [path] or self._is_file):
            raise FileMountError(**self._facts, reason=f"{inner[0]} is a mount of its own", path=path)
        outer = max(
            (folder for folder in folders if PurePosixPath(path).is_relative_to(folder)), key=len, default=""
        )
        mount = folders.get(outer, {"Type": ""})
        if mount["Type"] not in {"bind", "volume"} or mount.get("Driver") not in {None, "", "local"}:
            place = f"a mount of type {mount.get('Driver') or mount['Type']}" if outer else "no volume"
            raise VolumeMissingError(
                **self._facts, reason=f"{path} is in {place}, so it has no path on {self._machine.place}"
            )
        return mount

    def _compare_machines(self, mount: Mapping[str, Any], container: Any) -> None:
        """Check by their names that the containers are on the machine, without a program in the container."""
        is_running = container["State"]["Running"]
        if not is_running and mount["Type"] == "volume" and self._docker.read_volume_options(mount["Name"]):
            raise ContainerStoppedError(
                **self._facts,
                reason=f"{mount['Name']} is mounted only while it runs",
                command=self._docker.describe_start(container),
            )
        place = self._docker.describe_machine()
        if place != self._machine.run(["uname", "-nr"]).decode().strip():
            raise self._create_foreign_error(f"the containers are on {place.partition(' ')[0]}")

    def _create_foreign_error(self, reason: str) -> RouteError:
        return VolumeForeignError(**self._facts, reason=reason, place=self._machine.place)
