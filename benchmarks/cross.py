"""``integrity cross-check`` of 100,000 messages and their vectors against reading both columns of ids bare."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, in_turn, megabytes, process, ratios
from benchmarks.sample import kept
from dbctl import demo

MESSAGES = 100_000
#: What anybody has to read who compares the two.
BARE = """
import sqlite3
import lancedb
own = [row for row in sqlite3.connect("data/chat.db").execute("select id from messages")]
table = lancedb.connect("data/lancedb").open_table("chat_embeddings")
told = [one for batch in table.search().select(["message_id"]).to_batches() for one in batch["message_id"].to_pylist()]
assert len(own) == len(told)
"""
GOAL, MEMORY = 3.0, 300.0


def measure() -> Area:
    """Time whole processes, and measure what the check holds in memory."""
    sources = sorted((Path(demo.__file__).parent / "chat_lancedb").glob("*.py"))
    place = kept(f"{MESSAGES}-messages", [Path(__file__), *sources], _make)
    check = [DBCTL, "integrity", "cross-check"]
    times = in_turn(
        {"cross": process(check, cwd=place), "bare": process([sys.executable, "-c", BARE], cwd=place)}
    )
    held = [megabytes(check, cwd=place) for _ in range(3)]
    return Area(
        f"Messages and vectors compared: {MESSAGES:,} of each",
        [
            Result("integrity cross-check", "reading both ids", ratios(times, "cross", "bare"), GOAL),
            Result("what it holds at once", "nothing", held, MEMORY, unit=" MB"),
        ],
    )


def _make(place: Path) -> None:
    words = [DBCTL, "demo", "chat-lancedb", ".", "--messages", str(MESSAGES)]
    subprocess.run(words, cwd=place, env=ENVIRONMENT, capture_output=True, check=True)
