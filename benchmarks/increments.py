"""Incremental backups of one large SQLite database against full ones: time, size, memory, and restore."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks import sample
from benchmarks.backup import CONFIGURATION, PROFILE
from benchmarks.measure import DBCTL, Area, Result, Run, in_turn, megabytes, process, ratios

ROUNDS = 3
TIME_GOAL, RESTORE_GOAL, MEMORY_GOAL = 1.0, 1.5, 50
#: The largest share of the bytes of a full backup, by the number of changed rows.
SIZE_GOALS = {200: 0.01, 20_000: 0.15}


def measure() -> Area:
    """Measure on a copy of the games in a temporary folder."""
    title = "Incremental backups of 200,000 games (325 MB)"
    if shutil.which("rdiff") is None:
        return Area(title, [], skipped=["rdiff"])
    games = sample.deployment(games=200_000, users=100) / "Data/flashpoint.sqlite"
    place = games.parents[1] / "increments-benchmark"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        shutil.copyfile(games, place / "main.db")
        (place / "catalogue.toml").write_text(PROFILE)
        (place / "dbctl.toml").write_text(
            f'{CONFIGURATION}incremental = true\ncompress = "zstd"\n[journal]\nfolder = "state"\n'
        )
        _create(place)()
        results = [result for count in SIZE_GOALS for result in _measure_changes(place, count)]
        return Area(title, [*results, *_measure_restore(place), *_measure_memory(place)])
    finally:
        shutil.rmtree(place)


def _create(place: Path, *words: str) -> Run:
    return process([DBCTL, "backup", "create", *words], cwd=place)


def _list_backups(place: Path, repository: str = "backups") -> list[Path]:
    return sorted(folder for folder in (place / repository / "catalogue").iterdir() if folder.is_dir())


def _measure_changes(place: Path, count: int) -> list[Result]:
    """Change rows, and back them up in turn as a difference from the first backup, and in full into another repository."""
    _change_rows(place / "main.db", count)
    sizes = dict[str, int]()

    def run(repository: str, *words: str) -> Run:
        create = _create(place, *words)

        def create_once() -> float:
            start = 1 if repository == "backups" else 0
            for folder in _list_backups(place, repository)[start:] if (place / repository).exists() else ():
                shutil.rmtree(folder)
            seconds = create()
            newest = _list_backups(place, repository)[-1]
            sizes[repository] = sum(file.stat().st_size for file in newest.glob("main_*"))
            return seconds

        return create_once

    full = ["--full", "--repository", "full"]
    times = in_turn({"difference": run("backups"), "full": run("full", *full)}, rounds=ROUNDS)
    what = f"backup create after {count:,} changed rows"
    return [
        Result(what, "backup create --full", ratios(times, "difference", "full"), TIME_GOAL),
        Result("its size", "backup create --full", [sizes["backups"] / sizes["full"]], SIZE_GOALS[count]),
    ]


def _measure_restore(place: Path) -> list[Result]:
    def run(repository: str) -> Run:
        copy = place / "copy.db"
        words = [DBCTL, "restore", "apply", "latest", "--repository", repository, "--to", copy.name]
        restore = process(words, cwd=place)

        def restore_once() -> float:
            copy.unlink(missing_ok=True)
            return restore()

        return restore_once

    times = in_turn({"difference": run("backups"), "full": run("full")}, rounds=ROUNDS)
    what = "restore apply --to of the last difference"
    return [Result(what, "the full backup", ratios(times, "difference", "full"), RESTORE_GOAL)]


def _measure_memory(place: Path) -> list[Result]:
    words = ["rdiff", "--force", "--block-size", "4096"]
    signature = megabytes([*words, "signature", "main.db", "signature"], cwd=place)
    delta = megabytes([*words, "delta", "signature", "main.db", "difference"], cwd=place)
    return [Result("memory of rdiff", "", [max(signature, delta)], MEMORY_GOAL, unit=" MB")]


def _change_rows(path: Path, count: int) -> None:
    numbers = random.Random(count)  # noqa: S311 - the same rows in each run
    with closing(sqlite3.connect(path)) as connection, connection:
        ids = [row[0] for row in connection.execute("select id from game")]
        connection.executemany(
            "update game set title = title || ? where id = ?",
            [(" x" * numbers.randrange(1, 9), key) for key in numbers.sample(ids, count)],
        )
