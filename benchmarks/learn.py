"""``profiles learn`` of a running app with a table of five million rows, against one backup of its database, and its peak memory."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.measure import DBCTL, Area, Result, in_turn, megabytes, process, ratios
from tests import servers

ROWS = 5_000_000
ROUNDS = 5
MAX_RATIO, MAX_MEGABYTES = 2, 100
HASH = "$2b$04$BwTBjDT2cmtJmWgLoSaJMuE2RbAXAHdqQ8WvNsF2ptXF5dMdUIfDq"
SCHEMA = """create table users (id {key}, login text not null unique, email text, password text, created_at text);
create table note (id {key}, user_id integer not null, title text not null, body text, score double precision, created_at text not null)"""
USERS = f"insert into users (login, email, password, created_at) select 'user' || i, 'user' || i || '@example.org', '{HASH}', '2026-01-01 00:00:00' from "
NOTES = """insert into note (user_id, title, body, score, created_at)
select i % 100 + 1, 'note ' || i, 'text of the note ' || i * 7919 % 1000003, i / 3.0, {time} from """
#: Numbers up to a limit.
SQLITE_NUMBERS = (
    "(with recursive n (i) as (select 1 union all select i + 1 from n where i < {0}) select i from n)"
)
POSTGRESQL_NUMBERS = "generate_series(1::int8, {0}) i"
#: Sets the password, and adds a row to the large table.
ACTION = """import bcrypt, os, sys
if "://" in sys.argv[1]:
    import psycopg
    db, mark = psycopg.connect(sys.argv[1]), "%s"
else:
    import sqlite3
    db, mark = sqlite3.connect(sys.argv[1], timeout=60), "?"
password = bcrypt.hashpw(os.environ["DBCTL_PASSWORD"].encode(), bcrypt.gensalt(4)).decode()
db.execute(f"update users set password = {mark} where login = {mark}", (password, os.environ["DBCTL_LOGIN"]))
db.execute("insert into note (user_id, title, body, score, created_at) values (7, 'a new password', '', 0, '2026-01-01 00:00:00')")
db.commit()"""


def measure() -> Area:
    """Back up and learn in turn, on each engine of this machine."""
    results = list[Result]()
    for name, create in (("SQLite", _create_file), ("PostgreSQL", _create_server_database)):
        with tempfile.TemporaryDirectory() as folder, create(Path(folder)) as address:
            results += _compare(name, address, Path(folder))
    return Area(f"Learning from a database with {ROWS:,} rows", results)


def _compare(name: str, address: str, folder: Path) -> Sequence[Result]:
    (folder / "action.py").write_text(ACTION)
    action = shlex.join([sys.executable, "action.py", address])
    options = ["--login", "user7", "--watch", "0", "--after", action, "--to", "app.toml"]
    learn = [DBCTL, "--url", address, "profiles", "learn", "set-password", *options]
    backup = [DBCTL, "--url", address, "backup", "create", "--repository", "backups"]
    memory = [megabytes(learn, cwd=folder)]

    def clean_up() -> float:
        shutil.rmtree(folder / "backups", ignore_errors=True)
        shutil.rmtree(folder / "app.recordings", ignore_errors=True)
        return 0

    runs = {"learn": process(learn, cwd=folder), "backup": process(backup, cwd=folder), "": clean_up}
    times = in_turn(runs, rounds=ROUNDS)
    command = f"profiles learn set-password, {name}"
    return [
        Result(command, "backup create", ratios(times, "learn", "backup"), MAX_RATIO),
        Result("memory of the same", "", memory, MAX_MEGABYTES, unit=" MB"),
    ]


def _fill(key: str, numbers: str, time: str) -> Iterator[str]:
    yield from SCHEMA.format(key=key).split(";")
    yield USERS + numbers.format(100)
    yield NOTES.format(time=time) + numbers.format(ROWS)


@contextmanager
def _create_file(folder: Path) -> Iterator[str]:
    with closing(sqlite3.connect(folder / "app.db")) as db:
        db.execute("pragma synchronous = off")
        for statement in _fill(
            "integer primary key", SQLITE_NUMBERS, "datetime(1700000000 + i, 'unixepoch')"
        ):
            db.execute(statement)
        db.commit()
    yield "app.db"


@contextmanager
def _create_server_database(_folder: Path) -> Iterator[str]:
    time = "to_char(to_timestamp(1700000000 + i), 'YYYY-MM-DD HH24:MI:SS')"
    with servers.postgresql_database(encoding="UTF8") as url:
        with closing(servers.connection(url)) as db:
            for statement in _fill("serial primary key", POSTGRESQL_NUMBERS, time):
                db.execute(statement)
        yield servers.text(url, schema=False)
