"""A private socket each of whose connections is the input and output of a program of its own, such as ``ssh -W``.

No byte passes through this process: the program inherits the connection. It ends when dbctl ends, however that happens, because its
input ends then.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from dbctl.files.limited_program import describe_status, read_last_lines

#: Connections that wait to be accepted.
_BACKLOG = 64
#: Seconds for the program of a lost connection to report why, and between two looks.
_REPORT_SECONDS, _POLL_SECONDS = 0.5, 0.02


class Relay:
    """A listening socket; closed with the process."""

    def __init__(self, path: Path, argv: Sequence[str]) -> None:
        """Listen at ``path``, and start ``argv`` for each connection.

        Raises:
            OSError: the socket cannot be created; its path may be too long.
        """
        self.path, self._argv = path, argv
        self._programs: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        self._lock = threading.Lock()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listening.bind(str(path))
            self._listening.listen(_BACKLOG)
        except OSError:
            self._listening.close()
            raise
        threading.Thread(target=self._accept, daemon=True).start()

    def find_failure(self) -> Sequence[str]:
        """Return the last lines on standard error of a program that failed; none: all are running, or ended without an error.

        Each failure is returned once: it is that of one connection.
        """
        deadline = time.monotonic() + _REPORT_SECONDS
        while True:
            with self._lock:
                failures = [entry for entry in self._programs if entry[0].poll()]
                is_running = any(program.poll() is None for program, _ in self._programs)
                if failures:
                    self._programs.remove(failures[-1])
            if failures:
                program, errors = failures[-1]
                with errors:
                    lines = read_last_lines(errors)
                return lines or [f"{self._argv[0]}: {describe_status(program.returncode)}"]
            if not is_running or time.monotonic() >= deadline:
                return []
            time.sleep(_POLL_SECONDS)

    def _accept(self) -> None:
        # The kernel ends the threads of a process with it, so this one needs no end of its own.
        while True:
            client, _ = self._listening.accept()
            with client:
                self._start(client)

    def _start(self, client: socket.socket) -> None:
        self._remove_ended()
        errors = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - closed with the entry of the program
        try:
            program = subprocess.Popen(  # noqa: S603 - a part of the configured route, without a shell
                self._argv,
                stdin=client.fileno(),
                stdout=client.fileno(),
                stderr=errors,
                start_new_session=True,  # an interrupt of the terminal must not end it before a rollback
            )
        except OSError:  # no process can be started; the driver reports the closed connection
            errors.close()
            return
        with self._lock:
            self._programs.append((program, errors))

    def _remove_ended(self) -> None:
        """Forget programs that ended without an error."""
        with self._lock:
            ended = [entry for entry in self._programs if entry[0].poll() == 0]
            self._programs = [entry for entry in self._programs if entry not in ended]
        for _, errors in ended:
            with suppress(OSError):
                errors.close()
