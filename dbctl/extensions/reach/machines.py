"""The machines of a route: this one, and those behind SSH."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dbctl.extensions.reach.errors import (
    HostKeyChangedError,
    HostKeyUnknownError,
    RouteError,
    RouteProgramMissingError,
    SshDeniedError,
)
from dbctl.files import limited_program

#: Seconds for a part of a route to be opened, and bytes of its description.
OPEN_SECONDS, MAX_BYTES = 60.0, 16 << 20
#: Messages of ssh that only repeat that something failed.
_VAGUE = re.compile(r"(?i)stdio forwarding|kex_exchange_identification|UNKNOWN port 65535")
#: Options of every ssh: it asks nothing, and a dead connection ends.
_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")
#: Seconds after its last use until a connection of this process ends by itself; the process ends it earlier.
_IDLE_SECONDS = 60
#: Connects standard input and output to an address; the end of either direction ends both.
_CONNECT = """
import os, socket, sys, threading
def copy(source, destination):
    while block := source.recv(1 << 16):
        destination.sendall(block)
    os._exit(0)
client, server = socket.socket(fileno=0), socket.create_connection((sys.argv[1], int(sys.argv[2])))
threading.Thread(target=copy, args=(client, server)).start()
copy(server, client)
"""


def choose_reason(lines: Sequence[str]) -> str:
    """Return the last line that states why a program failed."""
    return next((line for line in reversed(lines) if line and not _VAGUE.search(line)), lines[-1])


class Machine:
    """This machine."""

    place = "this machine"
    closing_words: Sequence[str] = ()

    def wrap(self, argv: Sequence[str]) -> Sequence[str]:
        """Return the program that runs ``argv`` on the machine, with the same input and output."""
        return argv

    def build_relay(self, host: str, port: int) -> Sequence[str]:
        """Return the program whose input and output are a connection from the machine to an address."""
        return [sys.executable, "-ISc", _CONNECT, host, str(port)]

    def open(self, target: str) -> None:
        """Prepare ``wrap`` and ``build_relay``."""

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

    def read_report(self) -> Sequence[str]:
        """Return what the connection to the machine reported since the last call."""
        return []


class SshMachine(Machine):
    """A machine that the user's ssh reaches, perhaps through others; all programs use one connection."""

    def __init__(self, hosts: Sequence[str], folder: Path) -> None:
        """Open nothing yet; ``hosts`` are in the order of the route, ``folder`` is a private one for the connection."""
        jumps = ["-J", ",".join(hosts[:-1])] if len(hosts) > 1 else []
        self.place, self._part = hosts[-1], " ".join(f"ssh:{host}" for host in hosts)
        destination = hosts[-1]
        if match := re.fullmatch(r"(.+?|.*\]):(\d+)", destination):
            destination = f"ssh://{match[1]}:{match[2]}"
        self._words, self._destination = ["ssh", *_OPTIONS, *jumps], destination
        self._command = shlex.join(["ssh", *jumps, destination])  # for hints
        self._log = folder / "ssh.log"  #: what the connection of this process reports
        #: the program that ends the connection of this process; empty: it uses one that the user's ssh keeps open (``ControlMaster``)
        self.closing_words: Sequence[str] = ()
        if not self._has_connection():
            self._words += ["-S", str(folder / "ssh")]
            self.closing_words = [*self._words, "-O", "exit", self._destination]

    def wrap(self, argv: Sequence[str]) -> Sequence[str]:
        return [*self._words, self._destination, "--", shlex.join(argv)]

    def build_relay(self, host: str, port: int) -> Sequence[str]:
        return [
            *self._words,
            "-W",
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            self._destination,
        ]

    def explain(self, target: str, lines: Sequence[str]) -> RouteError | None:
        text = "\n".join(lines)
        facts = {"target": target, "part": self._part, "command": self._command}
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in text:
            return HostKeyChangedError(reason="the host key has changed", **facts)
        if "Host key verification failed" in text:
            return HostKeyUnknownError(reason="the host key is not in known_hosts", **facts)
        if denied := re.search(r"[^\n]*Permission denied \([^\n]*", text):
            return SshDeniedError(reason=denied[0], **facts)
        return None

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
        """Open the connection, unless the user has one.

        Raises:
            RouteError: it cannot be opened.
        """
        if not self.closing_words:
            return
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
            raise self.explain(target, lines) or RouteError(
                target=target, part=self._part, reason=choose_reason(lines), command=self._command
            )
