"""``data export`` of a million rows on PostgreSQL against the copy of psql, and its peak memory."""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, Run, in_turn, megabytes, ratios

ROWS = 1_000_000
MAX_MEGABYTES = 100
TABLE = f"""create table things as select i as id, md5(i::text) as name, (i * 1.5)::numeric(12, 2) as amount,
  timestamptz '2024-01-01' + i * interval '1 second' as at, i % 2 = 0 as ok,
  case when i % 5 > 0 then 'text, with "quotes" ' || i end as note from generate_series(1, {ROWS}) i"""


def measure() -> Area:
    """Export the same table with both programs, each time into a new file."""
    if not shutil.which("psql"):
        return Area("Export", [], skipped=["psql"])
    from tests import servers

    with tempfile.TemporaryDirectory() as name, servers.postgresql_schema() as url:
        folder, place = Path(name), servers.text(url)
        with closing(servers.connection(url)) as connection:
            connection.execute(TABLE)
            ((schema,),) = connection.execute("select current_schema()").fetchall()
        file, first_file = folder / "things.csv", folder / "copied.csv"
        dbctl = [DBCTL, "data", "export", "things", str(file), "--url", f"main={place}"]
        copy = f"\\copy {schema}.things to '{file}' csv header"
        psql = [
            "psql",
            "-q",
            servers.text(url, schema=False),
            "-c",
            "set synchronize_seqscans = off",
            "-c",
            copy,
        ]
        memory = [megabytes(dbctl)]
        file.rename(first_file)
        _export_to(file, psql)()
        if not filecmp.cmp(file, first_file, shallow=False):
            raise RuntimeError("the files differ")
        times = in_turn({"dbctl": _export_to(file, dbctl), "psql": _export_to(file, psql)})
    title = f"data export of {ROWS:,} rows, csv"
    return Area(
        "Export",
        [
            Result(title, r"psql \copy", ratios(times, "dbctl", "psql"), 1.5),
            Result("memory of the same", "", memory, MAX_MEGABYTES, unit=" MB"),
        ],
    )


def _export_to(file: Path, words: list[str]) -> Run:
    def run() -> float:
        file.unlink(missing_ok=True)
        begin = time.perf_counter()
        subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=True)
        return time.perf_counter() - begin

    return run
