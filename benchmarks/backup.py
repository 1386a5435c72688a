"""``backup create`` and ``restore apply`` of one large database against the plain SQLite calls that they are made of."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import DBCTL, Area, Result, Run, in_turn, process
from benchmarks.sample import deployment

GOAL = 1.15
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
        return Area(_TITLE, [_create(place), _restore(place)])
    finally:
        shutil.rmtree(place)


_TITLE = "Backup and restore of 200,000 games, against the same SQLite calls one after the other"


def _create(place: Path) -> Result:
    mine = _afresh([place / "backups"], process([DBCTL, "backup", "create"], cwd=place))
    theirs = _afresh(
        [place / "copy.db"], process([sys.executable, "-c", BACK_UP, "main.db", "copy.db"], cwd=place)
    )
    times = in_turn({"mine": mine, "theirs": theirs}, rounds=ROUNDS)
    return _result("backup create", times["mine"], times["theirs"])


def _restore(place: Path) -> Result:
    _afresh([place / "backups"], process([DBCTL, "backup", "create"], cwd=place))()
    (kept,) = (place / "backups").glob("*/*/*.db")
    held = place / "kept.db"
    shutil.copyfile(kept, held)
    prune = process([DBCTL, "backup", "prune", "--keep-last", "1", "--yes"], cwd=place)
    restore = process([DBCTL, "restore", "apply", "latest", "--yes"], cwd=place)

    def mine() -> float:
        prune()
        return restore()

    theirs = _afresh(
        [place / "copy.db"],
        process([sys.executable, "-c", RESTORE, "main.db", str(held), "copy.db"], cwd=place),
    )
    times = in_turn({"mine": mine, "theirs": theirs}, rounds=ROUNDS)
    return _result("restore apply", times["mine"], times["theirs"])


def _afresh(paths: Sequence[Path], run: Run) -> Run:
    """Return the run, with what the last one made removed before it."""

    def again() -> float:
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return run()

    return again


def _result(what: str, mine: Sequence[float], theirs: Sequence[float]) -> Result:
    ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
    return Result(what, "the plain calls", ratios, GOAL)
