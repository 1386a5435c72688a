"""Backups and restores of one large SQLite database, against the usual programs."""

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
#: Relative to ``.backup`` followed by ``gzip``, to a synced copy, and to ``gunzip`` alone.
GZIP_GOAL, ZSTD_GOAL = 0.2, 1.8
UNGZIP_GOAL, UNZSTD_GOAL = 1.2, 0.5
#: Relative to the same SQLite calls in sequence.
PLAIN_GOAL = 1.15
SIZE_GOAL, MAX_MEGABYTES = 1.1, 100
#: Seconds after which the backup of the shell is stopped while an app writes.
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
#: The calls of a restore: verify the backup, copy the live database, overwrite it with the backup.
RESTORE = """
import hashlib, os, sqlite3, sys
def verify(path):
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    assert db.execute("pragma quick_check").fetchall() == [("ok",)]
    for (name,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
        db.execute(f'select count(*) from "{name}"').fetchone()
    db.close()
    with open(path, "rb", buffering=0) as file:
        hashlib.file_digest(file, "sha256")
verify(sys.argv[2])
live, copy = sqlite3.connect(sys.argv[1]), sqlite3.connect(sys.argv[3])
live.backup(copy)
copy.close(), live.close()
with open(sys.argv[3], "rb") as file:
    os.fsync(file.fileno())
verify(sys.argv[3])
backup, live = sqlite3.connect(f"file:{sys.argv[2]}?mode=ro&immutable=1", uri=True), sqlite3.connect(sys.argv[1])
backup.backup(live)
live.close()
"""


def measure() -> Area:
    """Measure on a copy of the games in a temporary folder."""
    title = "Backup and restore of 200,000 games (325 MB)"
    missing = [name for name in ("sqlite3", "gzip") if shutil.which(name) is None]
    if missing:
        return Area(title, [], skipped=missing)
    games = sample.deployment(games=200_000, users=100) / "Data/flashpoint.sqlite"
    place = games.parents[1] / "backups-benchmark"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        shutil.copyfile(games, place / "main.db")
        (place / "catalogue.toml").write_text(PROFILE)
        (place / "dbctl.toml").write_text(CONFIGURATION)
        return Area(
            title,
            [
                *_measure_create(place),
                *_measure_size(place),
                *_measure_restore(place),
                *_measure_with_writer(),
            ],
        )
    finally:
        shutil.rmtree(place)


def _measure_create(parent: Path) -> list[Result]:
    def run_dbctl(form: str) -> Run:
        return _remove_before([parent / "backups"], process(_backup_command(form), cwd=parent))

    def run_peer(*words: str) -> Run:
        outputs = [parent / "copy.db", parent / "copy.db.gz"]
        return _remove_before(outputs, process(words, cwd=parent))

    times = in_turn(
        {
            "gzip": run_dbctl("gzip"),
            "zstd": run_dbctl("zstd"),
            "usual": run_peer("sh", "-c", "sqlite3 main.db '.backup copy.db' && gzip copy.db"),
            "copy": run_peer("dd", "if=main.db", "of=copy.db", "bs=4M", "conv=fsync"),
        },
        rounds=ROUNDS,
    )
    return [
        Result("backup create, gzip", "sqlite3 .backup && gzip", ratios(times, "gzip", "usual"), GZIP_GOAL),
        Result("backup create, zstd", "dd conv=fsync", ratios(times, "zstd", "copy"), ZSTD_GOAL),
    ]


def _backup_command(form: str) -> list[str]:
    return [DBCTL, "backup", "create", "--compress", form]


def _measure_size(place: Path) -> list[Result]:
    """Measure the memory, and the size of the backups relative to gzip."""
    usual, results = place / "usual.gz", []
    subprocess.run(["sh", "-c", f"gzip -c main.db > {usual.name}"], cwd=place, check=True)
    for form in ("gzip", "zstd"):
        shutil.rmtree(place / "backups", ignore_errors=True)
        memory = megabytes(_backup_command(form), cwd=place)
        (backup,) = (place / "backups").glob("*/*/main_*")
        share = backup.stat().st_size / usual.stat().st_size
        results += [
            Result(f"its size, {form}", "gzip", [share], SIZE_GOAL),
            Result(f"its memory, {form}", "", [memory], MAX_MEGABYTES, unit=" MB"),
        ]
    return results


def _measure_restore(place: Path) -> list[Result]:
    shutil.rmtree(place / "backups", ignore_errors=True)
    ids, compressed = dict[str, str](), Path()
    for form in ("none", "gzip", "zstd"):
        process(_backup_command(form), cwd=place)()
        ids[form] = max(backup.name for backup in (place / "backups").glob("*/*") if backup.is_dir())
        compressed = next((place / "backups").glob("*/*/*.gz"), compressed)
    retained, restored = place / "kept.db", place / "copy.db"
    shutil.copyfile(place / "main.db", retained)
    prune = process([DBCTL, "backup", "prune", "--keep-last", "3", "--yes"], cwd=place)

    def restore_to_copy(form: str) -> Run:
        words = [DBCTL, "restore", "apply", ids[form], "--to", "copy.db"]
        return _remove_before([restored], process(words, cwd=place))

    def restore_in_place() -> float:
        prune()
        return process([DBCTL, "restore", "apply", ids["none"], "--yes"], cwd=place)()

    plain = process([sys.executable, "-c", RESTORE, "main.db", str(retained), "copy.db"], cwd=place)
    times = in_turn(
        {
            "gzip": restore_to_copy("gzip"),
            "zstd": restore_to_copy("zstd"),
            "gunzip": _remove_before(
                [restored], process(["sh", "-c", f"gunzip -c {compressed} > copy.db"], cwd=place)
            ),
            "live": restore_in_place,
            "plain": _remove_before([restored], plain),
        },
        rounds=ROUNDS,
    )
    restored.unlink(missing_ok=True)
    memory = megabytes([DBCTL, "restore", "apply", ids["zstd"], "--to", "copy.db"], cwd=place)
    return [
        Result("restore apply --to, gzip", "gunzip", ratios(times, "gzip", "gunzip"), UNGZIP_GOAL),
        Result("restore apply --to, zstd", "gunzip", ratios(times, "zstd", "gunzip"), UNZSTD_GOAL),
        Result("its memory, zstd", "", [memory], MAX_MEGABYTES, unit=" MB"),
        Result("restore apply", "the plain calls", ratios(times, "live", "plain"), PLAIN_GOAL),
    ]


def _measure_with_writer() -> list[Result]:
    """Back up a database to which an app commits every 2 ms; the backup of the shell is stopped after ``GIVE_UP``."""
    longest, seconds, shell_seconds = [], [], []
    with sample.copy_sample(sample.plays()) as copy:
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
            shell_seconds.append(time.perf_counter() - begin)
    return [
        Result("a writer's longest wait", "", longest, LONGEST_WAIT, unit=" ms"),
        Result("the backup during writes", "", seconds, None, unit=" s"),
        Result(f"sqlite3 .backup during writes, at most {GIVE_UP} s", "", shell_seconds, None, unit=" s"),
    ]


def _remove_before(paths: Sequence[Path], run: Run) -> Run:
    """Return the run, with the files of the last run removed first."""

    def remove_and_run() -> float:
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return run()

    return remove_and_run
