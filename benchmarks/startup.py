"""Start-up time of commands: whole processes against the bare Python interpreter."""

from __future__ import annotations

import sys

from benchmarks.measure import BIN, DBCTL, Area, Result, in_turn, process, ratios
from benchmarks.sample import deployment

BARE = "python -c pass"
SQLITE = "python -c 'import sqlite3'"
UTILS = "sqlite-utils query"
ROUNDS = 21


def measure() -> Area:
    """Time ``--version``, help texts, and a list of about 100 users into a pipe."""
    place = deployment(games=2_000, users=100)
    database = str(place / "backend/user.db")
    runs = {
        BARE: process([sys.executable, "-c", "pass"], cwd=place),
        SQLITE: process([sys.executable, "-c", "import sqlite3"], cwd=place),
        "--version": process([DBCTL, "--version"], cwd=place),
        "--help": process([DBCTL, "--help"], cwd=place),
        "users --help": process([DBCTL, "users", "--help"], cwd=place),
        "users list": process([DBCTL, "users", "list"], cwd=place),
    }
    utils = BIN / "sqlite-utils"
    if utils.exists():
        runs[UTILS] = process([str(utils), "query", database, "select * from users limit 100"], cwd=place)
    times = in_turn(runs, rounds=ROUNDS)
    goals = [
        ("--version", BARE, 1.6),
        ("--help", BARE, 5.5),
        ("users --help", BARE, 8.0),
        ("users list", BARE, 8.0),
        ("users list", SQLITE, 6.0),
        ("users list", UTILS, 1.0),
    ]
    return Area(
        "Start-up, whole processes",
        [
            Result(title, peer, ratios(times, title, peer), goal)
            for title, peer, goal in goals
            if peer in runs
        ],
        () if UTILS in runs else ["sqlite-utils"],
    )
