"""``backup create`` on a server against the dump program of the server, which writes the same content; time and size."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.measure import DBCTL, Area, Result, in_turn, process

GOAL = 1.1
#: In the custom format, dbctl compresses in place of pg_dump.
CUSTOM_GOAL, CUSTOM_SIZE_GOAL = 0.9, 1.0
ROUNDS = 5
#: Half of the text compresses well, half does not.
ROWS = int(os.environ.get("DBCTL_BENCH_ROWS", "600000"))
DATABASE = "dbctl_benchmark"
#: Options of the clients for a role that may create databases.
POSTGRESQL = ["-h", "127.0.0.1", "-U", "postgres"]
MYSQL = ["-h", "127.0.0.1", "-u", "root"]
PROFILE = """\
schema = "dbctl.profile/1"
name = "rows"
title = "Rows"
[databases.main]
engines = ["postgresql", "mysql"]
needs = ["much"]
"""
TITLE = f"Backups of {ROWS:,} rows on a server, against the server's programs alone"


def measure() -> Area:
    """Measure each server of this machine in a temporary database."""
    place = Path(tempfile.mkdtemp(prefix="dbctl-benchmark-"))
    results, skipped = list[Result](), list[str]()
    try:
        (place / "rows.toml").write_text(PROFILE)
        for name, run in (("PostgreSQL", _postgresql), ("MariaDB", _mariadb)):
            try:
                results += run(place)
            except (OSError, subprocess.CalledProcessError):
                skipped.append(name)
    finally:
        shutil.rmtree(place)
    return Area(TITLE, results, skipped)


def _postgresql(place: Path) -> Sequence[Result]:
    def psql(sql: str, database: str = DATABASE) -> None:
        _run_silently(["psql", *POSTGRESQL, "-X", "-q", "-d", database, "-c", sql])

    psql(f"create database {DATABASE}", "postgres")
    try:
        psql(
            "create table much as select n as id, md5(n::text) || md5((n * 7)::text) as random,"
            f" repeat('the same again ', 4) as alike from generate_series(1, {ROWS}) n; alter table much add primary key (id)"
        )
        url = f"postgresql://postgres@127.0.0.1/{DATABASE}"
        alone = place / "alone"
        dump = ["pg_dump", *POSTGRESQL, "-d", DATABASE]
        run_pg_dump = process([*dump, "-Fc", "-f", str(alone)], cwd=place)
        custom = _compare(place, url, [], run_pg_dump, "PostgreSQL, custom", "pg_dump -Fc", CUSTOM_GOAL)
        (backup,) = (place / "backups").rglob("main_*")
        size = [backup.stat().st_size / alone.stat().st_size]
        return [
            custom,
            Result("size of the same", "pg_dump -Fc", size, CUSTOM_SIZE_GOAL),
            _compare(
                place,
                url,
                ["--format", "plain"],
                process([*dump, "-Z6", "-f", str(alone)], cwd=place),
                "PostgreSQL, plain",
                "pg_dump -Z6",
            ),
        ]
    finally:
        with suppress(subprocess.CalledProcessError):
            psql(f"drop database {DATABASE} with (force)", "postgres")


def _mariadb(place: Path) -> Sequence[Result]:
    def mariadb(sql: str) -> None:
        _run_silently(["mariadb", *MYSQL, "-e", sql])

    mariadb(f"create database {DATABASE}")
    try:
        mariadb(
            f"use {DATABASE}; create table much (id int primary key) select seq as id,"
            f" concat(md5(seq), md5(seq * 7)) as random, repeat('the same again ', 4) as alike from seq_1_to_{ROWS}"
        )
        words = f"mariadb-dump {' '.join(MYSQL)} --single-transaction {DATABASE} | gzip > alone"
        theirs = process(["sh", "-c", words], cwd=place)
        url = f"mysql://root@127.0.0.1/{DATABASE}"
        return [_compare(place, url, [], theirs, "MariaDB", "mariadb-dump | gzip")]
    finally:
        mariadb(f"drop database {DATABASE}")


def _compare(
    place: Path,
    url: str,
    words: Sequence[str],
    run_peer: Callable[[], float],
    subject: str,
    peer: str,
    goal: float = GOAL,
) -> Result:
    (place / "dbctl.toml").write_text(
        f'[apps.rows]\nprofile = "rows.toml"\n[apps.rows.databases]\nmain = "{url}"\n'
        '[apps.rows.backup]\nrepository = "backups"\n'
    )
    create = process([DBCTL, "backup", "create", *words], cwd=place)

    def run_dbctl() -> float:
        shutil.rmtree(place / "backups", ignore_errors=True)
        return create()

    times = in_turn({"mine": run_dbctl, "theirs": run_peer}, rounds=ROUNDS)
    ratios = [seconds / reference for seconds, reference in zip(times["mine"], times["theirs"], strict=True)]
    return Result(f"backup create, {subject}", peer, ratios, goal)


def _run_silently(words: Sequence[str]) -> None:
    subprocess.run(words, check=True, capture_output=True)
