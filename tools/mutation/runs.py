"""Runs of tests in forked processes, each in a copy of the tree that may contain a mutant."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

ROOT = Path(__file__).parents[2]
#: What a copy of the tree needs for the tests.
COPIED = (
    "dbctl",
    "tests",
    "migrations",
    "completions",
    "man",
    "docs",
    "tools",
    "pyproject.toml",
    "README.md",
)
#: Imported once before the first run: every run begins with a fork of this process.
PRELOADED = (
    "hypothesis",
    "jsonschema",
    "msgspec",
    "psycopg",
    "pymysql",
    "pytest",
    "rich",
    "sqlite_utils",
    "typer",
)
#: Prints the folder of servers that runs share, and stops them at the end of its input, also if this process is killed.
HOLD_SERVERS = """
import os, sys
from tests import servers
servers.begin_sharing()
print(os.environ[servers.SHARED], flush=True)
sys.stdin.read()
"""


class Coverage(NamedTuple):
    """What the tests of an area execute, when nothing is changed."""

    seconds: dict[str, float]  #: duration by test function
    tests: dict[str, dict[int, list[str]]]  #: test functions by file, relative to the tree, and line


def copy_tree(folder: Path) -> Path:
    """Copy the tree into an empty folder, without compiled files of mutants."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    subprocess.run(
        [sys.executable, "-m", "compileall", "-qq", folder / "dbctl", folder / "tests"], check=True
    )
    return folder


def preload() -> None:
    """Import the packages that most tests use, so that a run does not."""
    for name in PRELOADED:
        __import__(name)


@contextmanager
def share_servers(tree: Path) -> Iterator[None]:
    """Let all runs use the servers that the measurement of an area starts: a start takes longer than most tests."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", HOLD_SERVERS],
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a signal to all processes of a terminal or of timeout(1) must not end it before the servers
        ) as holder
    ):
        os.environ["DBCTL_TEST_SHARED"] = cast("IO[str]", holder.stdout).readline().strip()
        try:
            yield
        finally:
            cast("IO[str]", holder.stdin).close()


def measure_coverage(tree: Path, sources: Sequence[str], tests: Sequence[str], result: Path) -> Coverage:
    """Run tests once, and return which of them execute each line of the sources.

    Raises:
        RuntimeError: a test fails without a mutant.
    """

    def run() -> int:
        import coverage
        import pytest

        measured = coverage.Coverage(data_file=None, source=[str(tree / name) for name in _folders(sources)])
        recorder = _Recorder(measured)
        measured.start()
        status = pytest.main(["-q", "-p", "no:cacheprovider", "-n0", *tests], plugins=[recorder])
        measured.stop()
        lines: dict[str, dict[int, list[str]]] = {}
        data = measured.get_data()
        for file in data.measured_files():
            lines[str(Path(file).relative_to(tree))] = dict(data.contexts_by_lineno(file))
        result.write_text(json.dumps([recorder.seconds, lines]))
        return status

    if status := fork(tree, run, 3600):
        raise RuntimeError(f"the tests fail without a mutant (status {status})")
    seconds, files = json.loads(result.read_text())
    tests_by_line = {
        file: {int(line): [name for name in names if name] for line, names in lines.items()}
        for file, lines in files.items()
    }
    return Coverage(seconds, tests_by_line)


def run_tests(tree: Path, tests: Sequence[str], limit: float) -> bool:
    """Return whether tests pass in at most ``limit`` seconds."""

    def run() -> int:
        import pytest

        return pytest.main(["-qx", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-n0", *tests])

    return fork(tree, run, limit) == 0


def fork(tree: Path, run: Callable[[], int], limit: float) -> int:
    """Run a function in a new process in ``tree``; return its status, or -1 after ``limit`` seconds."""
    child = os.fork()
    if not child:
        os.setsid()  # so that its children end with it
        # Servers of tests stop at exit, also after a time limit; what this process has registered itself stays its own.
        atexit._clear()  # noqa: SLF001 - no public function does this
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        status = 1
        try:
            os.chdir(tree)
            os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
            sys.dont_write_bytecode = True
            sys.path.insert(0, str(tree))
            output = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(output, descriptor)
            status = run()
        finally:
            atexit._run_exitfuncs()  # noqa: SLF001 - os._exit skips them
            os._exit(int(status))
    deadline = time.monotonic() + limit
    while True:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(code)
            break
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGTERM)
            time.sleep(5)
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            status = -1
            break
        time.sleep(0.02)
    return status


def _folders(sources: Sequence[str]) -> list[str]:
    return sorted({name if not name.endswith(".py") else str(Path(name).parent) for name in sources})


class _Recorder:
    """Passes to the measurement which test function runs, fixtures included, and how long it takes."""

    def __init__(self, measured: Any) -> None:
        self._measured = measured
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._measured.switch_context(nodeid.partition("[")[0])

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid.partition("[")[0]] += report.duration
