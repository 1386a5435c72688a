"""Containers of PostgreSQL, MariaDB and an app with SQLite, run by podman for all workers of a run.

``python -m tests.reach.containers FOLDER`` runs podman's service, which Docker's client uses, until SIGTERM, and then removes the
containers. All files of podman are in FOLDER, which environment variables name: the containers of the user are not changed. Of a
network, the empty chains of podman's firewall rules remain.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.reach import images, kubectl
from tests.reach.images import Image

MAX_SECONDS = 60
#: Programs of the Debian packages podman, runc, conmon, netavark and iptables.
PROGRAMS = ("podman", "runc", "conmon", "iptables")
#: Processes of a user in a container. Podman's own limits need a privilege that a virtual machine may lack.
MAX_PROCESSES = 4096

#: Locks in files: those in memory would be the ones of the user's podman. For a shorter time than five minutes, podman keeps the exit
#: code of a command of Docker's client, with a process.
SETTINGS = """
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
exit_command_delay = 60
tmp_dir = "{folder}/tmp"
image_copy_tmp_dir = "{folder}/tmp"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
STORAGE = """
[storage]
driver = "vfs"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
#: The network of containers with ``bridge``.
NETWORK = "dbctl"
_number = count()


@dataclass
class Container:
    """A container of a service of Compose."""

    podman: Podman
    name: str
    image: str
    options: Sequence[str]  #: of ``podman run``
    variables: Mapping[str, str]  #: in the container
    ready: str  #: what its log contains once for each start, when it accepts connections; empty: nothing

    @property
    def id(self) -> str:
        return str(self.inspect()["Id"])

    @property
    def address(self) -> str:
        """The IP address, which this machine reaches; empty without a network."""
        networks: dict[str, Any] = self.inspect()["NetworkSettings"].get("Networks", {})
        return next((str(network["IPAddress"]) for network in networks.values()), "")

    @property
    def log(self) -> str:
        result = self.podman.run("logs", self.name)
        return result.stdout + result.stderr

    def inspect(self) -> Any:
        (description,) = json.loads(self.podman.run("container", "inspect", self.name).stdout)
        return description

    def execute(self, *words: str, user: str = "root", text: str = "") -> str:
        """Run a command in the container with ``text`` as its input, and return its output."""
        return self.podman.run("exec", "-i", "--user", user, self.name, *words, text=text).stdout

    def create(self) -> None:
        """Create and start it."""
        variables = [word for pair in self.variables.items() for word in ("--env", "=".join(pair))]
        words = ["--name", self.name, *variables, *self.options, self.image]
        self.podman.run("run", "--detach", "--pull=never", *words)
        self._wait(0)

    def stop(self) -> None:
        """Stop it as ``docker stop`` does; the server ends its connections and writes its files."""
        self.podman.run("stop", "--time", "10", self.name)

    def start(self) -> None:
        """Start it again, with its files and its id."""
        starts = self._count_starts()
        self.podman.run("start", self.name)
        self._wait(starts)

    def kill(self) -> None:
        """End its processes at once; it still exists."""
        self.podman.run("kill", self.name)
        self.podman.run("wait", self.name)

    def pause(self) -> None:
        """Freeze its processes: connections stay open without an answer, and commands in it are refused."""
        self.podman.run("pause", self.name)

    def unpause(self) -> None:
        self.podman.run("unpause", self.name)

    def remove(self) -> None:
        """Remove it, also while it runs, without its named volume."""
        self.podman.run("rm", "--force", "--time", "0", "--ignore", self.name)

    def recreate(self) -> None:
        """Replace it by a new container with the same name and volume, and another id."""
        self.remove()
        self.create()

    def _count_starts(self) -> int:
        return self.log.count(self.ready) if self.ready else 0

    def _wait(self, starts: int) -> None:
        """Wait until it accepts connections after a number of earlier starts."""
        deadline = time.monotonic() + MAX_SECONDS
        while self.ready and self._count_starts() == starts:
            assert self.inspect()["State"]["Running"], self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)


class Podman:
    """Podman with all of its files below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._created = list[Container]()

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which ``podman`` and ``docker`` use these containers."""
        return {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "DOCKER_HOST": f"unix://{self.folder / 'socket'}",
            "DOCKER_CONFIG": str(self.folder / "docker"),
        }

    def run(
        self, *words: str | Path, text: str = "", status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run podman with ``text`` as its input; assert its exit code ``status``, or none if it is None."""
        result = subprocess.run(
            ["podman", *words],
            check=False,
            capture_output=True,
            text=True,
            input=text,
            timeout=MAX_SECONDS * 2,
            env=os.environ | self.environment,
        )
        assert status in {None, result.returncode}, result.stderr
        return result

    def postgresql(self, variant: str = "", **options: Any) -> Container:
        """Start a container of PostgreSQL from the image with this ``variant`` (see ``images``), with ``options`` of ``start``."""
        image = images.postgresql(variant)
        variables = {"POSTGRES_USER": "shop", "POSTGRES_PASSWORD": "p@ss'w%rd", "POSTGRES_DB": "shopdb"}
        options |= {
            "ready": "ready to accept connections",
            "variables": variables,
            "volume": image.volumes[0],
        }
        if not image.start:  # another image creates the data
            options.setdefault("project", _create_project())
            creator = self.start(images.postgresql(), **options)
            creator.stop()
            creator.remove()
            self._created.remove(creator)
        return self.start(image, **options)

    def mariadb(self, variant: str = "", **options: Any) -> Container:
        """Start a container of MariaDB from the image with this ``variant`` (see ``images``), with ``options`` of ``start``."""
        image = images.mariadb(variant)
        variables = {
            "MARIADB_USER": "shop",
            "MARIADB_PASSWORD": "p@ssw%rd",
            "MARIADB_DATABASE": "shopdb",
            "MARIADB_ROOT_PASSWORD": "r00t",
        }
        options |= {"ready": "ready for connections", "variables": variables, "volume": image.volumes[0]}
        return self.start(image, **options)

    def app(self, folder: Path | None = None, **options: Any) -> Container:
        """Start a container of an app whose ``/data`` is ``folder`` of this machine or a volume, with ``options`` of ``start``."""
        return self.start(images.app(), volume="/data", folder=folder, **{"service": "app"} | options)

    def start(
        self,
        image: Image,
        *,
        volume: str,
        ready: str = "",
        variables: Mapping[str, str] | None = None,
        project: str = "",
        service: str = "db",
        bridge: bool = False,
        folder: Path | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Container:
        """Start a container of the service of a Compose project, which has a unique name unless it is given.

        Without ``bridge``, it has no network but its own loopback. The path ``volume`` in it is a named volume, or ``folder`` of this
        machine. It publishes no ports.
        """
        project = project or _create_project()
        name = f"{project}-{service}-1"
        labels = {
            "com.docker.compose.project": project,
            "com.docker.compose.service": service,
            "com.docker.compose.container-number": "1",
            "com.docker.compose.oneoff": "False",
            **(labels or {}),
        }
        options = [word for pair in labels.items() for word in ("--label", "=".join(pair))]
        options += [
            "--network",
            NETWORK if bridge else "none",
            "--volume",
            f"{folder or f'{name}-data'}:{volume}",
        ]
        self._build(image)
        container = Container(self, name, image.name, options, variables or {}, ready)
        self._created.append(container)
        container.create()
        return container

    def share(self, name: str, create: Callable[[], Container]) -> Container:
        """Return the container of this run with a name; the first worker that calls this creates it, and it ends with the run."""
        with self.lock(name) as done:
            if not done.exists():
                new = create()
                self._created.remove(new)
                done.write_text(json.dumps([new.name, new.image, new.options, new.variables, new.ready]))
            return Container(self, *json.loads(done.read_text()))

    def remove_created(self) -> None:
        """Remove the containers that this object created, with their named volumes."""
        for container in self._created:
            container.remove()
            self.run("volume", "rm", "--force", f"{container.name}-data", status=None)

    def _build(self, image: Image) -> None:
        """Create an image unless a worker of this run has done it."""
        with self.lock(image.name) as done:
            if not done.exists():
                image.build(self.run)
                done.touch()

    @contextmanager
    def lock(self, name: str) -> Iterator[Path]:
        """Let one worker at a time do a work; yield the file that states that it is done."""
        done = self.folder / f"{name.replace('/', '_')}.done"
        with done.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield done


def run(folder: Path) -> None:
    """Run podman's service until SIGTERM or its end, and then remove the containers."""
    podman = Podman(folder)

    def end(*_arguments: object) -> None:
        sys.exit()

    signal.signal(signal.SIGTERM, end)
    # addresses for measurements of networks, which no host has (RFC 2544); two runs at the same time have different ones
    subnet = f"198.{18 + os.getpid() // 256 % 2}.{os.getpid() % 256}.0/24"
    podman.run("network", "create", "--disable-dns", "--subnet", subnet, NETWORK)
    command = ["podman", "system", "service", "--time=0", f"unix://{folder / 'socket'}"]
    service = subprocess.Popen(command, env=os.environ | podman.environment)
    try:
        service.wait()
    finally:
        service.terminate()
        service.wait()
        podman.run("rm", "--all", "--force", "--time", "0")
        _end_monitors(folder)


def _end_monitors(folder: Path) -> None:
    """End the processes that wait to clean up after a command of Docker's client; they would create ``folder`` again."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # ended
            program, *words = file.read_bytes().split(b"\0")
            if program.endswith(b"conmon") and any(word.startswith(bytes(folder)) for word in words):
                os.kill(int(file.parent.name), signal.SIGKILL)


def start_podman() -> Podman:
    """Return podman, started by the first worker of this run; if it cannot run containers, skip the test, or fail in CI."""
    if os.geteuid():
        pytest.skip("not root: no containers")
    for program in PROGRAMS:
        if not shutil.which(program):
            servers.skip_or_fail(f"no {program} for containers")
    url = servers.share("podman", _start_service)
    return Podman(Path(url))


@pytest.fixture
def podman(monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    """Podman, which ``podman`` and ``docker`` of the test also use; containers that the test creates end with it."""
    podman = start_podman()
    for name, value in podman.environment.items():
        monkeypatch.setenv(name, value)
    yield podman
    podman.remove_created()


@pytest.fixture
def shared_podman(podman: Podman) -> Iterator[Podman]:
    """Podman, whose shared containers no test of another worker uses until this one ends: tests restore their databases, and list all tables."""
    with podman.lock("shared"):
        yield podman


@pytest.fixture
def postgresql_container(shared_podman: Podman) -> Container:
    """A container of PostgreSQL without a network, the service ``db`` of the project ``shop``, which all tests share: see ``Podman``."""
    return shared_podman.share("postgresql", lambda: shared_podman.postgresql(project="shop"))


@pytest.fixture
def mariadb_container(shared_podman: Podman) -> Container:
    """A container of MariaDB without a network, the service ``mysql`` of the project ``shop``, which all tests share: see ``Podman``."""
    return shared_podman.share("mariadb", lambda: shared_podman.mariadb(project="shop", service="mysql"))


class Kubernetes:
    """The pods that the ``kubectl`` in ``folder`` sees: containers with ``labels``."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        folder.mkdir()
        variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
        words = shlex.join([sys.executable, "-I", str(Path(__file__).with_name("kubectl.py")), str(folder)])
        program = folder / "kubectl"
        program.write_text(f'#!/bin/sh\n{variables}exec {words} "$@"\n')
        program.chmod(0o755)

    @property
    def path(self) -> str:
        """A ``PATH`` whose ``kubectl`` sees the pods."""
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    @staticmethod
    def labels(
        pod: str, *, namespace: str = "default", container: str = "main", **labels: str
    ) -> Mapping[str, str]:
        """Return the labels of a container of a pod with ``labels``, for ``Podman.start``."""
        return {kubectl.NAMESPACE: namespace, kubectl.POD: pod, kubectl.CONTAINER: container, **labels}

    def refuse(self, message: str) -> None:
        """Let the server answer everything with an error, as without a permission; an empty one ends this."""
        (self.folder / "error").write_text(message)
        if not message:
            (self.folder / "error").unlink()


@pytest.fixture
def kubernetes(podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    """A substitute for a Kubernetes cluster (``kubectl.py``), which ``kubectl`` of the test sees."""
    cluster = Kubernetes(tmp_path / "kubectl", podman.environment)
    monkeypatch.setenv("PATH", cluster.path)
    return cluster


def _start_service() -> servers.Running:
    folder = Path(tempfile.mkdtemp(prefix="dbctl-podman-", dir=servers.data_folder()))
    for name in ("docker", "networks", "tmp"):
        (folder / name).mkdir()
    (folder / "docker/config.json").write_text("{}")
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    (folder / "containers.conf").write_text(
        SETTINGS.format(folder=folder, files=files, processes=MAX_PROCESSES)
    )
    (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.reach.containers", folder],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = servers.Running(str(folder), process, folder, signal.SIGTERM)
    deadline = time.monotonic() + MAX_SECONDS
    while not _is_ready(folder / "socket"):
        if process.poll() is not None or time.monotonic() > deadline:
            reason = (folder / "log").read_text(errors="replace")
            server.stop()
            servers.skip_or_fail(f"podman does not start: {reason}")
        time.sleep(0.02)
    podman = Podman(folder)
    podman._build(images.app())
    result = podman.run("run", "--rm", "--network=none", images.app().name, "true", status=None)
    if result.returncode:
        server.stop()
        servers.skip_or_fail(f"containers cannot run here: {result.stderr}")
    return server


def _is_ready(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def _create_project() -> str:
    return f"t{os.getpid()}x{next(_number)}"


if __name__ == "__main__":
    run(Path(sys.argv[1]))
