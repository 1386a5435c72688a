"""``migrate up`` and ``migrate status`` on SQLite against dbmate, over the same files."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, Run, in_turn, process, ratios
from tests import external_tools

FEW, MANY = 100, 1_000


def measure() -> Area:
    """Apply the same migrations with both, each into a new file; then print the state of each migration with both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer = external_tools.dbmate()
        if peer is None:
            return Area("Migrate", [], skipped=["dbmate (npm)"])
        few, many = _write_migrations(folder / "few", FEW), _write_migrations(folder / "many", MANY)
        ours, theirs = folder / "ours.db", folder / "theirs.db"
        dbmate = ["--url", f"sqlite:{theirs}", "--no-dump-schema", "-d"]
        dbctl = ["--url", f"main={ours}", "--migrations"]
        up = in_turn(
            {
                "dbctl": _apply_to_new(ours, [DBCTL, "migrate", "up", *dbctl, str(few)]),
                "dbmate": _apply_to_new(theirs, [str(peer.binary), *dbmate, str(few), "up"]),
            }
        )
        shutil.rmtree(few)
        for file in (ours, theirs):
            file.unlink()
        _apply_to_new(ours, [DBCTL, "migrate", "up", *dbctl, str(many)])()
        _apply_to_new(theirs, [str(peer.binary), *dbmate, str(many), "up"])()
        status = in_turn(
            {
                "dbctl": process([DBCTL, "migrate", "status", *dbctl, str(many)], cwd=folder),
                "npx dbmate": process(["npx", "dbmate", *dbmate, str(many), "status"], cwd=peer.folder),
                "dbmate": process([str(peer.binary), *dbmate, str(many), "status"], cwd=folder),
            }
        )
    return Area(
        "Migrate",
        [
            Result(
                f"migrate up of {FEW}, a durable transaction each",
                "dbmate up",
                ratios(up, "dbctl", "dbmate"),
                1.2,
            ),
            Result(
                f"migrate status of {MANY:,}", "npx dbmate status", ratios(status, "dbctl", "npx dbmate"), 0.8
            ),
            Result("the same", "dbmate status", ratios(status, "dbctl", "dbmate"), None),
        ],
    )


def _write_migrations(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{20240101000000 + number}_t{number}.sql").write_text(
            f"-- migrate:up\ncreate table t{number} (id integer primary key, name text);\n"
            f"create index i{number} on t{number} (name);\n-- migrate:down\ndrop table t{number};\n"
        )
    return folder


def _apply_to_new(file: Path, words: list[str]) -> Run:
    def run() -> float:
        for old in file.parent.glob(f"{file.name}*"):
            old.unlink()
        begin = time.perf_counter()
        subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=True)
        return time.perf_counter() - begin

    return run
