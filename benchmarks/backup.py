"""Backups and restores of one large SQLite database, against the programs that one would use instead."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import sample
from benchmarks.measure import (
    DBCTL,
    ENVIRONMENT,
    LONGEST_WAIT,
    Area,
    Result,
    Run,
    app_at_work,
    in_turn,
    megabytes,
    process,
    ratios,
)

ROUNDS = 5
#: Of ``.backup`` and then ``gzip``; of a copy that is synced; of ``gunzip`` alone.
GZIP_GOAL, ZSTD_GOAL = 0.2, 1.8
UNGZIP_GOAL, UNZSTD_GOAL = 1.2, 0.5
#: Of the same SQLite calls, one after the other.
PLAIN_GOAL = 1.15
SIZE_GOAL, MOST_MEGABYTES = 1.1, 100
#: Seconds after which the shell's own backup beside a writer is given up.
GIVE_UP = 20
PROFILE = """\
schema = "dbctl.profile/1"
name = "catalogue"
title = "Catalogue"
[databases.main]
engines = ["sqlite"]
needs = ["game"]
"""
CONFIGURATION = """\
[apps.catalogue]
profile = "catalogue.toml"
[apps.catalogue.databases]
main = "main.db"
[apps.catalogue.backup]
repository = "backups"
"""
#: What restores do, by the same calls: the backup proven, what is there now kept, and the backup written over it.
RESTORE = """
import hashlib, os, sqlite3, sys
def prove(path):
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    assert db.execute("pragma quick_check").fetchall() == [("ok",)]
    for (name,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
        db.execute(f'select count(*) from "{name}"').fetchone()
    db.close()
    with open(path, "rb", buffering=0) as file:
        hashlib.file_digest(file, "sha256")
prove(sys.argv[2])
read, made = sqlite3.connect(sys.argv[1]), sqlite3.connect(sys.argv[3])
read.backup(made)
made.close(), read.close()
with open(sys.argv[3], "rb") as file:
    os.fsync(file.fileno())
prove(sys.argv[3])
kept, live = sqlite3.connect(f"file:{sys.argv[2]}?mode=ro&immutable=1", uri=True), sqlite3.connect(sys.argv[1])
kept.backup(live)
live.close()
"""


def measure() -> Area:
    """Time both on a copy of the games, in a folder of its own that is removed again."""
    title = "Backup and restore of 200,000 games (325 MB)"
    lacking = [name for name in ("sqlite3", "gzip") if shutil.which(name) is None]
    if lacking:
        return Area(title, [], skipped=lacking)
    games = sample.deployment(games=200_000, users=100) / "Data/flashpoint.sqlite"
    place = games.parents[1] / "backups-benchmark"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        shutil.copyfile(games, place / "main.db")
        (place / "catalogue.toml").write_text(PROFILE)
        (place / "dbctl.toml").write_text(CONFIGURATION)
        return Area(title, [*_create(place), *_size(place), *_restore(place), *_beside_a_writer()])
    finally:
        shutil.rmtree(place)


def _create(place: Path) -> list[Result]:
    def mine(form: str) -> Run:
        return _afresh([place / "backups"], process(_backup(form), cwd=place))

    def theirs(*words: str) -> Run:
        made = [place / "copy.db", place / "copy.db.gz"]
        return _afresh(made, process(words, cwd=place))

    times = in_turn(
        {
            "gzip": mine("gzip"),
            "zstd": mine("zstd"),
            "usual": theirs("sh", "-c", "sqlite3 main.db '.backup copy.db' && gzip copy.db"),
            "copy": theirs("dd", "if=main.db", "of=copy.db", "bs=4M", "conv=fsync"),
        },
        rounds=ROUNDS,
    )
    return [
        Result("backup create, gzip", "sqlite3 .backup && gzip", ratios(times, "gzip", "usual"), GZIP_GOAL),
        Result("backup create, zstd", "dd conv=fsync", ratios(times, "zstd", "copy"), ZSTD_GOAL),
    ]


def _backup(form: str) -> list[str]:
    return [DBCTL, "backup", "create", "--compress", form]


def _size(place: Path) -> list[Result]:
    """Tell how much memory it takes, and how large the files are beside what gzip makes of the same."""
    usual, found = place / "usual.gz", []
    subprocess.run(["sh", "-c", f"gzip -c main.db > {usual.name}"], cwd=place, check=True)
    for form in ("gzip", "zstd"):
        shutil.rmtree(place / "backups", ignore_errors=True)
        memory = megabytes(_backup(form), cwd=place)
        (kept,) = (place / "backups").glob("*/*/main_*")
        share = kept.stat().st_size / usual.stat().st_size
        found += [
            Result(f"its size, {form}", "gzip", [share], SIZE_GOAL),
            Result(f"its memory, {form}", "", [memory], MOST_MEGABYTES, unit=" MB"),
        ]
    return found


def _restore(place: Path) -> list[Result]:
    shutil.rmtree(place / "backups", ignore_errors=True)
    ids, packed = dict[str, str](), Path()
    for form in ("none", "gzip", "zstd"):
        process(_backup(form), cwd=place)()
        ids[form] = max(one.name for one in (place / "backups").glob("*/*") if one.is_dir())
        packed = next((place / "backups").glob("*/*/*.gz"), packed)
    held, made = place / "kept.db", place / "copy.db"
    shutil.copyfile(place / "main.db", held)
    prune = process([DBCTL, "backup", "prune", "--keep-last", "3", "--yes"], cwd=place)

    def aside(form: str) -> Run:
        words = [DBCTL, "restore", "apply", ids[form], "--to", "copy.db"]
        return _afresh([made], process(words, cwd=place))

    def live() -> float:
        prune()
        return process([DBCTL, "restore", "apply", ids["none"], "--yes"], cwd=place)()

    plain = process([sys.executable, "-c", RESTORE, "main.db", str(held), "copy.db"], cwd=place)
    times = in_turn(
        {
            "gzip": aside("gzip"),
            "zstd": aside("zstd"),
            "gunzip": _afresh([made], process(["sh", "-c", f"gunzip -c {packed} > copy.db"], cwd=place)),
            "live": live,
            "plain": _afresh([made], plain),
        },
        rounds=ROUNDS,
    )
    made.unlink(missing_ok=True)
    memory = megabytes([DBCTL, "restore", "apply", ids["zstd"], "--to", "copy.db"], cwd=place)
    return [
        Result("restore apply --to, gzip", "gunzip", ratios(times, "gzip", "gunzip"), UNGZIP_GOAL),
        Result("restore apply --to, zstd", "gunzip", ratios(times, "zstd", "gunzip"), UNZSTD_GOAL),
        Result("its memory, zstd", "", [memory], MOST_MEGABYTES, unit=" MB"),
        Result("restore apply", "the plain calls", ratios(times, "live", "plain"), PLAIN_GOAL),
    ]


def _beside_a_writer() -> list[Result]:
    """Back up a database to which an app commits every 2 ms; the shell's own backup of it is given up after a while."""
    longest, seconds, never = [], [], []
    with sample.copied(sample.plays()) as copy:
        database = copy / "backend/user.db"
        words = [DBCTL, "backup", "create", "--db", "user", "--repository", str(copy / "backups")]
        for _ in range(3):
            with app_at_work(database) as waits:
                begin = time.perf_counter()
                subprocess.run(words, cwd=copy, env=ENVIRONMENT, capture_output=True, check=True)
                seconds.append(time.perf_counter() - begin)
                longest.append(max(waits()) * 1000)
        with app_at_work(database):
            begin = time.perf_counter()
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    ["sqlite3", str(database), f".backup {copy}/copy.db"],
                    capture_output=True,
                    check=True,
                    timeout=GIVE_UP,
                )
            never.append(time.perf_counter() - begin)
    return [
        Result("a writer's longest wait", "", longest, LONGEST_WAIT, unit=" ms"),
        Result("the backup beside it", "", seconds, None, unit=" s"),
        Result(f"sqlite3 .backup beside it, at most {GIVE_UP} s", "", never, None, unit=" s"),
    ]


def _afresh(paths: Sequence[Path], run: Run) -> Run:
    """Return the run, with what the last one made removed before it."""

    def again() -> float:
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return run()

    return again
