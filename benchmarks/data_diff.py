"""``data diff`` of two SQLite files with a million rows, three of which differ, against dumps that ``diff`` compares, and its peak memory."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, in_turn, megabytes, ratios
from benchmarks.transfer import FILL, ROWS, TABLE

MAX_MEGABYTES = 100
CHANGES = f"update note set title = 'changed' where id in (5, {ROWS // 2}, {ROWS})"


def measure() -> Area:
    """Compare the same two files with both."""
    if missing := [program for program in ("sqlite3", "diff") if not shutil.which(program)]:
        return Area("Comparison of rows", [], skipped=missing)
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / file for file in ("first.db", "second.db")]
        for path in paths:
            with closing(sqlite3.connect(path)) as db:
                for sql in (TABLE, FILL, CHANGES if path == paths[1] else "select 1"):
                    db.execute(sql)
                db.commit()
        words = [DBCTL, "data", "diff", *map(str, paths), "-o", "json"]

        def compare() -> float:
            begin = time.perf_counter()
            subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=True)
            return time.perf_counter() - begin

        def compare_dumps() -> float:
            begin = time.perf_counter()
            for path in paths:
                with path.with_suffix(".sql").open("wb") as file:
                    subprocess.run(["sqlite3", path, ".dump"], stdout=file, check=True)
            dumps = [path.with_suffix(".sql") for path in paths]
            subprocess.run(["diff", *dumps], stdout=subprocess.DEVNULL, check=False)  # 1: they differ
            return time.perf_counter() - begin

        memory = [megabytes(words)]
        times = in_turn({"dbctl": compare, "dumps": compare_dumps})
    return Area(
        "Comparison of rows",
        [
            Result(f"data diff of {ROWS:,} rows", "sqlite3 .dump, diff", ratios(times, "dbctl", "dumps"), 2),
            Result("memory of the same", "", memory, MAX_MEGABYTES, unit=" MB"),
        ],
    )
