"""Interleaved runs and the ratios of their times, so that a busy machine slows both sides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

#: Odd, so that the median is the time of one round.
ROUNDS = 7
LONGEST_WAIT = 100  #: milliseconds that a commit of a running app may wait for dbctl
TAB_GOAL = 150  #: milliseconds that a Tab in a shell may take longer than an interpreter that does nothing
#: Factor by which a result may miss its goal before the run fails; machines differ.
LEEWAY = 1.5

#: The environment of measured processes, without variables that slow Python or prevent cached bytecode.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "DBCTL")) and name != "COLUMNS"
}
#: Commands of the virtual environment that runs the benchmarks.
BIN = Path(sys.executable).parent
DBCTL = str(BIN / "dbctl")

#: Starts a process, and prints its peak memory in KiB. The peak of a process is at least that of the process which
#: started it, so a small one starts it.
_LAUNCHER = """import os, subprocess, sys
started = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(started.pid, 0)
print(used.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))"""

#: One run; returns its duration in seconds.
Run = Callable[[], float]
Times = Mapping[str, Sequence[float]]


class Result(NamedTuple):
    """A measured command compared with its peer."""

    what: str
    peer: str
    ratios: Sequence[float]  #: one per round
    goal: float | None  #: None: reported without a goal
    least: bool = False  #: whether the goal is a minimum
    unit: str = ""  #: the unit of a value that is not a ratio

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return median(self.ratios)

    def within(self, leeway: float) -> bool:
        """Whether the goal is met, or missed by no more than ``leeway`` times."""
        if self.goal is None:
            return True
        return self.ratio * leeway >= self.goal if self.least else self.ratio <= self.goal * leeway


class Area(NamedTuple):
    """The results of one module, and its peers that are not installed."""

    title: str
    results: Sequence[Result]
    skipped: Sequence[str] = ()


def process(words: Sequence[str], *, cwd: Path, feed: str = "") -> Run:
    """Return a run of a whole process, from its start until its output has been read from a pipe."""

    def run() -> float:
        begin = time.perf_counter()
        subprocess.run(words, cwd=cwd, env=ENVIRONMENT, input=feed.encode(), capture_output=True, check=True)
        return time.perf_counter() - begin

    return run


def in_turn(runs: Mapping[str, Run], *, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Run everything once to warm up, then ``rounds`` times in turn; return the seconds of each run."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run())
    return times


def differences(times: Times, measured: str, reference: str) -> list[float]:
    """Return how many milliseconds longer the first took in each round."""
    return [1000 * (a - b) for a, b in zip(times[measured], times[reference], strict=True)]


def ratios(times: Times, measured: str, reference: str) -> list[float]:
    """Return the ratio of both times for each round."""
    return [
        seconds / reference_seconds
        for seconds, reference_seconds in zip(times[measured], times[reference], strict=True)
    ]


def megabytes(words: Sequence[str], *, cwd: Path | None = None) -> float:
    """Return the peak memory of a process in megabytes."""
    launcher = [sys.executable, "-c", _LAUNCHER, *words]
    done = subprocess.run(launcher, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True)
    return int(done.stdout) * 1024 / 1e6


@contextmanager
def app_at_work(database: Path) -> Iterator[Callable[[], list[float]]]:
    """Run an app that commits every 2 ms; yield a function that stops it and returns the duration of each commit."""
    script = Path(__file__).with_name("app_at_work.py")
    words = [sys.executable, str(script), str(database)]
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE) as app:

        def stop_app() -> list[float]:
            app.terminate()
            waits: list[float] = json.loads(app.communicate()[0])
            return waits

        try:
            if app.stdout:
                app.stdout.readline()
            yield stop_app
        finally:
            app.kill()


def format_area(area: Area) -> str:
    """Return the results of an area as a table."""
    rows = [("what", "against", "ratio", "min-max", "goal", "")]
    for result in area.results:
        verdict, goal = "", ""
        if result.goal is not None:
            verdict = "met" if result.within(1) else "missed" if result.within(LEEWAY) else "FAILED"
            goal = f"{'>=' if result.least else '<='} {result.goal:.3g}{result.unit}"
        digits = 0 if result.unit else 2
        spread = f"{min(result.ratios):.{digits}f}-{max(result.ratios):.{digits}f}"
        rows.append(
            (result.what, result.peer, f"{result.ratio:.{digits}f}{result.unit}", spread, goal, verdict)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += [f"skipped: {peer} is not installed" for peer in area.skipped]
    return "\n".join([area.title, *(f"  {line}" for line in lines), ""])
