"""``backup create`` and ``restore apply`` of one large database against the plain SQLite calls that they are made of."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, Run, in_turn, process, ratios
from benchmarks.sample import deployment

GOAL = 1.15
#: Packing is done beside the proof, where there is a core for it.
PACKED_GOAL, AFTER_GOAL, UNPACKED_GOAL = 1.6, 0.25, 1.5
SIZE_GOAL = 1.25
ROUNDS = 5
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
#: One moment copied, checked, counted, digested and synced, one call after the other.
COPY = """
import hashlib, os, sqlite3, sys
def prove(path):
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    assert db.execute("pragma quick_check").fetchall() == [("ok",)]
    for (name,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
        db.execute(f'select count(*) from "{name}"').fetchone()
    db.close()
    with open(path, "rb", buffering=0) as file:
        hashlib.file_digest(file, "sha256")
def copy(source, place):
    read, made = sqlite3.connect(source), sqlite3.connect(place)
    read.backup(made)
    made.close(), read.close()
    with open(place, "rb") as file:
        os.fsync(file.fileno())
    prove(place)
"""
BACK_UP = COPY + "copy(sys.argv[1], sys.argv[2])"
#: The copy packed by a program, and synced.
PACK = """
import subprocess
subprocess.run([*sys.argv[3:], sys.argv[2]], check=True)
(packed,) = [one for one in os.listdir() if one.startswith("copy.db.")]
with open(packed, "rb") as file:
    os.fsync(file.fileno())
"""
#: A packed backup unpacked by a program.
UNPACK = """
import subprocess, sys
with open(sys.argv[2], "wb") as plain:
    subprocess.run(["gunzip", "-c", sys.argv[4]], stdout=plain, check=True)
"""
#: The backup proven, what is there now kept, and the backup written over it.
RESTORE = (
    COPY
    + """
prove(sys.argv[2])
copy(sys.argv[1], sys.argv[3])
kept, live = sqlite3.connect(f"file:{sys.argv[2]}?mode=ro&immutable=1", uri=True), sqlite3.connect(sys.argv[1])
kept.backup(live)
live.close()
"""
)


def measure() -> Area:
    """Time both on a copy of the games, in a folder of its own that is removed again."""
    games = deployment(games=200_000, users=100) / "Data/flashpoint.sqlite"
    place = games.parents[1] / "backups-benchmark"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        shutil.copyfile(games, place / "main.db")
        (place / "catalogue.toml").write_text(PROFILE)
        (place / "dbctl.toml").write_text(CONFIGURATION)
        return Area(_TITLE, [*_create(place), *_size(place), *_restore(place)])
    finally:
        shutil.rmtree(place)


_TITLE = "Backup and restore of 200,000 games, against the same SQLite calls one after the other"


def _create(place: Path) -> list[Result]:
    def mine(form: str) -> Run:
        words = [DBCTL, "backup", "create", "--compress", form]
        return _afresh([place / "backups"], process(words, cwd=place))

    def theirs(more: str = "", *words: str) -> Run:
        script = [sys.executable, "-c", BACK_UP + more, "main.db", "copy.db", *words]
        made = [place / f"copy.db{ending}" for ending in ("", ".gz", ".zst")]
        return _afresh(made, process(script, cwd=place))

    runs = {
        "none": mine("none"),
        "gzip": mine("gzip"),
        "zstd": mine("zstd"),
        "plain": theirs(),
        "gzip -6": theirs(PACK, "gzip", "-6"),
    }
    if shutil.which("zstd"):
        runs["zstd -3"] = theirs(PACK, "zstd", "-q", "--rm", "-3")
    times = in_turn(runs, rounds=ROUNDS)
    told = [
        ("none", "plain", "the plain calls", GOAL),
        ("gzip", "none", "--compress none", PACKED_GOAL),
        ("gzip", "gzip -6", "the plain calls, gzip", AFTER_GOAL),
        ("zstd", "zstd -3", "the plain calls, zstd -3", GOAL),
    ]
    return [
        Result(f"backup create, {one}", words, ratios(times, one, other), goal)
        for one, other, words, goal in told
        if other in times
    ]


def _size(place: Path) -> list[Result]:
    """Tell how large the files are beside what the usual programs make of the same."""
    found = []
    for form, program, usual in (("gzip", ["gzip", "-6"], "gzip"), ("zstd", ["zstd", "-3"], "zstd -3")):
        if shutil.which(program[0]) is None:
            continue
        _afresh([place / "backups"], process([DBCTL, "backup", "create", "--compress", form], cwd=place))()
        (kept,) = (place / "backups").glob("*/*/main_*")
        packed = subprocess.run(
            [*program, "-c", "main.db"], cwd=place, env=ENVIRONMENT, capture_output=True, check=True
        )
        share = kept.stat().st_size / len(packed.stdout)
        found.append(Result(f"size of a backup, {form}", usual, [share], SIZE_GOAL))
    return found


def _restore(place: Path) -> list[Result]:
    prune = process([DBCTL, "backup", "prune", "--keep-last", "2", "--yes"], cwd=place)
    held = place / "kept.db"
    shutil.copyfile(place / "main.db", held)
    with (place / "kept.db.gz").open("wb") as packed:
        subprocess.run(["gzip", "-1", "-c", str(held)], stdout=packed, check=True)
    shutil.rmtree(place / "backups", ignore_errors=True)
    ids = {}
    for form in ("none", "gzip"):
        process([DBCTL, "backup", "create", "--compress", form], cwd=place)()
        ids[form] = max(one.name for one in (place / "backups").glob("*/*") if one.is_dir())

    def mine(form: str) -> Run:
        restore = process([DBCTL, "restore", "apply", ids[form], "--yes"], cwd=place)

        def run() -> float:
            prune()
            return restore()

        return run

    def theirs(more: str, *words: str) -> Run:
        script = [sys.executable, "-c", more + RESTORE, "main.db", str(held), "copy.db", *words]
        return _afresh([place / "copy.db"], process(script, cwd=place))

    runs = {
        "none": mine("none"),
        "gzip": mine("gzip"),
        "plain": theirs(""),
        "gunzip": theirs(UNPACK, "kept.db.gz"),
    }
    times = in_turn(runs, rounds=ROUNDS)
    return [
        Result("restore apply, none", "the plain calls", ratios(times, "none", "plain"), GOAL),
        Result("restore apply, gzip", "gunzip, the plain calls", ratios(times, "gzip", "gunzip"), GOAL),
        Result("restore apply, gzip", "of --compress none", ratios(times, "gzip", "none"), UNPACKED_GOAL),
    ]


def _afresh(paths: Sequence[Path], run: Run) -> Run:
    """Return the run, with what the last one made removed before it."""

    def again() -> float:
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return run()

    return again
