"""LanceDB for tests: tables of both shapes, made by the library itself as an app makes them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import lancedb
import pyarrow as pa

from dbctl.engines.lancedb.reader import LanceReader
from dbctl.engines.lancedb.writer import LanceWriter
from dbctl.url import parse

TABLE = "chat_embeddings"
KEYS = {TABLE: ["id", "message_id"]}
#: Numbers of a vector: fewer than the 768 of the app, so that tests are quick.
SIZE = 16


def vector(number: int, size: int = SIZE) -> list[float]:
    """Return a vector that is the same for the same number, and of another direction for another."""
    told = random.Random(number)  # noqa: S311 - no secret
    return [told.gauss(0, 1) for _ in range(size)]


def row(number: int, *, deployed: bool = True, size: int = SIZE) -> dict[str, object]:
    """Return a row as the deployed app writes it, or as its document says."""
    told = {
        "id": f"msg-{number:05}",
        "chat_id": f"chat-{number % 7}",
        "user_id": f"USER-{number % 3}",
        "content": f"It's text {number}",
        "embedding": vector(number, size),
        "role": ("user", "assistant")[number % 2],
        "timestamp": 1_700_000_000_000.0 + number * 1000,
        "metadata": {"model": "gemini-2.5-flash", "language": "en"},
    }
    if not deployed:
        return told
    names = {"id": "message_id", "embedding": "vector"}
    return {
        **{names.get(name, name): value for name, value in told.items()},
        "chat_title": f"Chat {number % 7}",
        "metadata": json.dumps({}),
    }


def schema(*, deployed: bool = True, size: int = SIZE) -> pa.Schema:
    text = [
        (name, pa.string())
        for name in (("message_id" if deployed else "id"), "chat_id", "user_id", "content", "role")
    ]
    metadata = pa.string() if deployed else pa.struct([("model", pa.string()), ("language", pa.string())])
    more = [("chat_title", pa.string())] if deployed else []
    return pa.schema(
        [
            *text,
            *more,
            ("timestamp", pa.float64()),
            ("metadata", metadata),
            ("vector" if deployed else "embedding", pa.list_(pa.float32(), size)),
        ]
    )


def made(
    place: Path | str,
    numbers: Iterable[int] = range(20),
    *,
    deployed: bool = True,
    size: int = SIZE,
    options: dict[str, str] | None = None,
) -> lancedb.table.Table:
    """Make the table of the app below ``place``, and return it as the library sees it."""
    connection = lancedb.connect(str(place), storage_options=options)
    told = schema(deployed=deployed, size=size)
    rows = [row(number, deployed=deployed, size=size) for number in numbers]
    return connection.create_table(TABLE, pa.Table.from_pylist(rows, told))


def reader(place: Path | str, keys: dict[str, Sequence[str]] = KEYS) -> LanceReader:
    return LanceReader(
        parse(f"lancedb:{place}" if isinstance(place, Path) else place), "chat/vectors", timeout=1, keys=keys
    )


def writer(place: Path | str, keys: dict[str, Sequence[str]] = KEYS) -> LanceWriter:
    return LanceWriter(
        parse(f"lancedb:{place}" if isinstance(place, Path) else place), "chat/vectors", timeout=1, keys=keys
    )
