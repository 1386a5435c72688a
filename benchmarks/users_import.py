"""``users import``: against the hashing that it cannot do without, spread over the cores, and beside an app that writes."""

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
COST = 10  #: of bcrypt, as Flashpoint Web has it
#: Passwords that the peer hashes; it is told what all of them would have taken.
HASHED = 40
#: Users who bring their hashes along: nothing is hashed, so that what the app waits for is the writing alone.
BROUGHT = 2_000


def measure() -> Area:
    """Import users into a fresh copy of a sample each time."""
    with tempfile.TemporaryDirectory() as name:
        aside = Path(name)
        shutil.copytree(deployment(games=2_000, users=100), aside, dirs_exist_ok=True)
        lines = [
            {
                "username": f"bench{n}",
                "email": f"bench{n}@example.org",
                "password": f"pass word {n}",
                "role": "user",
            }
            for n in range(USERS)
        ]
        (aside / "users.json").write_text(json.dumps(lines))
        times = in_turn({"import": _importing(aside), "hashing": _hashing})
        beside = _beside_a_writer(aside)
    cores = min(os.cpu_count() or 1, USERS)
    speeds = [
        alone / cores / imported for alone, imported in zip(times["hashing"], times["import"], strict=True)
    ]
    what = f"users import, {USERS} users"
    peer = f"{cores} x the speed of bcrypt in one thread" if cores > 1 else "bcrypt in one thread"
    return Area(
        "Import of users, as a share of the cores' speed",
        [Result(what, peer, speeds, 0.9, least=True), beside],
    )


def _beside_a_writer(place: Path) -> Result:
    """Import users with their hashes into a database to which an app commits every 2 ms, others in each round."""
    longest = []
    for number in range(ROUNDS):
        lines = [
            {
                "username": f"brought{number}_{n}",
                "email": f"brought{number}_{n}@example.org",
                "password_hash": "$2b$10$" + "a" * 53,
                "role": "user",
            }
            for n in range(BROUGHT)
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
        f"an app's longest wait, {BROUGHT:,} users with hashes", "", longest, LONGEST_WAIT, unit=" ms"
    )


def _importing(place: Path) -> Run:
    database, kept = place / "backend/user.db", place / "kept.db"
    shutil.copy(database, kept)
    run = process([DBCTL, "users", "import", "users.json"], cwd=place)

    def fresh() -> float:
        shutil.copy(kept, database)
        return run()

    return fresh


def _hashing() -> float:
    import bcrypt

    begin = time.perf_counter()
    for n in range(HASHED):
        bcrypt.hashpw(b"pass word %d" % n, bcrypt.gensalt(COST))
    return (time.perf_counter() - begin) * USERS / HASHED
