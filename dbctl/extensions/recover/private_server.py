"""A server that only this process uses: with its own user, without network, ended and deleted also if dbctl is killed.

The user is one that owns nothing: replaying the log of a server can delete files at the paths that the log names, such as those of
its tablespaces, which may be those of the live server on this machine.
"""

from __future__ import annotations

import grp
import os
import pwd
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from dbctl import signals
from dbctl.errors.connection import FileFailedError, report_file_errors
from dbctl.files import mounts, subprocesses, temp
from dbctl.files.atomic import create_file

PREFIX = "dbctl-recover-"
#: The users that systemd gives to services for as long as they run.
USERS = range(61_184, 65_520)
#: Seconds to wait for the end of a server, and bytes of its log that are read.
END_SECONDS, LOG_BYTES = 10.0, 1 << 20
#: Waits until dbctl has passed the number of the server to the watcher, and becomes the server.
_BEGIN = 'read -r go && exec "$@" < /dev/null'
#: Ends the server and deletes its folders when the pipe is closed, which the end of dbctl does in any case.
_WATCH = """read -r line
kill -$1 $2
for step in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do kill -0 $2 || break; sleep 0.1; done
kill -KILL -$2
shift 2; rm -rf -- "$@\""""


class PrivateFolder(NamedTuple):
    """The folders of a private server; the user of the server owns them."""

    data: Path  #: for its files, an empty folder
    socket: Path  #: for its socket; the path is short
    user: int | None  #: the user that runs it, if it is not that of this process

    @property
    def log(self) -> Path:
        """The file with its messages."""
        return self.data.parent / "log"

    def give(self, path: Path) -> None:
        """Let the user of the server own a new file or folder."""
        if self.user is not None:
            os.chown(path, self.user, self.user, follow_symlinks=False)

    @property
    def as_user(self) -> Mapping[str, Any]:
        """The arguments that run a child process as the user of the server."""
        return {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}


@contextmanager
def create_folder(parent: Path, required_bytes: int) -> Iterator[PrivateFolder]:
    """Create the folders of a private server, and delete them at the end; those of killed dbctl processes are also deleted.

    Args:
        parent: an existing folder.
        required_bytes: the space that its files take.

    Raises:
        InsufficientSpaceError: the disk has less space.
        FileFailedError: the folders cannot be created, or another user than root cannot enter ``parent``.
    """
    user = _choose_user() if os.geteuid() == 0 else None
    with ExitStack() as stack:
        with report_file_errors(parent):
            mounts.require_space(parent, required_bytes)
            _require_access(parent, user)
            home = stack.enter_context(temp.folder(parent, PREFIX))
            # The path of a socket has at most 107 bytes.
            short = stack.enter_context(temp.folder(Path(tempfile.gettempdir()), f"{PREFIX}socket-"))
            folder = PrivateFolder(home / "data", short / "s", user)
            with create_file(folder.log, temporary=True):  # which only this user can read
                pass
            for path in (folder.data, folder.socket):
                path.mkdir(mode=0o700)
                folder.give(path)
            if user is not None:
                home.chmod(0o711)
                short.chmod(0o711)
        yield folder


def _choose_user() -> int:
    """Return the number of a user that does not exist, and has no process."""
    used = set[int]()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError):  # the process has ended since
            used.add(path.stat().st_uid)
    return next(user for user in USERS if user not in used and not _exists(user))


def _exists(number: int) -> bool:
    for find in (pwd.getpwuid, grp.getgrgid):
        with suppress(KeyError):
            find(number)
            return True
    return False


def _require_access(parent: Path, user: int | None) -> None:
    """Refuse a folder that the user of the server cannot enter."""
    if user is None:
        return
    real = parent.resolve()
    for place in (real, *real.parents):
        if not place.stat().st_mode & stat.S_IXOTH:
            reason = "the user of the private server cannot enter it; set TMPDIR, or staging under [apps.NAME.backup]"
            raise FileFailedError(path=place, reason=reason)


class PrivateServer:
    def __init__(self, folder: PrivateFolder, process: subprocess.Popen[bytes]) -> None:
        self.folder, self._process = folder, process

    @property
    def exit_status(self) -> int | None:
        """The status with which the server has ended by itself; None: it runs."""
        return self._process.poll()

    @property
    def has_ended(self) -> bool:
        """Whether the server has ended by itself."""
        return self.exit_status is not None

    def read_log(self) -> str:
        """Return the messages of the server, at most the last ``LOG_BYTES``."""
        with self.folder.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            return file.read().decode(errors="replace")

    def wait(self, seconds: float) -> None:
        """Wait a moment for the server.

        Raises:
            Interrupted: a signal was received.
        """
        signals.raise_if_interrupted()
        time.sleep(seconds)


@contextmanager
def run_server(
    argv: Sequence[str], folder: PrivateFolder, *, end: signal.Signals, environment: Mapping[str, str] = {}
) -> Iterator[PrivateServer]:
    """Run a server; it ends with the block, and with this process.

    Args:
        argv: the program, with its full path, and its arguments.
        folder: whose log gets what it prints.
        end: the signal that ends it without delay.
        environment: further variables besides those of ``subprocesses.list_variables``.

    Raises:
        FileFailedError: it cannot be started.
    """
    with ExitStack() as stack:
        with (
            report_file_errors(argv[0]),
            signals.defer_signals(),
        ):  # a signal between a start and its record would leave it running
            process = stack.enter_context(_start(argv, folder, end, environment))
        signals.raise_if_interrupted()
        yield PrivateServer(folder, process)


@contextmanager
def _start(
    argv: Sequence[str], folder: PrivateFolder, end: signal.Signals, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    variables = {**subprocesses.list_variables(), **environment}
    watched = [str(folder.data.parent), str(folder.socket.parent)]
    with ExitStack() as stack:
        log = stack.enter_context(folder.log.open("ab"))
        process = subprocess.Popen(  # noqa: S603 - a program of the server with its full path
            ["/bin/sh", "-c", _BEGIN, "sh", *argv],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=folder.data,
            env=variables,
            start_new_session=True,  # Ctrl-C at the terminal is handled by dbctl alone
            **folder.as_user,
        )
        stack.callback(_end, process, end)
        watcher = subprocess.Popen(  # noqa: S603 - a constant script
            ["/bin/sh", "-c", _WATCH, "sh", end.name.removeprefix("SIG"), str(process.pid), *watched],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=variables,
            start_new_session=True,
        )
        stack.callback(_end, watcher, signal.SIGKILL)
        if process.stdin:
            process.stdin.write(b"go\n")
            process.stdin.close()
        yield process


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """End a process, and wait for its end."""
    with signals.block_signals():
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
        with suppress(ProcessLookupError):  # also what it started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin:
            process.stdin.close()
