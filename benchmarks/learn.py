"""``profiles learn`` of a running app with a table of five million rows, against one backup of its database, and its peak memory."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.measure import DBCTL, Area, Result, in_turn, megabytes, process, ratios

ROWS = 5_000_000
MAX_MEGABYTES = 100
HASH = "$2b$04$BwTBjDT2cmtJmWgLoSaJMuE2RbAXAHdqQ8WvNsF2ptXF5dMdUIfDq"
SCHEMA = """create table users (id integer primary key, login text not null unique, email text, password text, created_at text);
create table note (id integer primary key, user_id integer not null, title text not null, body text, score real, created_at text not null)"""
FILL = f"""with recursive n (i) as (select 1 union all select i + 1 from n where i < {ROWS})
insert into note select i, i % 100 + 1, 'note ' || i, 'text of the note ' || i * 7919 % 1000003, i / 3.0,
datetime(1700000000 + i, 'unixepoch') from n"""
#: Sets the password, and adds a row to the large table.
ACTION = """import bcrypt, os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60)
password = bcrypt.hashpw(os.environ["DBCTL_PASSWORD"].encode(), bcrypt.gensalt(4)).decode()
db.execute("update users set password = ? where login = ?", (password, os.environ["DBCTL_LOGIN"]))
db.execute("insert into note values (null, 7, 'a new password', '', 0, '2026-01-01 00:00:00')")
db.commit()"""


def measure() -> Area:
    """Back up and learn in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with closing(sqlite3.connect(folder / "app.db")) as db:
            db.execute("pragma synchronous = off")
            db.executescript(SCHEMA)
            users = [
                (n, f"user{n}", f"user{n}@example.org", HASH, "2026-01-01 00:00:00") for n in range(1, 101)
            ]
            db.executemany("insert into users values (?, ?, ?, ?, ?)", users)
            db.execute(FILL)
            db.commit()
        (folder / "action.py").write_text(ACTION)
        action = shlex.join([sys.executable, "action.py", "app.db"])
        options = ["--login", "user7", "--watch", "0", "--after", action, "--to", "app.toml"]
        learn = [DBCTL, "--url", "app.db", "profiles", "learn", "set-password", *options]
        backup = [DBCTL, "--url", "app.db", "backup", "create", "--repository", "backups"]
        memory = [megabytes(learn, cwd=folder)]

        def clean_up() -> float:
            shutil.rmtree(folder / "backups", ignore_errors=True)
            shutil.rmtree(folder / "app.recordings", ignore_errors=True)
            return 0

        runs = {"learn": process(learn, cwd=folder), "backup": process(backup, cwd=folder), "": clean_up}
        times = in_turn(runs, rounds=5)
    return Area(
        f"Learning from a database with {ROWS:,} rows",
        [
            Result("profiles learn set-password", "backup create", ratios(times, "learn", "backup"), 2),
            Result("memory of the same", "", memory, MAX_MEGABYTES, unit=" MB"),
        ],
    )
