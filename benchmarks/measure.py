"""Runs in turn, and ratios of what was timed in the same round, so that a busy machine slows both sides."""

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

#: Odd, so that a median is a round that happened.
ROUNDS = 7
LONGEST_WAIT = 100  #: ms that an app which commits all the while may wait for dbctl
#: What a run may miss its goal by before it fails: other machines, other neighbours.
LEEWAY = 1.5

#: The environment of what is measured, without what makes Python slower or keeps it from keeping bytecode.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "DBCTL")) and name != "COLUMNS"
}
#: Commands of the environment that runs the benchmarks.
BIN = Path(sys.executable).parent
DBCTL = str(BIN / "dbctl")

#: Does something once and returns the seconds it took.
Run = Callable[[], float]
Times = Mapping[str, Sequence[float]]


class Result(NamedTuple):
    """How something fared against a peer."""

    what: str
    peer: str
    ratios: Sequence[float]  #: one per round
    goal: float | None  #: None: it is told, and nothing was promised
    least: bool = False  #: whether the goal is what the ratio must reach, not what it may reach
    unit: str = ""  #: of what is no ratio, because what was promised is none

    @property
    def ratio(self) -> float:
        """The median."""
        return median(self.ratios)

    def within(self, leeway: float) -> bool:
        """Whether the goal is met, or missed by no more than ``leeway`` times."""
        if self.goal is None:
            return True
        return self.ratio * leeway >= self.goal if self.least else self.ratio <= self.goal * leeway


class Area(NamedTuple):
    """What one module measured, and the peers that are not installed here."""

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
    """Run everything once to warm up, then ``rounds`` times one after the other; return the seconds of each."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run())
    return times


def ratios(times: Times, one: str, other: str) -> list[float]:
    """Return how many times as long ``one`` took as ``other``, round by round."""
    return [mine / theirs for mine, theirs in zip(times[one], times[other], strict=True)]


def megabytes(words: Sequence[str], *, cwd: Path | None = None) -> float:
    """Return the most memory that a run held at once; this process, of which it begins as a copy, has to be smaller."""
    started = subprocess.Popen(words, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise RuntimeError(f"{words} failed")
    return used.ru_maxrss * 1024 / 1e6


@contextmanager
def app_at_work(database: Path) -> Iterator[Callable[[], list[float]]]:
    """Run an app that commits every 2 ms; what is given ends it and returns the seconds of each of its commits."""
    script = Path(__file__).with_name("app_at_work.py")
    words = [sys.executable, str(script), str(database)]
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE) as app:

        def ended() -> list[float]:
            app.terminate()
            waits: list[float] = json.loads(app.communicate()[0])
            return waits

        try:
            if app.stdout:
                app.stdout.readline()
            yield ended
        finally:
            app.kill()


def told(area: Area) -> str:
    """Return the table of an area."""
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
