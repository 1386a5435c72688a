"""The duration of a report of 20 apps with a year of history."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measure import DBCTL, Area, Result, in_turn, process
from tests.year_of_runs import create_apps

APPS, DAYS, ROUNDS = 20, 365, 5
#: Seconds of the whole process.
GOAL = 3.0


def measure() -> Area:
    """Time the command that writes the page."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # on a disk
        folder = Path(name)
        create_apps(folder, [f"app{index}" for index in range(APPS)], days=DAYS)
        words = ["env", f"DBCTL_STATE={folder / 'state'}", DBCTL, "report", "--since", "1y", "--html"]
        times = in_turn({"report": process([*words, "report.html"], cwd=folder)}, rounds=ROUNDS)
    return Area("Report", [Result("report --html", "3 seconds", times["report"], GOAL, unit=" s")])
