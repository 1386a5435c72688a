"""What the journal costs: a changing command with and without it, and a reading command."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.measure import DBCTL, Area, Result, in_turn, process, ratios

ROUNDS = 41
#: Milliseconds that the journal may add to a changing command, and the ratio for a reading command.
GOAL, READING_GOAL = 5.0, 1.02
CHANGE = [DBCTL, "data", "set", "posts", "1", "title=b"]
READ = [DBCTL, "data", "rows", "posts"]


def measure() -> Area:
    """Time commands on a SQLite file with one row."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # on a disk
        folder = Path(name)
        with closing(sqlite3.connect(folder / "blog.db")) as connection:
            connection.executescript(
                "create table posts (id integer primary key, title text); insert into posts values (1, 'a');"
            )
        (folder / "dbctl.toml").write_text('[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n')
        recorded, disabled = ["env", f"DBCTL_STATE={folder / 'state'}"], ["env", "DBCTL_STATE=off"]
        runs = {
            "data set": process([*recorded, *CHANGE], cwd=folder),
            "data set without journal": process([*disabled, *CHANGE], cwd=folder),
            "data rows": process([*recorded, *READ], cwd=folder),
            "data rows without journal": process([*disabled, *READ], cwd=folder),
        }
        times = in_turn(runs, rounds=ROUNDS)
    pairs = zip(times["data set"], times["data set without journal"], strict=True)
    added = [(recorded_time - disabled_time) * 1000 for recorded_time, disabled_time in pairs]
    return Area(
        "Journal of runs",
        [
            Result("data set", "DBCTL_STATE=off", added, GOAL, unit=" ms"),
            Result(
                "data rows",
                "DBCTL_STATE=off",
                ratios(times, "data rows", "data rows without journal"),
                READING_GOAL,
            ),
        ],
    )
