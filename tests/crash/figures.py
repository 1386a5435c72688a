"""How often the tests of this folder try something: a slice for each commit, all of it for ``make torture``.

``DBCTL_TORTURE=0.1`` tries a tenth of all.
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Iterator

TORTURE = float(os.environ.get("DBCTL_TORTURE") or 0)
#: What is drawn by chance is drawn by this; a test that fails shows it, and ``DBCTL_SEED=…`` tries the same again.
SEED = os.environ.get("DBCTL_SEED") or str(random.SystemRandom().randrange(10**9))


def figure(commit: int, nightly: int) -> int:
    """Return how often: as for each commit, or as for ``make torture``."""
    return max(commit, round(TORTURE * nightly))


def tries(least: int, seen: Collection[object], wanted: int = 1) -> Iterator[int]:
    """Yield the numbers of tries: so many, and more until so much is in ``seen``.

    Whether a kill comes in time is also up to what else the machine does, and that is no failure.
    """
    for number in range(20 * least):
        if number >= least and len(seen) >= wanted:
            return
        yield number
    assert len(seen) >= wanted, f"{20 * least} tries, and only {list(seen)} was seen"


def chance(what: str) -> random.Random:
    """Return what draws for one test; a slice draws others each time, so that many commits try what a night tries."""
    print(f"DBCTL_SEED={SEED}")
    return random.Random(f"{SEED} {what}")  # noqa: S311 - moments, no secrets
