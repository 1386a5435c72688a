"""Client programs of database servers: selected, run with hidden passwords, and killed when their server is dead."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from dbctl import signals
from dbctl.errors.connection import ClientFailedError, UnreachableError
from dbctl.errors.operations import TooManyProcessesError
from dbctl.files import liveness, temp
from dbctl.files.atomic import open_new
from dbctl.files.liveness import Probe

#: Bytes of one read, and seconds between two checks for a signal.
BLOCK, POLL_SECONDS = 1 << 20, 0.1
#: Seconds between two reads. Programs write 4 KB at a time, and each wakeup costs more than processing them, so their
#: output is collected in the pipe; a program below 100 MB/s cannot fill it in this time.
GATHER_SECONDS = 0.005
#: Bytes of a program's error output that are read.
MAX_STDERR_BYTES = 1 << 16
#: Environment variables that programs receive; others may contain secrets.
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "KRB5CCNAME", "SSL_CERT_FILE", "SSL_CERT_DIR")
#: Where distributions install several versions of PostgreSQL side by side.
POSTGRESQL_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
SECRETS_PREFIX = "dbctl-secret-"
#: Seconds of inactivity after which a program without server is killed.
LOCAL_SECONDS = 600.0


@contextmanager
def secret_files(files: Mapping[str, str]) -> Iterator[Path]:
    """Yield a private directory with the given files, and delete it at the end."""
    with temp.folder(Path(tempfile.gettempdir()), SECRETS_PREFIX) as folder:
        for name, text in files.items():
            with open_new(folder / name, synced=False) as file:
                file.write(text.encode())
        yield folder


class ProgramWatch(NamedTuple):
    """How to monitor a program that may be silent for a long time."""

    target: str  #: ``app/database``
    hint: str  #: the consequence of a failure, for messages
    #: Checks whether the server is working for the program; None: the program has no server.
    probe: Probe | None = None
    server: str = ""  #: the name of the server for ``Liveness``


class SilenceMonitor:
    """Monitor of the inactivity of a program: no transferred byte, and no CPU time.

    The server is queried after each ``SILENCE_SECONDS``, because a statement may run for hours.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], watch: ProgramWatch) -> None:
        self._name, self._process, self._watch = name, process, watch
        self._limit = liveness.SILENCE_SECONDS if watch.probe else LOCAL_SECONDS
        self._liveness = liveness.Liveness(watch.probe, watch.server) if watch.probe else None
        self.note_progress()

    def note_progress(self) -> None:
        """Reset the time: the program transferred data."""
        self._since = time.monotonic()
        self._work: float | None = None
        if self._liveness:
            self._liveness.note_progress()

    def check(self) -> None:
        """Kill the program if its server is dead.

        Raises:
            UnreachableError, ClientFailedError: it was killed; the latter without a server.
        """
        work = _read_cpu_ticks(self._process.pid)
        if self._work is not None and work != self._work:
            self.note_progress()
        self._work = work
        if time.monotonic() - self._since < self._limit:
            return
        self._since = time.monotonic()
        reason = self._liveness.find_fault() if self._liveness else f"it was inactive for {self._limit:g} s"
        if not reason:
            return
        self._process.kill()
        self._process.wait()
        target, hint = self._watch.target, self._watch.hint
        if self._liveness is None:
            raise ClientFailedError(target=target, program=self._name, reason=reason, hint=hint)
        raise UnreachableError(target=target, reason=f"{self._name}: {reason}", hint=hint)


def _read_cpu_ticks(pid: int) -> float:
    """Return the CPU time of a process in ticks; 0 if unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    user, system = text.rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


class ClientProgram:
    def __init__(
        self, argv: Sequence[str], process: subprocess.Popen[bytes], stderr: IO[bytes], watch: ProgramWatch
    ) -> None:
        self.name = Path(argv[0]).name
        self._process, self._stderr = process, stderr
        self._silence = SilenceMonitor(self.name, process, watch)

    def blocks(self, *, interruptible: bool = True, watched: bool = True) -> Iterator[bytes]:
        """Yield the output of the program until its end; if not ``watched``, it may be silent forever.

        Raises:
            Interrupted: a signal was received, and ``interruptible`` is set.
            UnreachableError, ClientFailedError: it was inactive and was killed.
        """
        if self._process.stdout is None:
            raise RuntimeError(f"{self.name} has no output pipe")
        descriptor = self._process.stdout.fileno()
        has_large_pipe = sys.platform == "linux" and fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) >= BLOCK
        self._silence.note_progress()
        while True:
            if interruptible:
                signals.raise_if_interrupted()
            if not select.select([descriptor], [], [], POLL_SECONDS)[0]:
                if watched:
                    self._silence.check()
                continue
            if not (block := os.read(descriptor, BLOCK)):
                return
            yield block
            self._silence.note_progress()
            if has_large_pipe and len(block) < BLOCK // 4:
                time.sleep(GATHER_SECONDS)

    def write(self, block: bytes) -> bool:
        """Write to the input of the program; return whether it read everything, which is False after its end.

        Raises:
            Interrupted: a signal was received.
            UnreachableError, ClientFailedError: it was inactive and was killed.
        """
        if self._process.stdin is None:
            raise RuntimeError(f"{self.name} has no input pipe")
        descriptor = self._process.stdin.fileno()
        os.set_blocking(descriptor, False)
        remaining = memoryview(block)
        self._silence.note_progress()
        while remaining:
            signals.raise_if_interrupted()
            if not select.select([], [descriptor], [], POLL_SECONDS)[1]:
                self._silence.check()
                continue
            try:
                remaining = remaining[os.write(descriptor, remaining) :]
                self._silence.note_progress()
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return True

    def finish(self, *, interruptible: bool = True) -> int:
        """Close the input of the program, wait for its end, and return its exit status.

        Raises:
            Interrupted: a signal was received, and ``interruptible`` is set.
            UnreachableError, ClientFailedError: it was inactive and was killed.
        """
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._silence.note_progress()
        while True:
            try:
                return self._process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                self._silence.check()
                if interruptible:
                    signals.raise_if_interrupted()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """Kill the program, and close its pipes."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def error_output(self) -> str:
        """Return the error output of the program, or the signal that ended it without output.

        A long text is shortened to its beginning, which contains the reason, and its end.
        """
        size, half = self._stderr.seek(0, os.SEEK_END), MAX_STDERR_BYTES // 2
        self._stderr.seek(0)
        text = self._stderr.read(half)
        self._stderr.seek(max(half, size - half))
        returncode = self._process.returncode or 0
        output = (text + self._stderr.read()).decode(errors="replace").strip()
        return output or (f"it was killed by {signal.Signals(-returncode).name}" if returncode < 0 else "")


def list_variables() -> dict[str, str]:
    """Return the variables of ``ENVIRONMENT`` that are set, and the C locale for messages."""
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {"LC_ALL": "C"}


def _encode(text: str) -> bytes:
    """Return an argument or a variable as bytes: names in a database are UTF-8, also in a locale without their characters."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


@contextmanager
def run_program(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    watch: ProgramWatch,
    reads: bool = False,
    writes: bool = False,
    source: IO[bytes] | None = None,
) -> Iterator[ClientProgram]:
    """Run a program; it is killed at the end of the block, if still running.

    Args:
        argv: the path of the program and its arguments, which other users can see.
        environment: further variables besides ``ENVIRONMENT``.
        watch: how to monitor it.
        reads: whether it gets an input pipe; otherwise its input is empty.
        writes: whether it gets an output pipe; otherwise its output is discarded.
        source: a file that is its input, instead of a pipe.
    """
    with tempfile.TemporaryFile() as stderr, ExitStack() as stack:
        # A signal between the start and its record would leave it running: a load would continue after dbctl has ended.
        with signals.defer_signals():
            try:
                process = subprocess.Popen(  # noqa: S603 - a program of the server with its full path, without a shell
                    [_encode(word) for word in argv],
                    env={name: _encode(text) for name, text in {**list_variables(), **environment}.items()},
                    stdin=source or (subprocess.PIPE if reads else subprocess.DEVNULL),
                    stdout=subprocess.PIPE if writes else subprocess.DEVNULL,
                    stderr=stderr,
                    start_new_session=True,  # Ctrl-C at the terminal is handled by dbctl alone
                )
            except BlockingIOError as error:  # callers would take it for an error of a file
                raise TooManyProcessesError from error
            client = ClientProgram(argv, process, stderr, watch)
            stack.callback(client.end)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and sys.platform == "linux":
                with suppress(OSError):  # a user may have a lower limit, which only costs speed
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, BLOCK)
        yield client


#: Outputs of ``--version``, by path, inode, size and modification time of the program.
_version_outputs: dict[tuple[Path, int, int, int], str] = {}


def read_version(path: Path) -> str:
    """Return the output of ``--version`` of a program, which runs once; empty if it fails."""
    try:
        file_stat = path.stat()
        key = (path, file_stat.st_ino, file_stat.st_size, file_stat.st_mtime_ns)
        if key in _version_outputs:
            return _version_outputs[key]
        process = subprocess.run(  # noqa: S603 - a program of the server with its full path, without a shell
            [path, "--version"],
            env=list_variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    output = process.stdout.decode(errors="replace")
    if process.returncode == 0:
        _version_outputs[key] = output
    return output


def select_version(candidates: Mapping[int, Path], min_version: int) -> tuple[int, Path] | None:
    """Return the best program for a server: the same version, otherwise the next newer one."""
    versions = sorted(version for version in candidates if version >= min_version)
    return (versions[0], candidates[versions[0]]) if versions else None
