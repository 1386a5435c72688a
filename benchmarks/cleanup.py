"""``sessions cleanup`` while an app writes every 2 ms: how long the app waits, and the cost of batches."""

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
SINGLE_TRANSACTION = "--fast: one transaction"


class CleanupRun(NamedTuple):
    """One cleanup while the app runs."""

    seconds: float  #: of the whole command
    longest: float  #: duration of the slowest commit of the app, in seconds
    usual: float  #: the 99th percentile of its commits, in seconds
    alone: float  #: duration of its slowest commit without dbctl, in seconds


def measure() -> Area:
    """Run the cleanup in batches and in one transaction in turn, each on a new copy."""
    closed = _run_in_turn(sample.plays(), "abandoned-plays", sample.ABANDONED)
    pruned = _run_in_turn(sample.attempts(), "login-attempts", sample.OLD)
    return Area(
        "Cleanup while an app commits every 2 ms: 50,000 plays of 1,000,000; 1,000,000 attempts of 5,000,000",
        [
            *_create_results("plays", closed, longest=LONGEST_WAIT, total=6),
            *_create_results("attempts", pruned, longest=400),
        ],
    )


def _create_results(
    subject: str,
    rounds: Sequence[tuple[CleanupRun, CleanupRun]],
    *,
    longest: float,
    total: float | None = None,
) -> Iterator[Result]:
    yield Result(
        f"{subject}: longest wait", "", [run.longest * 1000 for run, _ in rounds], longest, unit=" ms"
    )
    yield Result(f"{subject}: 99 of 100 waits", "", [run.usual * 1000 for run, _ in rounds], None, unit=" ms")
    yield Result(
        f"{subject}: longest wait", "alone", [run.alone * 1000 for run, _ in rounds], None, unit=" ms"
    )
    yield Result(
        f"{subject}: longest wait",
        SINGLE_TRANSACTION,
        [run.longest / single.longest for run, single in rounds],
        1 / 15,
    )
    yield Result(
        f"{subject}: whole command",
        SINGLE_TRANSACTION,
        [run.seconds / single.seconds for run, single in rounds],
        total,
    )


def _run_in_turn(place: Path, rule: str, due: int) -> list[tuple[CleanupRun, CleanupRun]]:
    return [(_run_cleanup(place, rule, due), _run_cleanup(place, rule, due, "--fast")) for _ in range(ROUNDS)]


def _run_cleanup(place: Path, rule: str, due: int, *words: str) -> CleanupRun:
    command = [DBCTL, "sessions", "cleanup", "--rule", rule, "--timeout", "60", "-o", "json", *words]
    with sample.copy_sample(place) as copy:
        with app_at_work(copy / "backend/user.db") as waits:
            time.sleep(3)
            alone = max(waits())
        with app_at_work(copy / "backend/user.db") as waits:
            begin = time.perf_counter()
            result = subprocess.run(command, cwd=copy, env=ENVIRONMENT, capture_output=True, check=True)
            seconds = time.perf_counter() - begin
            waits_sorted = sorted(waits())
    (rule_result,) = json.loads(result.stdout)["data"]["rules"]
    if rule_result["changed"] != due:
        raise RuntimeError(f"{rule} changed {rule_result['changed']} rows instead of {due}")
    return CleanupRun(
        seconds, longest=waits_sorted[-1], usual=waits_sorted[len(waits_sorted) * 99 // 100], alone=alone
    )
