"""``integrity check`` over 200,000 games against the ``sqlite3`` shell running the same checks."""

from __future__ import annotations

import shutil

from benchmarks.measure import DBCTL, Area, Result, in_turn, process
from benchmarks.sample import deployment

#: Options of dbctl, and the pragma of SQLite.
CHECKS = {(): "integrity_check", ("--quick",): "quick_check"}
START = "users list"
GOAL = 1.15


def measure() -> Area:
    """Time both checks of the archive, less the start-up of dbctl, which ``users list`` measures."""
    shell = shutil.which("sqlite3")
    title = "Integrity of 200,000 games: (dbctl - its start-up) / sqlite3"
    if not shell:
        return Area(title, [], ["sqlite3 (the shell)"])
    place = deployment(games=200_000, users=100)
    results = []
    for words, pragma in CHECKS.items():
        name, peer = " ".join(["integrity check", *words]), f"{pragma}, foreign_key_check"
        script = f"pragma {pragma}; pragma foreign_key_check"
        times = in_turn(
            {
                START: process([DBCTL, "users", "list"], cwd=place),
                name: process([DBCTL, "integrity", "check", "--db", "flashpoint", *words], cwd=place),
                peer: process([shell, "-readonly", "Data/flashpoint.sqlite", script], cwd=place),
            }
        )
        rounds = zip(times[name], times[START], times[peer], strict=True)
        results.append(
            Result(name, peer, [(dbctl - start) / sqlite for dbctl, start, sqlite in rounds], GOAL)
        )
    return Area(title, results)
