"""``users import`` against hashing alone on all cores, and the waits of an app that writes at the same time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.measure import (
    DBCTL,
    ENVIRONMENT,
    LONGEST_WAIT,
    ROUNDS,
    Area,
    Result,
    Run,
    app_at_work,
    in_turn,
    process,
)
from benchmarks.sample import deployment

USERS = 200
COST = 10  #: of bcrypt in Flashpoint Web
#: Passwords that the peer hashes; its time is extrapolated to all users.
HASHED = 40
#: Users imported with hashes: nothing is hashed, so the app waits only for the writes.
WITH_HASHES = 2_000


def measure() -> Area:
    """Import users into a fresh copy of a sample each time."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        shutil.copytree(deployment(games=2_000, users=100), directory, dirs_exist_ok=True)
        lines = [
            {
                "username": f"bench{n}",
                "email": f"bench{n}@example.org",
                "password": f"pass word {n}",
                "role": "user",
            }
            for n in range(USERS)
        ]
        (directory / "users.json").write_text(json.dumps(lines))
        times = in_turn({"import": _import_into_copy(directory), "hashing": _hash_passwords})
        longest_wait = _measure_longest_wait(directory)
    cores = min(os.cpu_count() or 1, USERS)
    speeds = [
        alone / cores / imported for alone, imported in zip(times["hashing"], times["import"], strict=True)
    ]
    title = f"users import, {USERS} users"
    peer = f"{cores} x the speed of bcrypt in one thread" if cores > 1 else "bcrypt in one thread"
    return Area(
        "Import of users, as a share of the cores' speed",
        [Result(title, peer, speeds, 0.9, least=True), longest_wait],
    )


def _measure_longest_wait(place: Path) -> Result:
    """Import other users with hashes in each round, while an app commits every 2 ms."""
    longest = []
    for number in range(ROUNDS):
        lines = [
            {
                "username": f"brought{number}_{n}",
                "email": f"brought{number}_{n}@example.org",
                "password_hash": "$2b$10$" + "a" * 53,
                "role": "user",
            }
            for n in range(WITH_HASHES)
        ]
        (place / "brought.json").write_text(json.dumps(lines))
        with app_at_work(place / "backend/user.db") as waits:
            subprocess.run(
                [DBCTL, "users", "import", "brought.json"],
                cwd=place,
                env=ENVIRONMENT,
                capture_output=True,
                check=True,
            )
            longest.append(max(waits()) * 1000)
    return Result(
        f"an app's longest wait, {WITH_HASHES:,} users with hashes", "", longest, LONGEST_WAIT, unit=" ms"
    )


def _import_into_copy(place: Path) -> Run:
    database, original = place / "backend/user.db", place / "kept.db"
    shutil.copy(database, original)
    run = process([DBCTL, "users", "import", "users.json"], cwd=place)

    def import_into_copy() -> float:
        shutil.copy(original, database)
        return run()

    return import_into_copy


def _hash_passwords() -> float:
    import bcrypt

    begin = time.perf_counter()
    for n in range(HASHED):
        bcrypt.hashpw(b"pass word %d" % n, bcrypt.gensalt(COST))
    return (time.perf_counter() - begin) * USERS / HASHED
