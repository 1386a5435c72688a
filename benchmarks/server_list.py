"""``users list`` on a server against a script that only reads and prints the same rows; a Tab that completes a login."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from benchmarks.measure import (
    DBCTL,
    ENVIRONMENT,
    TAB_GOAL,
    Area,
    Result,
    differences,
    in_turn,
    process,
    ratios,
)

ROUNDS = 21
USERS = 100
GOAL = 1.5
DATABASE = "dbctl_benchmark_list"
CENTRAL = "postgresql://postgres@127.0.0.1/postgres"
URL = f"postgresql://postgres@127.0.0.1/{DATABASE}"
BARE = "a bare psycopg script"
PYTHON = "python -c pass"
TAB = "Tab after users show m"
SCRIPT = f"""
import psycopg
with psycopg.connect("{URL}") as connection:
    for row in connection.execute(
        "select id, email, name, role, is_active, last_login_at from users order by id limit {USERS}"
    ):
        print(*row, sep="\\t")
"""
TITLE = f"A list of {USERS} users on PostgreSQL, whole processes"


def measure() -> Area:
    """Time both on the server of this machine in a temporary database."""
    place = Path(tempfile.mkdtemp(prefix="dbctl-benchmark-"))
    try:
        _psql(f"create database {DATABASE}")
    except (OSError, subprocess.CalledProcessError):
        shutil.rmtree(place)
        return Area(TITLE, [], ["PostgreSQL"])
    try:
        words = [
            "demo",
            "waqtor",
            "sample",
            "--url",
            f"main={URL}",
            "--users",
            str(USERS),
            "--messages",
            "200",
        ]
        subprocess.run([DBCTL, *words], cwd=place, env=ENVIRONMENT, check=True, capture_output=True)
        (place / "bare.py").write_text(SCRIPT)
        runs = {
            BARE: process([sys.executable, "bare.py"], cwd=place),
            "users list": process([DBCTL, "users", "list", "--limit", str(USERS)], cwd=place / "sample"),
            PYTHON: process([sys.executable, "-c", "pass"], cwd=place),
            TAB: process(
                [DBCTL, "__complete", "bash", "argument:logins", "", "users", "show", "m"],
                cwd=place / "sample",
            ),
        }
        times = in_turn(runs, rounds=ROUNDS)
        return Area(
            TITLE,
            [
                Result("users list", BARE, ratios(times, "users list", BARE), GOAL),
                Result(TAB, f"+ {PYTHON}", differences(times, TAB, PYTHON), TAB_GOAL, unit=" ms"),
            ],
        )
    finally:
        shutil.rmtree(place)
        with suppress(subprocess.CalledProcessError):
            _psql(f"drop database {DATABASE} with (force)")


def _psql(sql: str) -> None:
    subprocess.run(["psql", "-X", "-q", "-d", CENTRAL, "-c", sql], check=True, capture_output=True)
