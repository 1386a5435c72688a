"""``search semantic`` over 100,000 vectors of 768 numbers against lancedb itself."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa

from benchmarks.measure import DBCTL, Area, Result, Run, in_turn, process, ratios
from benchmarks.sample import cached_sample
from dbctl.config.sections import Selection
from dbctl.extensions.semantic.search import Reference, SemanticRequest, SemanticSearch
from tests.shapes import chat_lancedb

ROWS, NUMBERS, TOP, LIKE = 100_000, 768, 5, "msg-00042"
TABLE = "chat_embeddings"
CONFIGURATION = """\
[apps.chat]
profile = "chat-lancedb"
[apps.chat.databases]
chat = "chat.db"
vectors = "lancedb:lancedb"
"""
#: A script that runs the same query and nothing else.
BARE = f"""
import lancedb
table = lancedb.connect("lancedb").open_table("{TABLE}")
vector = table.search().where("message_id = '{LIKE}'").select(["vector"]).limit(1).to_arrow()["vector"][0].as_py()
query = table.search(vector, vector_column_name="vector").distance_type("cosine").bypass_vector_index()
print(query.select(["message_id", "content", "_distance"]).limit({TOP + 1}).to_arrow().to_pylist())
"""
GOAL = 1.3
#: Seconds by which the command may exceed the script, which imports and opens the same.
OVERHEAD = 0.4


def measure() -> Area:
    """Time the query alone in one process, and the whole command."""
    from dbctl.services.app.session import open_app

    place = cached_sample(f"{ROWS}-vectors", [Path(__file__)], _create_deployment)
    urls = [f"chat={place}/chat.db", f"vectors=lancedb:{place}/lancedb"]
    table = lancedb.connect(str(place / "lancedb")).open_table(TABLE)
    with open_app(Selection(profile="chat-lancedb", urls=urls), timeout=5) as app:
        searcher = SemanticSearch(app)
        vector = list(searcher.read_vector(LIKE))
        request = SemanticRequest(reference=Reference(row=LIKE), limit=TOP)
        times = in_turn(
            {
                "the query": _measure(lambda: searcher.find_nearest(vector, request)),
                "lancedb": _measure(lambda: _search_directly(table, vector)),
            }
        )
    whole = in_turn(
        {
            "search semantic": process([DBCTL, "search", "semantic", "--similar-to", LIKE], cwd=place),
            "a script": process([sys.executable, "-c", BARE], cwd=place),
        }
    )
    overhead = [
        command_seconds - script_seconds
        for command_seconds, script_seconds in zip(whole["search semantic"], whole["a script"], strict=True)
    ]
    durations = [round(seconds * 1000) for seconds in whole["search semantic"]]
    milliseconds = [round(seconds * 1000) for seconds in overhead]
    return Area(
        f"The {TOP} nearest of {ROWS:,} vectors of {NUMBERS} numbers",
        [
            Result("the query alone", "lancedb's search", ratios(times, "the query", "lancedb"), GOAL),
            Result(
                "search semantic --similar-to",
                "a script with lancedb",
                ratios(whole, "search semantic", "a script"),
                None,
            ),
            Result("the same, from start to end", "nothing", durations, None, unit=" ms"),
            Result("its overhead", "the same", milliseconds, OVERHEAD * 1000, unit=" ms"),
        ],
    )


def _search_directly(table: lancedb.table.Table, vector: Sequence[float]) -> object:
    query = table.search(vector, vector_column_name="vector")
    query = query.distance_type("cosine").bypass_vector_index()  # type: ignore[attr-defined]
    columns = ["message_id", "role", "content", "timestamp", "chat_id", "chat_title", "user_id", "_distance"]
    return query.select(columns).limit(TOP + 3).to_arrow().to_pylist()


def _measure(run: Callable[[], object]) -> Run:
    def timed() -> float:
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin

    return timed


def _create_deployment(place: Path) -> None:
    """Create a deployment: vectors around 64 topics, and a thousand messages in SQLite."""
    random = np.random.default_rng(1)
    topics = random.standard_normal((64, NUMBERS), dtype=np.float32)
    vectors = topics[random.integers(0, 64, ROWS)] + random.standard_normal((ROWS, NUMBERS), dtype=np.float32)
    ids = [f"msg-{number:05}" for number in range(ROWS)]
    columns = {
        "message_id": ids,
        "chat_id": [f"chat-{number % 500}" for number in range(ROWS)],
        "user_id": [f"USER-{number % 50}" for number in range(ROWS)],
        "content": [f"What about number {number}, and the rest of it?" for number in range(ROWS)],
        "role": [("user", "assistant")[number % 2] for number in range(ROWS)],
        "chat_title": [f"Chat {number % 500}" for number in range(ROWS)],
        "timestamp": [1_700_000_000_000.0 + number * 1000 for number in range(ROWS)],
        "metadata": ["{}"] * ROWS,
    }
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), NUMBERS)
    lancedb.connect(str(place / "lancedb")).create_table(TABLE, pa.table({**columns, "vector": flat}))
    chat_lancedb.deployed(place / "chat.db")
    with closing(sqlite3.connect(place / "chat.db")) as db, db:
        db.execute("pragma foreign_keys = off")
        db.executemany(
            "insert into messages (id, chat_id, user_id, content, role) values (?, 'chat-1', 'USER-1', 'x', 'user')",
            [(message_id,) for message_id in ids[:1000]],
        )
    (place / "dbctl.toml").write_text(CONFIGURATION)
