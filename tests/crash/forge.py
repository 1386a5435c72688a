"""Where crash tests start dbctl: a process that has it loaded already, and forks a child for each command.

A child begins in the middle of what an interpreter's start would take half a second for, so a random moment is one of
the work itself, and a thousand of them are soon tried. It is a process as any other: it is killed by the kernel, and
what it leaves is what a killed dbctl leaves. Where there is a C compiler, the calls of a child that change files can be
counted, made to fail, be its last, or be written down: ``faults.c`` stands between it and the kernel.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import mmap
import os
import random
import resource
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

ROOT = Path(__file__).parents[2]
CLEAN = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
SOURCE = Path(__file__).with_name("faults.c")
#: What is done at the chosen call, as ``faults.c`` numbers it.
ACTIONS = {"count": 1, "kill": 2, "kill half-way": 3, "fail once": 4, "fail on": 5, "record": 6}
TORN_OFF = Path("torn off")  #: a standard output whose reader went away
FOR_WRITING = os.O_WRONLY | os.O_CREAT
SECONDS = 120  #: that a command may take


class Job:
    """One command that runs, with what ``subprocess.Popen`` has of it."""

    def __init__(self, forge: Forge, pid: int, place: Path) -> None:
        self._forge, self.pid, self._place = forge, pid, place
        self.returncode: int | None = None
        self.calls = 0  #: that could have been chosen
        self.fired = False  #: whether the chosen one came

    def poll(self) -> int | None:
        if self.returncode is None:
            told = self._forge.ask({"ended": self.pid})
            self.returncode, self.calls, self.fired = told["status"], told["calls"], told["fired"]
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)  # it stays a zombie until it is asked about, so the number is its own

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = SECONDS) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                pytest.fail("it does not end")
            time.sleep(0.0005)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float = SECONDS) -> tuple[bytes, bytes]:
        self.wait(timeout)
        told = [self._read(name) for name in ("out", "err")]
        shutil.rmtree(self._place, ignore_errors=True)
        return told[0], told[1]

    def _read(self, name: str) -> bytes:
        try:
            return (self._place / name).read_bytes()
        except FileNotFoundError:  # it went elsewhere
            return b""


class Forge:
    """The process that forks."""

    def __init__(self, shim: Path | None) -> None:
        self.shim = shim
        self._place = Path(tempfile.mkdtemp(prefix="dbctl-forge-"))
        self._child = subprocess.Popen(
            [sys.executable, __file__],
            env=CLEAN | ({"LD_PRELOAD": str(shim)} if shim else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._number = 0

    def ask(self, what: Mapping[str, object]) -> dict:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps(what).encode() + b"\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        assert line, "the process that forks has ended"
        return json.loads(line)

    def begin(
        self,
        folder: Path,
        *words: object,
        fault: tuple[str, int, int] | None = None,
        below: Path | None = None,
        record: Path | None = None,
        more: Mapping[str, str] | None = None,
        umask: int = 0o022,
        limit: int = 0,
        closed: Sequence[int] = (),
        out: Path | None = None,
    ) -> Job:
        """Start ``dbctl`` with these words in a folder.

        Args:
            folder: its working directory.
            words: of the command line.
            fault: what happens at which call, counted from 1, and the number of the error.
            below: the calls that count are about what is there.
            record: where they are written down.
            more: variables of its environment.
            umask: what it may not give to others.
            closed: the standard descriptors that it does not get.
            out: where its standard output goes, if not to the answer of ``Job.communicate``.
            limit: bytes that no file which it writes may exceed; 0 is none.
        """
        self._number += 1
        place = self._place / str(self._number)
        place.mkdir()
        action, at, error = fault or (("record", 0, 0) if record else ("count", 0, 0))
        arm = [ACTIONS[action], at, error, str(below or folder), str(record or "")] if self.shim else None
        told = self.ask(
            {
                "begin": [str(word) for word in words],
                "folder": str(folder),
                "place": str(place),
                "arm": arm,
                "environment": CLEAN | {"TMPDIR": tempfile.gettempdir()} | dict(more or {}),
                "umask": umask,
                "limit": limit,
                "closed": list(closed),
                "out": str(out or place / "out"),
            }
        )
        return Job(self, told["pid"], place)

    def stop(self) -> None:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.close()
        self._child.wait(timeout=30)
        self._child.stdout.close()
        shutil.rmtree(self._place, ignore_errors=True)


@functools.cache
def _compiled() -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    place = Path(tempfile.mkdtemp(prefix="dbctl-faults-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    made = place / "faults.so"
    words = [compiler, "-shared", "-fPIC", "-O2", "-o", made, SOURCE, "-ldl"]
    done = subprocess.run(words, capture_output=True, check=False)
    return made if done.returncode == 0 else None


@functools.cache
def forge() -> Forge:
    """Return the process that forks for the tests of this one."""
    made = Forge(_compiled())
    atexit.register(made.stop)
    return made


def begin(folder: Path, *words: object, **more: object) -> Job:
    """Start ``dbctl``; the words and the rest are those of ``Forge.begin``."""
    return forge().begin(folder, *words, **more)  # type: ignore[arg-type]


def end(job: Job) -> tuple[int, object]:
    """Return how it ended, and what it answered: its JSON, or what it wrote to standard error."""
    out, err = job.communicate()
    assert job.returncode is not None
    return job.returncode, json.loads(out) if out else err


def done(folder: Path, *words: object, **more: object) -> tuple[int, object]:
    """Run ``dbctl`` to its end, for an answer in JSON."""
    return end(begin(folder, *words, "-o", "json", **more))


class Moments:
    """Random moments of a command; they learn how long it takes, which differs with what else the machine does."""

    def __init__(self, draw: random.Random, lasts: float) -> None:
        self._draw, self._lasts = draw, lasts
        self.tries = self.in_time = 0

    def strike(self, job: Job, number: int = signal.SIGKILL) -> None:
        """Send a signal to a job at one of them."""
        begun = time.monotonic()
        moment = self._draw.uniform(0, self._lasts)
        while job.poll() is None and time.monotonic() < begun + moment:
            time.sleep(0.0005)
        passed = time.monotonic() - begun
        self.tries += 1
        if job.returncode is not None:
            self._lasts = passed
        else:
            self.in_time += 1
            self._lasts = max(self._lasts, passed * 1.1)
        job.send_signal(number)

    def over(self) -> None:
        """Fail where hardly any came in time."""
        print(f"{self.in_time} of {self.tries} in time")
        assert self.in_time >= self.tries // 4


def want_faults() -> None:
    """Skip a test where no call can be made to fail."""
    if forge().shim is None:
        pytest.skip("no C compiler (cc) for glibc on Linux: calls can be neither counted nor made to fail")


# In the process that forks ------------------------------------------------------------------------------------------


class _Serving:
    def __init__(self) -> None:
        self._shim = os.environ.pop(
            "LD_PRELOAD", None
        )  # else the programs that dbctl starts would have it, too
        self._told = dict[int, mmap.mmap]()

    def serve(self) -> None:
        _load()
        for line in sys.stdin.buffer:
            asked = json.loads(line)
            answer = self._begin(asked) if "begin" in asked else self._ended(asked["ended"])
            sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
            sys.stdout.buffer.flush()

    def _begin(self, asked: Mapping) -> Mapping:
        shared = mmap.mmap(-1, mmap.PAGESIZE)
        if pid := os.fork():
            self._told[pid] = shared
            return {"pid": pid}
        try:
            self._become(asked, shared)
        except KeyboardInterrupt:  # before dbctl listens, by which an interpreter would end itself so
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os._exit(99)

    def _become(self, asked: Mapping, shared: mmap.mmap) -> None:
        os.setsid()  # else Ctrl-C of whoever runs the tests would reach it
        os.chdir(asked["folder"])
        os.umask(asked["umask"])
        if asked["limit"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["limit"], asked["limit"]))
        os.environ.clear()
        os.environ.update(asked["environment"])
        tempfile.tempdir = None
        places = (os.devnull, asked["out"], os.path.join(asked["place"], "err"))  # noqa: PTH118 - a text
        for number, name in enumerate(places):
            made = _torn_off() if name == str(TORN_OFF) else os.open(name, number and FOR_WRITING, 0o600)
            os.dup2(made, number)
            os.close(made)
        # what is buffered of the pipe to the tests is not this child's to write or read
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        for number in asked["closed"]:
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)  # as the interpreter begins then
            os.close(number)
        sys.argv = ["dbctl", *asked["begin"]]
        from dbctl.__main__ import run

        if asked["arm"]:
            action, at, error, below, record = asked["arm"]
            place = ctypes.addressof(ctypes.c_char.from_buffer(shared))
            ctypes.CDLL(self._shim).faults_arm(
                below.encode(), action, ctypes.c_uint64(at), error, record.encode(), ctypes.c_void_p(place)
            )
        run()

    def _ended(self, pid: int) -> Mapping:
        found, status = os.waitpid(pid, os.WNOHANG)
        if not found:
            return {"status": None, "calls": 0, "fired": False}
        shared = self._told.pop(pid)
        calls, fired = (int.from_bytes(shared[at : at + 8], sys.byteorder) for at in (0, 8))
        shared.close()
        return {"status": os.waitstatus_to_exitcode(status), "calls": calls, "fired": bool(fired)}


def _torn_off() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def _load() -> None:
    """Import what a command would import, and leave out what this machine has not installed."""
    from importlib import import_module
    from pkgutil import walk_packages

    import dbctl

    ours = [one.name for one in walk_packages(dbctl.__path__, "dbctl.", onerror=lambda _name: None)]
    for name in (*ours, "isal.isal_zlib", "backports.zstd", "rich.table", "rich.console"):
        with suppress(ImportError):
            import_module(name)


if __name__ == "__main__":
    _Serving().serve()
