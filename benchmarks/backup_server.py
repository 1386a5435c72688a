"""``backup create`` on a server against the server's own program alone, writing the same file."""

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
ROUNDS = 5
#: Half text that compresses well, half that does not, as an app's rows are.
ROWS = int(os.environ.get("DBCTL_BENCH_ROWS", "600000"))
DATABASE = "dbctl_benchmark"
#: What answers to ``--command``, ``-e`` and so on on this machine, as one who may create databases.
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
TITLE = f"Backups of {ROWS:,} rows on a server, against the server's own programs alone"


def measure() -> Area:
    """Time whatever servers answer on this machine, in databases that are dropped again."""
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
        _quietly(["psql", *POSTGRESQL, "-X", "-q", "-d", database, "-c", sql])

    psql(f"create database {DATABASE}", "postgres")
    try:
        psql(
            "create table much as select n as id, md5(n::text) || md5((n * 7)::text) as random,"
            f" repeat('the same again ', 4) as alike from generate_series(1, {ROWS}) n; alter table much add primary key (id)"
        )
        url = f"postgresql://postgres@127.0.0.1/{DATABASE}"
        alone = place / "alone"
        dump = ["pg_dump", *POSTGRESQL, "-d", DATABASE]
        return [
            _compared(
                place,
                url,
                [],
                process([*dump, "-Fc", "-f", str(alone)], cwd=place),
                "PostgreSQL, custom",
                "pg_dump -Fc",
            ),
            _compared(
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
        _quietly(["mariadb", *MYSQL, "-e", sql])

    mariadb(f"create database {DATABASE}")
    try:
        mariadb(
            f"use {DATABASE}; create table much (id int primary key) select seq as id,"
            f" concat(md5(seq), md5(seq * 7)) as random, repeat('the same again ', 4) as alike from seq_1_to_{ROWS}"
        )
        words = f"mariadb-dump {' '.join(MYSQL)} --single-transaction {DATABASE} | gzip > alone"
        theirs = process(["sh", "-c", words], cwd=place)
        url = f"mysql://root@127.0.0.1/{DATABASE}"
        return [_compared(place, url, [], theirs, "MariaDB", "mariadb-dump | gzip")]
    finally:
        mariadb(f"drop database {DATABASE}")


def _compared(
    place: Path, url: str, words: Sequence[str], theirs: Callable[[], float], what: str, peer: str
) -> Result:
    (place / "dbctl.toml").write_text(
        f'[apps.rows]\nprofile = "rows.toml"\n[apps.rows.databases]\nmain = "{url}"\n'
        '[apps.rows.backup]\nrepository = "backups"\n'
    )
    create = process([DBCTL, "backup", "create", *words], cwd=place)

    def mine() -> float:
        shutil.rmtree(place / "backups", ignore_errors=True)
        return create()

    times = in_turn({"mine": mine, "theirs": theirs}, rounds=ROUNDS)
    ratios = [one / other for one, other in zip(times["mine"], times["theirs"], strict=True)]
    return Result(f"backup create, {what}", peer, ratios, GOAL)


def _quietly(words: Sequence[str]) -> None:
    subprocess.run(words, check=True, capture_output=True)
