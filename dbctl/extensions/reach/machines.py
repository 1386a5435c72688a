"""The machines of a route: this one, and those behind SSH."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbctl.extensions.reach.errors import (
    ForwardingDeniedError,
    HostKeyChangedError,
    HostKeyUnknownError,
    RoutedServerRefusedError,
    RouteError,
    RouteLostError,
    RouteProgramMissingError,
    SshDeniedError,
    SshHostUnknownError,
    SshUnreachableError,
)
from dbctl.files import limited_program
from dbctl.files.ssh import choose_reason, clean, list_options, split_address

#: Seconds for a part of a route to be opened, and bytes of its description.
OPEN_SECONDS, MAX_BYTES = 60.0, 16 << 20
#: What ssh reports, by the error that it means, with the reason for its message; the first that matches counts.
_FAILURES: Mapping[type[RouteError], Mapping[str, str]] = {
    HostKeyChangedError: {
        r"REVOKED HOST KEY": "known_hosts revokes the host key",
        r"Host key for (\S+) has changed": "the host key of {} has changed",
        r"REMOTE HOST IDENTIFICATION HAS CHANGED": "the host key has changed",
    },
    HostKeyUnknownError: {
        r"No \S+ host key is known for (\S+)": "the host key of {} is not in known_hosts",
        r"Host key verification failed": "the host key is not in known_hosts",
    },
    SshDeniedError: {r"(\S+: Permission denied \(.*\))": "{}", r"(Too many authentication failures)": "{}"},
    SshHostUnknownError: {r"(Could not resolve hostname .*)": "{}"},
    ForwardingDeniedError: {r"open failed: (administratively prohibited)": "forwarding of connections is {}"},
    SshUnreachableError: {r"(connect to (?:host|address) .*)": "{}", r"(banner exchange: .*)": "{}"},
}
#: What the host reports about an address behind it.
_OPEN_FAILED = r"open failed: connect failed: (.*)"
#: How ssh reports the end of an open connection.
_LOST = r"Connection to .* closed|not responding|Connection reset|Broken pipe|SIG[A-Z]+|mux_client_read_packet|Connection closed by"
#: Seconds after its last use until a connection of this process ends by itself; the process ends it earlier.
_IDLE_SECONDS = 60
#: Connects standard input and output to an address; the end of either direction ends both.
_CONNECT = """
import os, socket, sys, threading
def copy(source, destination):
    while block := source.recv(1 << 16):
        destination.sendall(block)
    os._exit(0)
client, server = socket.socket(fileno=0), socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=15)
server.settimeout(None)
threading.Thread(target=copy, args=(client, server)).start()
copy(server, client)
"""


def join_address(host: str, port: int) -> str:
    """Return ``HOST:PORT``, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Machine:
    """This machine."""

    place = "this machine"

    def wrap(self, argv: Sequence[str]) -> Sequence[str]:
        """Return the program that runs ``argv`` on the machine, with the same input and output."""
        return argv

    def write_command(self, argv: Sequence[str]) -> Sequence[str]:
        """Return a program for a configuration that runs ``argv`` on the machine, without the connection of this process."""
        return argv

    def build_relay(self, host: str, port: int) -> Sequence[str]:
        """Return the program whose input and output are a connection from the machine to an address."""
        return [sys.executable, "-ISc", _CONNECT, host, str(port)]

    def describe(self, argv: Sequence[str]) -> str:
        """Return the command line by which a person runs a program on the machine."""
        return shlex.join(argv)

    def describe_relay(self, host: str, port: int) -> str:
        """Return the command line by which a person opens a connection from the machine to an address."""
        return shlex.join(["nc", "-v", host, str(port)])

    def close_words(self, folder: Path) -> Sequence[str]:
        """Return the program that ends the connection of this process, whose folder was renamed to ``folder``; empty: it has none."""
        del folder
        return ()

    def open(self, target: str) -> None:
        """Prepare ``wrap`` and ``build_relay``; it may be repeated."""

    def find_loss(self, target: str) -> RouteError | None:
        """Return the error of the connection to the machine, if it was lost since the last call."""
        del target
        return None

    def run(self, argv: Sequence[str]) -> bytes:
        """Return the output of a program on the machine.

        Raises:
            ProgramFailedError: it failed, or is not installed.
        """
        words = self.wrap(argv)
        return limited_program.run(words, seconds=OPEN_SECONDS, max_bytes=MAX_BYTES)

    def explain(self, target: str, lines: Sequence[str]) -> RouteError | None:
        """Return the error of the connection to the machine, if the last lines of a program contain a known one."""
        del target, lines
        return None

    def explain_relay(
        self, target: str, part: str, lines: Sequence[str], address: tuple[str, int]
    ) -> RouteError:
        """Return the error of a connection from the machine to an address, whose program ended with ``lines``."""
        reason = choose_reason(lines)
        facts = {"target": target, "part": part, "command": self.describe_relay(*address)}
        if refused := re.search(r"\[Errno -?\d+\] (.*)", reason):
            reason = f"{join_address(*address)}: {refused[1]}"
            return RoutedServerRefusedError(reason=reason, place=self.place, **facts)
        return RouteError(reason=reason, **facts)

    def read_report(self) -> Sequence[str]:
        """Return what the connection to the machine reported since the last call."""
        return []


class SshMachine(Machine):
    """A machine that the user's ssh reaches, perhaps through others; all programs use one connection."""

    def __init__(self, hosts: Sequence[str], folder: Path) -> None:
        """Open nothing yet; ``hosts`` are in the order of the route, ``folder`` is a private one for the connection."""
        jumps = ["-J", ",".join(hosts[:-1])] if len(hosts) > 1 else []
        self.place, self._part = hosts[-1], " ".join(f"ssh:{host}" for host in hosts)
        port_words, self._destination = split_address(hosts[-1])
        self._words = ["ssh", *list_options(), *jumps, *port_words]
        self._jump_place = " or ".join(hosts[:-1])
        self._person_words = ["ssh", *jumps, *port_words, self._destination]
        self._socket = folder / "ssh"
        self._log = folder / "ssh.log"  #: what the connection of this process reports
        self._is_shared = True  #: whether all programs use one connection
        self._loss: Sequence[str] = []  #: what it reported when it was lost
        self._own_words = [*self._words, "-S", str(self._socket)]
        #: whether the connection is one of this process, and not one that the user's ssh keeps open (``ControlMaster``); None: not opened
        self._is_own: bool | None = None

    def close_words(self, folder: Path) -> Sequence[str]:
        return [*self._own_words, "-S", str(folder / self._socket.name), "-O", "exit", self._destination]

    def wrap(self, argv: Sequence[str]) -> Sequence[str]:
        return [*self._words, self._destination, "--", shlex.join(argv)]

    def write_command(self, argv: Sequence[str]) -> Sequence[str]:
        program, *words = self._person_words
        return [program, "-o", "BatchMode=yes", *words, "--", shlex.join(argv)]

    def build_relay(self, host: str, port: int) -> Sequence[str]:
        return [*self._words, "-W", join_address(host, port), self._destination]

    def describe(self, argv: Sequence[str]) -> str:
        return shlex.join([*self._person_words, *([shlex.join(argv)] if argv else [])])

    def describe_relay(self, host: str, port: int) -> str:
        # A connection that the user shares would hide why the host refuses.
        alone = [] if self._is_own else ["-S", "none"]
        words = [*self._person_words[:-1], *alone, "-W", join_address(host, port), self._destination]
        return shlex.join(words)

    def explain(self, target: str, lines: Sequence[str]) -> RouteError | None:
        text = "\n".join(lines)
        facts = {"target": target, "part": self._part, "command": self.describe([]), "place": self.place}
        for kind, reasons in _FAILURES.items():
            for pattern, reason in reasons.items():
                if match := re.search(pattern, text):
                    return kind(reason=reason.format(*map(clean, match.groups())), **facts)
        return None

    def explain_relay(
        self, target: str, part: str, lines: Sequence[str], address: tuple[str, int]
    ) -> RouteError:
        text = "\n".join(lines)
        facts = {
            "target": target,
            "part": part,
            "command": self.describe_relay(*address),
            "place": self.place,
        }
        if refused := re.search(_OPEN_FAILED, text):
            reason = f"{join_address(*address)}, seen from {self.place}: {clean(refused[1])}"
            return RoutedServerRefusedError(reason=reason, **facts)
        if failure := self.explain(target, lines):
            if isinstance(failure, ForwardingDeniedError):
                return ForwardingDeniedError(reason=failure.context["reason"], **facts)
            return failure
        if "Session open refused by peer" in text:
            # A shared connection passes on no reason.
            reason = (
                f"{self.place} refuses a connection to {join_address(*address)}: Session open refused by peer"
            )
            return RoutedServerRefusedError(reason=reason, **facts)
        if re.search(_LOST, text):
            return self._create_loss(target, lines)
        return RouteError(reason=choose_reason(lines), **facts)

    def find_loss(self, target: str) -> RouteError | None:
        # Programs that share a connection end without an error when it ends.
        if self._is_shared and not self._loss and not self._has_connection():
            self._loss = self.read_report() or ["it has ended"]
        return self._create_loss(target, self._loss) if self._loss else None

    def _create_loss(self, target: str, lines: Sequence[str]) -> RouteError:
        reason = f"the connection to {self.place} was lost: {choose_reason(lines)}"
        return RouteLostError(target=target, part=self._part, reason=reason, command=self.describe([]))

    def read_report(self) -> Sequence[str]:
        if not self._log.exists():
            return []
        with self._log.open("r+b") as file:
            lines = limited_program.read_last_lines(file)
            file.truncate(0)  # ssh appends
        return lines

    def _ask_jumps(self) -> Sequence[str]:
        """Return why a machine between failed, whose messages ssh discards for a connection in the background."""
        if "-J" not in self._words:
            return []
        try:
            self.run(["true"])
        except limited_program.ProgramFailedError as error:
            return error.error_lines
        return []

    def _has_connection(self) -> bool:
        """Whether the user's configuration shares a connection that is open."""
        words = [*self._words, "-O", "check", self._destination]
        try:
            limited_program.run(words, seconds=OPEN_SECONDS, max_bytes=MAX_BYTES)
        except limited_program.ProgramFailedError:
            return False
        return True

    def open(self, target: str) -> None:
        """Open the connection, unless the user has one; open it again if it was lost, or ended by itself.

        Raises:
            RouteError: it cannot be opened.
        """
        if self._is_own is None:
            self._is_own = not self._has_connection()
            self._words = self._own_words if self._is_own else self._words
        if not self._is_own:
            self._is_shared, self._loss = self._is_shared and not self._loss, []
            return
        if self._socket.exists() and not self._loss:
            return
        self._socket.unlink(missing_ok=True)  # a killed ssh leaves it
        # It returns when the connection is open, and then has a process of its own.
        persistence = f"ControlPersist={_IDLE_SECONDS}"
        program = limited_program.run_logged(
            [*self._words, "-M", "-N", "-E", str(self._log), "-o", persistence, self._destination],
            seconds=OPEN_SECONDS,
            max_bytes=MAX_BYTES,
            # Only ssh itself has BatchMode: for a machine between, it would ask for a password in a window.
            environment={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
            folder=self._log.parent,
            ends_children=False,
        )
        if program.status is None:
            reason = f"ssh cannot be started: {program.reason}"
            raise RouteProgramMissingError(
                target=target, part=self._part, reason=reason, program="ssh", place=Machine.place
            )
        if program.reason:
            lines = [program.reason, *self.read_report(), *self._ask_jumps()]
            raise self._explain_opening(target, lines)
        self._loss = []

    def _explain_opening(self, target: str, lines: Sequence[str]) -> RouteError:
        if failure := self.explain(target, lines):
            if isinstance(failure, ForwardingDeniedError):
                failure.context["place"] = self._jump_place
            return failure
        facts = {"target": target, "part": self._part, "command": self.describe([])}
        if refused := re.search(_OPEN_FAILED, "\n".join(lines)):  # by the machine before
            return SshUnreachableError(reason=f"{self.place}: {clean(refused[1])}", **facts)
        return RouteError(reason=choose_reason(lines), **facts)
