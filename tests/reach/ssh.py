"""Two SSH servers on this machine, ``bastion`` and ``inner``, with their own keys; nothing in ``/etc`` or ``~/.ssh`` is read or changed."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests import servers

MAX_SECONDS = 30
#: Programs of the client that read the configuration of the tests instead of that of the user.
CLIENTS = ("ssh", "scp", "sftp")
#: The folder that a server of root requires; the service of the distribution creates it at each boot.
PRIVILEGE_SEPARATION = Path("/run/sshd")

SERVER = """
Port {port}
ListenAddress 127.0.0.1
ListenAddress ::1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
PermitUserRC no
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
MaxStartups 100
Subsystem sftp internal-sftp
"""

CLIENT = """
Host bastion
    Port {bastion}
Host inner
    Port {inner}
    ProxyJump bastion
Host ::1
    HostName ::1
    Port {bastion}
Host *
    HostName 127.0.0.1
    User {user}
    IdentityFile {folder}/identity
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    UpdateHostKeys no
"""


class SshServer:
    """One server, which lets the user of the tests log in with the key of the tests."""

    def __init__(self, folder: Path, public_key: str, port: int) -> None:
        self.port, self._folder, self._public_key = port, folder, public_key
        folder.mkdir()
        self._variables: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        _create_key(folder / "host_key")
        self.accept_key()

    @property
    def host_key(self) -> str:
        """The line of ``known_hosts`` for this server."""
        return f"[127.0.0.1]:{self.port},[::1]:{self.port} {(self._folder / 'host_key.pub').read_text()}"

    @property
    def log(self) -> str:
        """What the server has logged: connections, accepted and refused keys, forwarded ports."""
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> None:
        program = _server_program()
        if os.geteuid() == 0:
            PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        settings = SERVER.format(port=self.port, folder=self._folder)
        # a shell reads the files of the user in HOME, which may change PATH and print text
        variables = {"HOME": self._folder} | self._variables
        words = [f'"{name}={value}"' for name, value in variables.items()]
        settings += f"SetEnv {' '.join(words)}\n"
        (self._folder / "sshd_config").write_text(settings)
        command = [program, "-D", "-f", self._folder / "sshd_config", "-E", self._folder / "log"]
        command += ["-o", "LogLevel=VERBOSE"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + MAX_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server and its connections; a later connection is refused."""
        if self._process is not None:
            # no new connection while the existing ones end
            self._process.send_signal(signal.SIGSTOP)
            self.kill_connections()
            self._process.kill()
            self._process.wait(timeout=MAX_SECONDS)
            self._process = None

    def kill_connections(self) -> None:
        """End every connection with its commands, as a crash would; new connections are accepted."""
        for pid in self.list_descendants():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def list_descendants(self) -> list[int]:
        """Return the processes of the connections, and those of their commands."""
        assert self._process is not None
        return _list_descendants(self._process.pid)

    def change_host_key(self) -> None:
        """Restart with another host key, as another machine at the same address has."""
        self.stop()
        _create_key(self._folder / "host_key")
        self.start()

    def refuse_key(self) -> None:
        """Refuse the key of the tests in new connections; ``accept_key`` allows it again."""
        (self._folder / "authorized_keys").write_text("")

    def accept_key(self, options: str = "") -> None:
        """Accept the key of the tests, with options such as ``command="…"`` or ``no-port-forwarding``."""
        (self._folder / "authorized_keys").write_text(f"{options} {self._public_key}".lstrip())

    def set_environment(self, variables: Mapping[str, str]) -> None:
        """Restart with these environment variables for commands, which have only those of the login otherwise.

        A value may not contain ``"``. ``HOME`` is a folder of the server, unless it is given here.
        """
        self._variables = dict(variables)
        self.stop()
        self.start()

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


class SshHosts:
    """Both servers, and the files of a client that reaches them as ``bastion`` and ``inner``.

    ``inner`` is reached through ``bastion`` (``ProxyJump``). The programs in ``programs`` read ``config``: an environment variable
    cannot name the configuration of ``ssh``. Everything is below ``folder``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.config, self.known_hosts = folder, folder / "config", folder / "known_hosts"
        self.identity, self.programs = folder / "identity", folder / "programs"
        self.user = getpass.getuser()
        public_key = _create_key(self.identity)
        self.bastion = SshServer(folder / "bastion", public_key, servers.free_port())
        self.inner = SshServer(folder / "inner", public_key, servers.free_port())
        self.config.write_text(
            CLIENT.format(
                folder=folder, user=self.user, bastion=self.bastion.port, inner=self.inner.port
            ).lstrip()
        )
        self.learn_host_keys()
        self.programs.mkdir()
        for name in CLIENTS:
            program = shutil.which(name) or servers.skip_or_fail(f"no {name} (Debian package openssh-client)")
            wrapper = self.programs / name
            wrapper.write_text(f'#!/bin/sh\nexec {program} -F {shlex.quote(str(self.config))} "$@"\n')
            wrapper.chmod(0o755)

    @property
    def path(self) -> str:
        """A ``PATH`` on which the programs of the client read the configuration of the tests."""
        return f"{self.programs}{os.pathsep}{os.environ['PATH']}"

    def learn_host_keys(self) -> None:
        """Write the current host keys of both servers to ``known_hosts``."""
        self.known_hosts.write_text(self.bastion.host_key + self.inner.host_key)

    def forget_host_keys(self) -> None:
        """Remove every host key from ``known_hosts``."""
        self.known_hosts.write_text("")


@contextmanager
def start_ssh() -> Iterator[SshHosts]:
    """Yield running servers; without the programs of OpenSSH, skip the test, or fail in CI."""
    if sys.platform != "linux":
        pytest.skip("not Linux: connections of SSH servers cannot be listed")
    _server_program()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="dbctl-ssh-", dir=servers.data_folder()))
        stack.callback(shutil.rmtree, folder)
        hosts = SshHosts(folder)
        for server in (hosts.bastion, hosts.inner):
            stack.callback(server.stop)
            server.start()
        yield hosts


@pytest.fixture
def ssh_hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[SshHosts]:
    """The SSH servers ``bastion`` and ``inner``, which the ``ssh`` on the ``PATH`` of the test reaches."""
    with start_ssh() as hosts:
        monkeypatch.setenv("PATH", hosts.path)
        yield hosts


def _server_program() -> str:
    return shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or servers.skip_or_fail(
        "no sshd (Debian package openssh-server)"
    )


def _create_key(file: Path) -> str:
    """Create a key without a passphrase, also in place of an earlier one, and return the public one."""
    file.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", file]
    subprocess.run(command, check=True, capture_output=True)
    return file.with_suffix(".pub").read_text()


def _list_descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    children = dict[int, list[int]]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended
            text = stat.read_text(errors="replace")
            parent = int(text.rpartition(")")[2].split()[1])  # the name before ) may contain spaces
            children.setdefault(parent, []).append(int(stat.parent.name))
    descendants, unseen = list[int](), [pid]
    while unseen:
        started = children.get(unseen.pop(), [])
        descendants += started
        unseen += started
    return descendants
