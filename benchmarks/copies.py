"""``copy --anonymise`` of a million users with five million dependent rows, against the restore of the same backup, and its peak memory."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, in_turn, megabytes, ratios

USERS, ROWS = 1_000_000, 5_000_000
MAX_MEGABYTES = 150
TABLES = """create table members (id integer primary key, login varchar(40) not null unique, email varchar(80) not null unique,
  full_name varchar(60), phone varchar(30), secret_hash varchar(100), joined integer);
create table posts (id integer primary key, member integer not null references members (id), body text, ip varchar(45), created integer);"""
NUMBERS = "with recursive n (i) as (select 1 union all select i + 1 from n where i < {}) insert into {} select {} from n"
MEMBERS = """i, printf('quill%07d', i), printf('ada%d@mill%d.example', i, i), printf('Ada Quillfeather %07d', i), printf('0151-5%07d', i),
  '$2b$10$w/NF7HEP0Nt9PuH5B6W54euI1k5orK9FNMEqM5MfbEGEYf7krkfou', 1700000000 + i"""
POSTS = f"""i, i % {USERS} + 1, printf('Dear all, this is the message number %08d', i), printf('93.%d.%d.%d', i % 250, i / 250 % 250, i / 62500 % 250),
  1700000000 + i"""
PROFILE = """schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["sqlite"]
needs = ["members"]
[users]
table = "members"
id = { column = "id", codec = "autoincrement" }
login = ["username"]
password = { column = "secret_hash", writes = "$2b$10$" }
[users.fields]
username = "login"
email = "email"
[anonymise.databases.main.columns]
"members.full_name" = "name"
"members.phone" = "phone"
"posts.body" = "text"
"posts.ip" = "ip"
"""
CONFIGURATION = """[apps.club]
profile = "club.toml"
[apps.club.databases]
main = "club.db"
[apps.club.backup]
repository = "backups"
"""


def measure() -> Area:
    """Copy and restore the same backup."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "club.toml").write_text(PROFILE)
        (folder / "dbctl.toml").write_text(CONFIGURATION)
        with closing(sqlite3.connect(folder / "club.db")) as db:
            db.executescript(TABLES)
            db.execute(NUMBERS.format(USERS, "members", MEMBERS))
            db.execute(NUMBERS.format(ROWS, "posts", POSTS))
            db.execute("create index posts_of on posts (member)")
            db.commit()
        configured = [DBCTL, "--config", str(folder / "dbctl.toml")]
        subprocess.run([*configured, "backup", "create"], env=ENVIRONMENT, capture_output=True, check=True)
        shares = list[float]()

        def restore() -> float:
            return _run(
                [
                    *configured,
                    "restore",
                    "apply",
                    "latest",
                    "--to",
                    str(folder / "restored.db"),
                    "--replace",
                    "--yes",
                ]
            )

        def copy() -> float:
            words = [
                *configured,
                "copy",
                "--to",
                str(folder / "copy.db"),
                "--anonymise",
                "--replace",
                "--yes",
                "-o",
                "json",
            ]
            begin = time.perf_counter()
            done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=True)
            data = json.loads(done.stdout)["data"]
            shares.append(data["proof_seconds"] / (data["duration"] - data["proof_seconds"]))
            return time.perf_counter() - begin

        times = in_turn({"copy": copy, "restore": restore}, rounds=1)
        words = [*configured, "copy", "--to", str(folder / "copy.db"), "--anonymise", "--replace", "--yes"]
        memory = [megabytes(words)]
    rows = f"{USERS:,} users and {ROWS:,} rows"
    return Area(
        "Anonymised copies",
        [
            Result(f"copy --anonymise of {rows}", "restore apply --to", ratios(times, "copy", "restore"), 2),
            Result("search of the originals", "the rest of the copy", shares, 1),
            Result("memory of the same", "", memory, MAX_MEGABYTES, unit=" MB"),
        ],
    )


def _run(words: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=True)
    return time.perf_counter() - begin
