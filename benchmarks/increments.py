"""Incremental backups of one large SQLite database against full ones and other programs: time, size, memory, and restore."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks import sample
from benchmarks.backup import CONFIGURATION, PROFILE
from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, Run, in_turn, megabytes, process, ratios
from dbctl.files.rdiff import choose_block_size

ROUNDS = 3
TIME_GOAL, RESTORE_GOAL, MEMORY_GOAL = 1.0, 1.5, 50
#: The largest share of the bytes of a full backup, by the number of changed rows.
SIZE_GOALS = {200: 0.01, 20_000: 0.15}
#: The default, and a faster one.
COMPRESSIONS = ("gzip", "zstd")
#: Deduplicating programs with their own defaults: the commands that create a repository, and add the database to it.
PEERS = {
    "restic": (["restic", "init"], ["restic", "backup", "main.db"]),
    "borg": (["borg", "init", "--encryption", "none"], ["borg", "create", "::{now:%s%f}", "main.db"]),
}


def measure() -> Area:
    """Measure on copies of the games in a temporary folder."""
    title = "Incremental backups of 200,000 games (325 MB)"
    if shutil.which("rdiff") is None:
        return Area(title, [], skipped=["rdiff"])
    games = sample.deployment(games=200_000, users=100) / "Data/flashpoint.sqlite"
    place, results = games.parents[1] / "increments-benchmark", list[Result]()
    missing = [peer for peer in PEERS if shutil.which(peer) is None]
    for compress in COMPRESSIONS:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            shutil.copyfile(games, place / "main.db")
            (place / "catalogue.toml").write_text(PROFILE)
            for name, line in {"increments": "incremental = true\n", "full": ""}.items():
                (place / f"{name}.toml").write_text(
                    CONFIGURATION.replace('"backups"', f'"{name}"')
                    + f'{line}compress = "{compress}"\n[journal]\nfolder = "state"\n'
                )
            peers = [peer for peer in PEERS if peer not in missing] if compress == COMPRESSIONS[0] else []
            results += _measure_compression(place, compress, peers)
        finally:
            shutil.rmtree(place)
    return Area(title, results, skipped=missing)


def _measure_compression(place: Path, compress: str, peers: list[str]) -> Iterator[Result]:
    _create(place, "increments")()
    for peer in peers:
        _run_peer(place, peer, PEERS[peer][0])
        _run_peer(place, peer, PEERS[peer][1])
    for count in SIZE_GOALS:
        yield from _measure_changes(place, compress, count, peers)
    yield from _measure_restore(place, compress)
    if compress == COMPRESSIONS[0]:
        yield from _measure_memory(place)


def _create(place: Path, name: str, *words: str) -> Run:
    return process([DBCTL, "backup", "create", "--config", f"{name}.toml", *words], cwd=place)


def _list_backups(place: Path, name: str) -> list[Path]:
    folder = place / name / "catalogue"
    return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.exists() else []


def _measure_changes(place: Path, compress: str, count: int, peers: list[str]) -> Iterator[Result]:
    """Change rows, and back them up in turn as a difference from the first backup, in full, and in full as a new base."""
    _change_rows(place / "main.db", count)
    sizes = dict[str, int]()

    def run(name: str, *words: str) -> Run:
        create = _create(place, name, *words)

        def create_once() -> float:
            for folder in _list_backups(place, name)[1 if name == "increments" else 0 :]:
                shutil.rmtree(folder)
            seconds = create()
            sizes[" ".join([name, *words])] = _measure_size(_list_backups(place, name)[-1])
            return seconds

        return create_once

    times = in_turn({"difference": run("increments"), "full": run("full")}, rounds=ROUNDS)
    what, full = f"backup create after {count:,} changed rows, {compress}", f"a full backup, {compress}"
    size = sizes["increments"]
    yield Result(what, full, ratios(times, "difference", "full"), TIME_GOAL)
    yield Result("its size", full, [size / sizes["full"]], SIZE_GOALS[count])
    for peer in peers:
        before = _measure_size(place / peer)
        _run_peer(place, peer, PEERS[peer][1])
        yield Result("its size", f"what {peer} adds", [size / (_measure_size(place / peer) - before)], None)


def _measure_size(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _run_peer(place: Path, peer: str, words: list[str]) -> None:
    environment = {
        "RESTIC_REPOSITORY": peer,
        "RESTIC_PASSWORD": "benchmark",
        "RESTIC_CACHE_DIR": "state/restic",
        "BORG_REPO": peer,
        "BORG_BASE_DIR": str(place / "state/borg"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }
    subprocess.run(words, cwd=place, env=ENVIRONMENT | environment, capture_output=True, check=True)


def _measure_restore(place: Path, compress: str) -> Iterator[Result]:
    def run(name: str) -> Run:
        copy = place / "copy.db"
        words = [DBCTL, "restore", "apply", "latest", "--config", f"{name}.toml", "--to", copy.name]
        restore = process(words, cwd=place)

        def restore_once() -> float:
            copy.unlink(missing_ok=True)
            return restore()

        return restore_once

    times = in_turn({"difference": run("increments"), "full": run("full")}, rounds=ROUNDS)
    what = f"restore apply --to of the last difference, {compress}"
    yield Result(what, f"a full backup, {compress}", ratios(times, "difference", "full"), RESTORE_GOAL)


def _measure_memory(place: Path) -> Iterator[Result]:
    block = choose_block_size((place / "main.db").stat().st_size)
    words = ["rdiff", "--force", "--block-size", str(block)]
    signature = megabytes([*words, "signature", "main.db", "signature"], cwd=place)
    delta = megabytes([*words, "delta", "signature", "main.db", "difference"], cwd=place)
    patch = megabytes([*words, "patch", "main.db", "difference", "content"], cwd=place)
    yield Result("memory of rdiff", "", [max(signature, delta, patch)], MEMORY_GOAL, unit=" MB")


def _change_rows(path: Path, count: int) -> None:
    numbers = random.Random(count)  # noqa: S311 - the same rows in each run
    with closing(sqlite3.connect(path)) as connection, connection:
        ids = [row[0] for row in connection.execute("select id from game")]
        connection.executemany(
            "update game set title = title || ? where id = ?",
            [(" x" * numbers.randrange(1, 9), key) for key in numbers.sample(ids, count)],
        )
