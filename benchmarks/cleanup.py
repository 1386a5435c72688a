"""``sessions cleanup`` beside an app that writes every 2 ms: how long the app waits, and what being gentle costs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import sample
from benchmarks.measure import DBCTL, ENVIRONMENT, LONGEST_WAIT, Area, Result, app_at_work

ROUNDS = 3
ONE = "--fast: one transaction"


class Ran(NamedTuple):
    """One run beside the app."""

    seconds: float  #: of the whole command
    longest: float  #: seconds that the slowest commit of the app took
    usual: float  #: seconds that 99 of 100 of its commits stayed below
    alone: float  #: seconds that its slowest commit took before, without dbctl


def measure() -> Area:
    """Run both ways in turn, each on a fresh copy."""
    closed = _in_turn(sample.plays(), "abandoned-plays", sample.ABANDONED)
    pruned = _in_turn(sample.attempts(), "login-attempts", sample.OLD)
    return Area(
        "Cleanup beside an app that commits every 2 ms: 50,000 plays of 1,000,000; 1,000,000 attempts of 5,000,000",
        [
            *_results("plays", closed, longest=LONGEST_WAIT, total=6),
            *_results("attempts", pruned, longest=400),
        ],
    )


def _results(
    what: str, rounds: Sequence[tuple[Ran, Ran]], *, longest: float, total: float | None = None
) -> Iterator[Result]:
    yield Result(f"{what}: longest wait", "", [run.longest * 1000 for run, _ in rounds], longest, unit=" ms")
    yield Result(f"{what}: 99 of 100 waits", "", [run.usual * 1000 for run, _ in rounds], None, unit=" ms")
    yield Result(f"{what}: longest wait", "alone", [run.alone * 1000 for run, _ in rounds], None, unit=" ms")
    yield Result(f"{what}: longest wait", ONE, [run.longest / one.longest for run, one in rounds], 1 / 15)
    yield Result(f"{what}: whole command", ONE, [run.seconds / one.seconds for run, one in rounds], total)


def _in_turn(place: Path, rule: str, due: int) -> list[tuple[Ran, Ran]]:
    return [(_run(place, rule, due), _run(place, rule, due, "--fast")) for _ in range(ROUNDS)]


def _run(place: Path, rule: str, due: int, *words: str) -> Ran:
    command = [DBCTL, "sessions", "cleanup", "--rule", rule, "--timeout", "60", "-o", "json", *words]
    with sample.copied(place) as copy:
        with app_at_work(copy / "backend/user.db") as waits:
            time.sleep(3)
            alone = max(waits())
        with app_at_work(copy / "backend/user.db") as waits:
            begin = time.perf_counter()
            answer = subprocess.run(command, cwd=copy, env=ENVIRONMENT, capture_output=True, check=True)
            seconds = time.perf_counter() - begin
            taken = sorted(waits())
    (told,) = json.loads(answer.stdout)["data"]["rules"]
    if told["changed"] != due:
        raise RuntimeError(f"{rule} changed {told['changed']} rows instead of {due}")
    return Ran(seconds, longest=taken[-1], usual=taken[len(taken) * 99 // 100], alone=alone)
