"""The programs that come with a server: found, told where to connect without anybody seeing a password, and run."""

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
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO, NamedTuple

from dbctl import signals
from dbctl.errors import ClientFailedError, DbctlError, DiskFullError, FileFailedError, UnreachableError
from dbctl.files import liveness, temp
from dbctl.files.atomic import is_full
from dbctl.files.liveness import Probe

#: Bytes that are passed on at a time, and seconds between two looks for a signal.
BLOCK, LOOK_SECONDS = 1 << 20, 0.1
#: These programs write 4 KB at a time, and to wake up for each costs more than what is done with it; so what comes is let
#: gather, for so short a time that nothing which writes below 100 MB/s fills a pipe of one block meanwhile.
GATHER_SECONDS = 0.005
#: Of all that a program says, only its end is kept.
LONGEST_COMPLAINT = 1 << 16
#: What a program may know of the environment; what else stands there is none of its business, and may be a secret.
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "KRB5CCNAME", "SSL_CERT_FILE", "SSL_CERT_DIR")
SECRETS = "dbctl-secret-"
#: Seconds that a program which has no server gets to do anything at all.
LOCAL_SECONDS = 600.0


@contextmanager
def secrets(files: Mapping[str, str]) -> Iterator[Path]:
    """Give a directory that only this user may look into, with these files in it, and take it away again."""
    with temp.folder(Path(tempfile.gettempdir()), SECRETS) as place:
        for name, text in files.items():
            opened = os.open(place / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
            with os.fdopen(opened, "w", encoding="utf-8") as file:
                file.write(text)
        yield place


class Watch(NamedTuple):
    """How a program is looked after that may do nothing for a long time."""

    target: str  #: ``app/database``
    instead: str  #: what became of what it was to do
    probe: Probe | None = None  #: asks whether its server is at work for it; None: it has no server
    place: str = ""  #: the server, as sessions call it


class Silence:
    """How long a program has done nothing: it moved no byte, and used no time of a processor.

    Whether its server is at work for it is asked each ``SILENCE_SECONDS``, since a statement may run for hours.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], watch: Watch) -> None:
        self._name, self._process, self._watch = name, process, watch
        self._limit = liveness.SILENCE_SECONDS if watch.probe else LOCAL_SECONDS
        self._liveness = liveness.Liveness(watch.probe, watch.place) if watch.probe else None
        self.note_progress()

    def note_progress(self) -> None:
        """Count from the start again: it moved something."""
        self._since = time.monotonic()
        self._work: float | None = None
        if self._liveness:
            self._liveness.note_progress()

    def check(self) -> None:
        """Kill the program where nothing can be expected of it any more.

        Raises:
            UnreachableError, ClientFailedError: it was killed; the latter where it has no server.
        """
        work = _processor_time(self._process.pid)
        if self._work is not None and work != self._work:
            self.note_progress()
        self._work = work
        if time.monotonic() - self._since < self._limit:
            return
        self._since = time.monotonic()
        reason = self._liveness.find_fault() if self._liveness else f"it did nothing for {self._limit:g} s"
        if not reason:
            return
        self._process.kill()
        self._process.wait()
        target, instead = self._watch.target, self._watch.instead
        if self._liveness is None:
            raise ClientFailedError(target=target, program=self._name, reason=reason, instead=instead)
        raise UnreachableError(target=target, reason=f"{self._name}: {reason}", instead=instead)


def _processor_time(pid: int) -> float:
    """Return how long a process has run on a processor, in ticks; 0 where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    user, system = text.rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


class Client:
    """One program that runs."""

    def __init__(
        self, argv: Sequence[str], process: subprocess.Popen[bytes], said: IO[bytes], watch: Watch
    ) -> None:
        self.name = Path(argv[0]).name
        self._process, self._said = process, said
        self._silence = Silence(self.name, process, watch)

    def blocks(self, *, heard: bool = True, watched: bool = True) -> Iterator[bytes]:
        """Yield what it writes, until its end; one that is not ``watched`` may write nothing for ever.

        Raises:
            Interrupted: a signal came, and ``heard`` says that it may end this.
            UnreachableError, ClientFailedError: it did nothing any more, and was killed.
        """
        if self._process.stdout is None:
            raise RuntimeError(f"{self.name} writes nowhere")
        descriptor = self._process.stdout.fileno()
        roomy = sys.platform == "linux" and fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) >= BLOCK
        self._silence.note_progress()
        while True:
            if heard:
                signals.check()
            if not select.select([descriptor], [], [], LOOK_SECONDS)[0]:
                if watched:
                    self._silence.check()
                continue
            if not (block := os.read(descriptor, BLOCK)):
                return
            yield block
            self._silence.note_progress()
            if roomy and len(block) < BLOCK // 4:
                time.sleep(GATHER_SECONDS)

    def write(self, block: bytes) -> bool:
        """Give it something to read; return whether it took all of it, which it does not once it has ended.

        Raises:
            Interrupted: a signal came.
            UnreachableError, ClientFailedError: it did nothing any more, and was killed.
        """
        if self._process.stdin is None:
            raise RuntimeError(f"{self.name} reads nothing")
        descriptor = self._process.stdin.fileno()
        os.set_blocking(descriptor, False)
        left = memoryview(block)
        self._silence.note_progress()
        while left:
            signals.check()
            if not select.select([], [descriptor], [], LOOK_SECONDS)[1]:
                self._silence.check()
                continue
            try:
                left = left[os.write(descriptor, left) :]
                self._silence.note_progress()
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return True

    def finish(self, *, heard: bool = True) -> int:
        """Tell it that there is no more, wait for its end, and return its exit status.

        Raises:
            Interrupted: a signal came, and ``heard`` says that it may end this.
            UnreachableError, ClientFailedError: it did nothing any more, and was killed.
        """
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._silence.note_progress()
        while True:
            try:
                return self._process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                self._silence.check()
                if heard:
                    signals.check()

    def kill(self) -> None:
        """Let it do nothing more."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def complaint(self) -> str:
        """Return what it wrote on standard error, or the signal that ended it before it could write anything.

        Of a long text it is the beginning, which has the reason, and the end.
        """
        size, half = self._said.seek(0, os.SEEK_END), LONGEST_COMPLAINT // 2
        self._said.seek(0)
        text = self._said.read(half)
        self._said.seek(max(half, size - half))
        ended, said = (
            self._process.returncode or 0,
            (text + self._said.read()).decode(errors="replace").strip(),
        )
        return said or (f"it was ended by {signal.Signals(-ended).name}" if ended < 0 else "")


def _environment() -> dict[str, str]:
    """Return the variables of ``ENVIRONMENT`` that are set, and the locale of messages."""
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | {"LC_ALL": "C"}


@contextmanager
def running(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    watch: Watch,
    reads: bool = False,
    writes: bool = False,
) -> Iterator[Client]:
    """Run a program; it has ended when this ends, and whatever it was doing then is cut off.

    Args:
        argv: the program by its path, and its words; other users see them.
        environment: what it is told beside ``ENVIRONMENT``.
        watch: how its silence ends.
        reads: whether it is given something to read; else it finds nothing.
        writes: whether what it writes is wanted; else nobody gets it.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 - a program of the server, by its path, and no shell
            argv,
            env={**_environment(), **environment},
            stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
            stdout=subprocess.PIPE if writes else subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,  # a key pressed at the terminal is for dbctl, which ends it in order
        )
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and sys.platform == "linux":
                with suppress(OSError):  # more than an ordinary user may have is refused, and only costs time
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, BLOCK)
        client = Client(argv, process, said, watch)
        try:
            yield client
        finally:
            client.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def version_told(path: Path) -> str:
    """Return what a program answers when it is asked for its version; empty where it does not answer."""
    try:
        done = subprocess.run(  # noqa: S603 - as below
            [path, "--version"],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def newest(candidates: Mapping[int, Path], least: int) -> tuple[int, Path] | None:
    """Return the program that fits a server best: of its own version, else of the next one above."""
    fitting = sorted(version for version in candidates if version >= least)
    return (fitting[0], candidates[fitting[0]]) if fitting else None


@contextmanager
def new_file(path: Path, *, brief: bool = False) -> Iterator[NewFile]:
    """Open a file that was not there and that nobody else may read; it is synced at the end, or gone.

    One that is ``brief`` is needed for a moment: it is neither synced nor hashed.

    Raises:
        DiskFullError, FileFailedError: it cannot be written.
    """
    try:
        opened = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _failed(path, error) from error
    try:
        try:
            with os.fdopen(opened, "wb", buffering=0) as file:
                yield NewFile(file, hashed=not brief)
                if not brief:
                    os.fsync(file.fileno())
        except OSError as error:
            raise _failed(path, error) from error
    except BaseException:  # also on a signal: half a file must not stay
        with suppress(OSError):
            path.unlink()
        raise


class NewFile:
    """A file without a buffer, which takes as many bytes at once as the system likes."""

    def __init__(self, file: FileIO, *, hashed: bool) -> None:
        import hashlib

        self._file, self._made, self._hashed = file, hashlib.sha256(), hashed

    @property
    def sha256(self) -> str:
        """Of all that was written, hexadecimal, where that is hashed."""
        return self._made.hexdigest()

    def write(self, block: bytes) -> int:
        """Write all of a block, and return how many bytes that is."""
        if self._hashed:
            self._made.update(block)
        left = memoryview(block)
        while left:
            left = left[self._file.write(left) :]
        return len(block)


def _failed(path: Path, error: OSError) -> DbctlError:
    if is_full(error):
        return DiskFullError(target=str(path.parent))
    return FileFailedError(path=path, reason=error.strerror or str(error))
