"""Processor time of a change: ``users create`` with one hash, against a list of the same users."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, Run, in_turn, ratios
from benchmarks.sample import deployment

BARE, LIST, CREATE = "python -c pass", "users list", "users create --generate"
ROUNDS = 21


def measure() -> Area:
    """Compare the processor time of whole processes, which a busy machine changes less than their duration."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / "sample"
        shutil.copytree(deployment(games=2_000, users=100), place)
        numbers = count()
        runs = {
            BARE: _use_processor(lambda: [sys.executable, "-c", "pass"], cwd=place),
            LIST: _use_processor(lambda: [DBCTL, "users", "list"], cwd=place),
            CREATE: _use_processor(
                lambda: [
                    DBCTL,
                    "users",
                    "create",
                    f"new{next(numbers)}",
                    "--email",
                    f"new{next(numbers)}@example.org",
                    "--generate",
                ],
                cwd=place,
            ),
        }
        times = in_turn(runs, rounds=ROUNDS)
    return Area(
        "Processor time of whole processes, without and with a change, its record and one hash of bcrypt",
        [
            Result(LIST, BARE, ratios(times, LIST, BARE), 6.6),
            Result(CREATE, LIST, ratios(times, CREATE, LIST), 2.3),
        ],
    )


def _use_processor(make_words: Callable[[], Sequence[str]], *, cwd: Path) -> Run:
    """Return a run of a process that returns the seconds of processor time that it used."""

    def run() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = ENVIRONMENT | {"XDG_STATE_HOME": str(cwd / "state")}
        subprocess.run(make_words(), cwd=cwd, env=environment, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    return run
