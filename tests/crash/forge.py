"""Start dbctl for crash tests: a server process with loaded modules forks a child for each command.

A child skips the start of the interpreter, which takes half a second, so a random delay hits the actual work, and a
thousand runs are fast. It is a normal process: the kernel kills it, and it leaves what a killed dbctl process leaves. With
a C compiler, its calls that change files can be counted, failed, made the last one, or recorded: ``faults.c`` is loaded
between dbctl and the C library.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib
import json
import mmap
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.in_process import CLEAN_ENVIRONMENT

SOURCE = Path(__file__).with_name("faults.c")
#: The action at the chosen call, as numbered in ``faults.c``.
ACTIONS = {"count": 1, "kill": 2, "kill half-way": 3, "fail once": 4, "fail on": 5, "record": 6}
BROKEN_PIPE = Path("broken pipe")  #: a standard output whose reader has closed the pipe
FOR_WRITING = os.O_WRONLY | os.O_CREAT
MAX_SECONDS = 120  #: maximum duration of a command


class Job:
    """One running command, with the interface of ``subprocess.Popen``."""

    def __init__(self, forge: ForkServer, pid: int, folder: Path) -> None:
        self._forge, self.pid, self._folder = forge, pid, folder
        self.returncode: int | None = None
        self.calls = 0  #: number of calls that could have been chosen
        self.fault_fired = False  #: whether the chosen call occurred

    def poll(self) -> int | None:
        if self.returncode is None:
            status = self._forge.request({"ended": self.pid})
            self.returncode, self.calls, self.fault_fired = status["status"], status["calls"], status["fired"]
        return self.returncode

    def send_signal(self, signal_number: int) -> None:
        if self.poll() is None:
            os.kill(
                self.pid, signal_number
            )  # it remains a zombie until it is polled, so its pid is not reused

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = MAX_SECONDS) -> int:
        deadline = time.monotonic() + timeout
        if sys.platform == "linux" and self.poll() is None:  # elsewhere, and if it does not end, poll
            descriptor = os.pidfd_open(self.pid)
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(timeout * 1000)
            os.close(descriptor)
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                pytest.fail("the command does not end")
            time.sleep(0.0005)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float = MAX_SECONDS) -> tuple[bytes, bytes]:
        self.wait(timeout)
        outputs = [self._read(name) for name in ("out", "err")]
        shutil.rmtree(self._folder, ignore_errors=True)
        return outputs[0], outputs[1]

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:  # the output was redirected
            return b""


class ForkServer:
    """The process that forks."""

    def __init__(self, shim: Path | None) -> None:
        self.shim = shim
        self._folder = Path(tempfile.mkdtemp(prefix="dbctl-forge-"))
        self._child = subprocess.Popen(
            [sys.executable, __file__],
            env=CLEAN_ENVIRONMENT | ({"LD_PRELOAD": str(shim)} if shim else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._job_count = 0

    def request(self, request: Mapping[str, object]) -> dict:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps(request).encode() + b"\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        assert line, "the fork server has ended"
        return json.loads(line)

    def start(
        self,
        folder: Path,
        *arguments: object,
        fault: tuple[str, int, int] | None = None,
        below: Path | None = None,
        record: Path | None = None,
        environment: Mapping[str, str] | None = None,
        umask: int = 0o022,
        limit: int = 0,
        closed: Sequence[int] = (),
        stdin: bytes = b"",
        out: Path | None = None,
        extension: str = "",
    ) -> Job:
        """Start ``dbctl`` with these arguments in a folder.

        Args:
            folder: its working directory.
            arguments: of the command line.
            fault: the action, the number of the call, counted from 1, and the error number.
            below: only calls for paths below this one are counted.
            record: file for recorded calls.
            environment: additional environment variables.
            umask: its umask.
            closed: standard descriptors that are closed.
            stdin: its standard input.
            out: file for its standard output; None: the result of ``Job.communicate``.
            extension: module that the process imports first, such as one that adds commands.
            limit: maximum size of a file that it writes, in bytes; 0: unlimited.
        """
        self._job_count += 1
        job_folder = self._folder / str(self._job_count)
        job_folder.mkdir()
        (job_folder / "in").write_bytes(stdin)
        action, call, error = fault or (("record", 0, 0) if record else ("count", 0, 0))
        arm = [ACTIONS[action], call, error, str(below or folder), str(record or "")] if self.shim else None
        response = self.request(
            {
                "begin": [str(word) for word in arguments],
                "folder": str(folder),
                "place": str(job_folder),
                "arm": arm,
                "environment": CLEAN_ENVIRONMENT
                | {"TMPDIR": tempfile.gettempdir()}
                | dict(environment or {}),
                "umask": umask,
                "limit": limit,
                "closed": list(closed),
                "out": str(out or job_folder / "out"),
                "extension": extension,
            }
        )
        return Job(self, response["pid"], job_folder)

    def stop(self) -> None:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.close()
        self._child.wait(timeout=30)
        self._child.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@functools.cache
def _compile_shim() -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    folder = Path(tempfile.mkdtemp(prefix="dbctl-faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "faults.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"]
    process = subprocess.run(command, capture_output=True, check=False)
    return library if process.returncode == 0 else None


@functools.cache
def fork_server() -> ForkServer:
    """Return the fork server of this test process."""
    server = ForkServer(_compile_shim())
    atexit.register(server.stop)
    return server


def start(folder: Path, *arguments: object, **environment: object) -> Job:
    """Start ``dbctl``; the arguments are those of ``ForkServer.start``."""
    return fork_server().start(folder, *arguments, **environment)  # type: ignore[arg-type]


def wait_for_result(job: Job) -> tuple[int, object]:
    """Return the exit code and the result: its JSON, or its error output."""
    out, err = job.communicate()
    assert job.returncode is not None
    return job.returncode, json.loads(out) if out else err


def run(folder: Path, *arguments: object, **options: object) -> tuple[int, object]:
    """Run ``dbctl`` to its end with JSON output."""
    return wait_for_result(start(folder, *arguments, "-o", "json", **options))


class KillTimer:
    """Sends signals after random delays; adapts to the duration of the command, which depends on the machine's load."""

    def __init__(self, rng: random.Random, duration: float) -> None:
        self._draw, self._duration = rng, duration
        self.tries = self.in_time = 0

    def send_signal(self, job: Job, signal_number: int = signal.SIGKILL) -> None:
        """Send a signal to a job after a random delay."""
        start = time.monotonic()
        delay = self._draw.uniform(0, self._duration)
        while job.poll() is None and time.monotonic() < start + delay:
            time.sleep(0.0005)
        elapsed = time.monotonic() - start
        self.tries += 1
        if job.returncode is not None:
            self._duration = elapsed
        else:
            self.in_time += 1
            self._duration = max(self._duration, elapsed * 1.1)
        job.send_signal(signal_number)

    def assert_in_time(self) -> None:
        """Fail if most signals were sent too late."""
        print(f"{self.in_time} of {self.tries} in time")
        assert self.in_time >= self.tries // 4


def require_faults() -> None:
    """Skip a test if calls cannot be made to fail."""
    if fork_server().shim is None:
        pytest.skip("no C compiler (cc) for glibc on Linux: calls can be neither counted nor failed")


# The fork server --------------------------------------------------------------------------------------------------


class _Server:
    def __init__(self) -> None:
        self._shim = os.environ.pop(
            "LD_PRELOAD", None
        )  # otherwise programs that dbctl starts would load it, too
        self._shared_memory = dict[int, mmap.mmap]()

    def serve(self) -> None:
        import_modules()
        for line in sys.stdin.buffer:
            request = json.loads(line)
            response = self._fork(request) if "begin" in request else self._poll(request["ended"])
            sys.stdout.buffer.write(json.dumps(response).encode() + b"\n")
            sys.stdout.buffer.flush()

    def _fork(self, request: Mapping) -> Mapping:
        shared = mmap.mmap(-1, mmap.PAGESIZE)
        if pid := os.fork():
            self._shared_memory[pid] = shared
            return {"pid": pid}
        try:
            self._run_command(request, shared)
        except (
            KeyboardInterrupt
        ):  # before dbctl has installed its handlers; the interpreter would exit in the same way
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os._exit(99)

    def _run_command(self, request: Mapping, shared: mmap.mmap) -> None:
        os.setsid()  # otherwise Ctrl-C in the terminal of the tests would reach it
        os.chdir(request["folder"])
        os.umask(request["umask"])
        if request["limit"]:
            sys.dont_write_bytecode = True  # the limit would truncate it
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
        os.environ.clear()
        os.environ.update(request["environment"])
        tempfile.tempdir = None
        place = request["place"]
        paths = (os.path.join(place, "in"), request["out"], os.path.join(place, "err"))  # noqa: PTH118 - paths as text
        for index, name in enumerate(paths):
            descriptor = (
                _open_broken_pipe()
                if name == str(BROKEN_PIPE)
                else os.open(name, index and FOR_WRITING, 0o600)
            )
            os.dup2(descriptor, index)
            os.close(descriptor)
        # the buffered input and output of the tests must not be used by this child
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        for closed_descriptor in request["closed"]:
            setattr(
                sys, ("stdin", "stdout", "stderr")[closed_descriptor], None
            )  # as in an interpreter without this descriptor
            os.close(closed_descriptor)
        sys.argv = ["dbctl", *request["begin"]]
        if request["extension"]:
            importlib.import_module(request["extension"])
        from dbctl.__main__ import run

        if request["arm"]:
            action, call, error, below, record = request["arm"]
            counters = ctypes.addressof(ctypes.c_char.from_buffer(shared))
            ctypes.CDLL(self._shim).faults_arm(
                below.encode(),
                action,
                ctypes.c_uint64(call),
                error,
                record.encode(),
                ctypes.c_void_p(counters),
            )
        run()

    def _poll(self, pid: int) -> Mapping:
        ended_pid, status = os.waitpid(pid, os.WNOHANG)
        if not ended_pid:
            return {"status": None, "calls": 0, "fired": False}
        shared = self._shared_memory.pop(pid)
        calls, fired = (int.from_bytes(shared[offset : offset + 8], sys.byteorder) for offset in (0, 8))
        shared.close()
        return {"status": os.waitstatus_to_exitcode(status), "calls": calls, "fired": bool(fired)}


def _open_broken_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def import_modules() -> None:
    """Import all modules that a command could import, except optional ones that are not installed."""
    from pkgutil import walk_packages

    import dbctl

    modules = [module.name for module in walk_packages(dbctl.__path__, "dbctl.", onerror=lambda _name: None)]
    # lancedb itself starts a thread when it is imported, which a forked process would lack; these take most of the time
    modules += ["pyarrow.dataset", "lance_namespace", "deprecation", "asyncio", "tqdm"]
    for name in (*modules, "isal.isal_zlib", "backports.zstd", "rich.table", "rich.console"):
        with suppress(ImportError):
            importlib.import_module(name)


if __name__ == "__main__":
    _Server().serve()
