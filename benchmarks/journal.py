"""What the event store costs: a changing command with and without it, a reading command, and the records of a change alone."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import structs

from benchmarks.measure import DBCTL, Area, Result, Run, in_turn, process, ratios
from dbctl.config.model import AuditConfig, JournalConfig
from dbctl.model import now
from dbctl.services.audit.recorder import Author, OperationRecorder
from dbctl.services.events import runs as run_records
from dbctl.services.events.changes.records import TableChange
from dbctl.services.events.recorder import RunRecorder

ROUNDS = 41
#: Changes that are recorded in a round, and the ratio of the CPU time to that of the same rows without any guarantee.
CHANGES, RECORD_GOAL = 100, 5.0
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
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        records = in_turn(
            {
                "records of a change": _repeat(lambda: record_change(Path(name) / "state")),
                "the same rows": _repeat(lambda: insert_rows(Path(name) / "rows.sqlite")),
            },
            rounds=ROUNDS,
        )
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
            Result(
                "records of a change, CPU",
                "the same rows, 1 connection",
                ratios(records, "records of a change", "the same rows"),
                RECORD_GOAL,
            ),
        ],
    )


def _repeat(record: Callable[[], None]) -> Run:
    """Return a run that records changes, and returns its CPU time."""

    def run() -> float:
        begin = time.process_time()
        for _ in range(CHANGES):
            record()
        return time.process_time() - begin

    return run


def record_change(folder: Path) -> None:
    """Record the beginning of a run, the intent of a change, its outcome, and the end of the run."""
    run = run_records.Run(
        command="data set",
        app="blog",
        config="/etc/dbctl/dbctl.toml",
        arguments=["posts", "1"],
        started_at=now(),
    )
    recorder = RunRecorder(folder, JournalConfig(), run, ["blog"])
    recorder.begin()
    author = Author(user="ann", host="db", command=run.command, config=run.config, run=recorder.run.id)
    outcomes = list[Mapping[str, Any]]()
    settings = AuditConfig()
    operations = OperationRecorder(
        recorder.store, author, settings, app="blog", find_address=str, warn=print, outcomes=outcomes
    )
    changes = [TableChange(database="main", table="posts", rows=1, exact=True, images=())]
    operations.end(operations.begin(["main"], lambda: changes), "committed", ["main"])
    ended = structs.replace(
        recorder.run, result="ok", exit_code=0, ended_at=now(), databases=["main"], rows=1
    )
    recorder.finish(ended, (), outcomes)


def insert_rows(path: Path) -> None:
    """Write rows of the same size in the same three transactions, on a new connection, without locks, hashes or checks."""
    schema = "create table if not exists {} (id integer primary key, app text, command text, record blob)"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("pragma synchronous = normal")
        for tables in (("runs", "outcomes"), ("changes",), ("changes", "runs", "outcomes")):
            connection.execute("begin immediate")
            for table in tables:
                connection.execute(schema.format(table))
                sql = f"insert into {table} (app, command, record) values ('blog', 'data set', zeroblob(500))"
                connection.execute(sql)
            connection.execute("commit")
