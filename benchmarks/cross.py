"""``integrity cross-check`` of 100,000 messages and their vectors against a script that reads both columns of ids."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, in_turn, megabytes, process, ratios
from benchmarks.sample import cached_sample
from dbctl.extensions.demo import builder

MESSAGES = 100_000
#: The reads that any comparison requires.
BARE = """
import sqlite3
import lancedb
messages = [row for row in sqlite3.connect("data/chat.db").execute("select id from messages")]
table = lancedb.connect("data/lancedb").open_table("chat_embeddings")
vectors = [message for batch in table.search().select(["message_id"]).to_batches() for message in batch["message_id"].to_pylist()]
assert len(messages) == len(vectors)
"""
GOAL, MEMORY = 3.0, 300.0


def measure() -> Area:
    """Time whole processes, and measure the peak memory of the check."""
    sources = sorted(Path(builder.__file__).parent.rglob("*.[pt]*[yl]"))
    place = cached_sample(f"{MESSAGES}-messages", [Path(__file__), *sources], _create_deployment)
    check = [DBCTL, "integrity", "cross-check"]
    times = in_turn(
        {"cross": process(check, cwd=place), "bare": process([sys.executable, "-c", BARE], cwd=place)}
    )
    memory = [megabytes(check, cwd=place) for _ in range(3)]
    return Area(
        f"Messages and vectors compared: {MESSAGES:,} of each",
        [
            Result("integrity cross-check", "reading both ids", ratios(times, "cross", "bare"), GOAL),
            Result("its memory", "nothing", memory, MEMORY, unit=" MB"),
        ],
    )


def _create_deployment(place: Path) -> None:
    words = [DBCTL, "demo", "chat-lancedb", ".", "--messages", str(MESSAGES)]
    subprocess.run(words, cwd=place, env=ENVIRONMENT, capture_output=True, check=True)
