"""Number of runs of the tests in this folder: a sample for each commit, all of them for ``make torture``.

``DBCTL_TORTURE=0.1`` runs a tenth of all.
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Iterator
from itertools import count

TORTURE = float(os.environ.get("DBCTL_TORTURE") or 0)
#: The seed of all random choices; a failing test prints it, and ``DBCTL_SEED=…`` repeats the same choices.
SEED = os.environ.get("DBCTL_SEED") or str(random.SystemRandom().randrange(10**9))


def choose_count(commit: int, nightly: int) -> int:
    """Return the number of runs: for each commit, or for ``make torture``."""
    return max(commit, round(TORTURE * nightly))


def choose_steps(name: str, stride: int) -> Iterator[int]:
    """Yield, without end, the steps of a command before which it is killed: each of ``make torture``, otherwise every ``stride`` th."""
    if TORTURE >= 1:
        return count(1)
    return count(create_rng(name).randint(1, stride), stride)


def retry_until(min_tries: int, outcomes: Collection[object], required: int = 1) -> Iterator[int]:
    """Yield indexes of runs: at least ``min_tries``, and more until ``outcomes`` has the required size.

    Whether a kill is in time depends on the load of the machine, so a late one is no failure.
    """
    for number in range(20 * min_tries):
        if number >= min_tries and len(outcomes) >= required:
            return
        yield number
    assert len(outcomes) >= required, f"{20 * min_tries} runs, but only the outcomes {list(outcomes)}"


def create_rng(name: str) -> random.Random:
    """Return the random generator of one test; every run draws other samples, so that many commits cover all cases."""
    print(f"DBCTL_SEED={SEED}")
    return random.Random(f"{SEED} {name}")  # noqa: S311 - random delays, not secrets
