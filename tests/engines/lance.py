"""LanceDB tables of both variants for tests, created with the library."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

import lancedb
import pyarrow as pa

TABLE = "chat_embeddings"
#: Dimensions of a vector: fewer than the 768 of the app, so that tests are fast.
SIZE = 16


def create_vector(number: int, size: int = SIZE) -> list[float]:
    """Return a vector that depends only on ``number``."""
    generator = random.Random(number)  # noqa: S311 - no secret
    return [generator.gauss(0, 1) for _ in range(size)]


def create_row(number: int, *, deployed: bool = True, size: int = SIZE) -> dict[str, object]:
    """Return a row of the deployed or the documented variant."""
    values = {
        "id": f"msg-{number:05}",
        "chat_id": f"chat-{number % 7}",
        "user_id": f"USER-{number % 3}",
        "content": f"It's text {number}",
        "embedding": create_vector(number, size),
        "role": ("user", "assistant")[number % 2],
        "timestamp": 1_700_000_000_000.0 + number * 1000,
        "metadata": {"model": "gemini-2.5-flash", "language": "en"},
    }
    if not deployed:
        return values
    names = {"id": "message_id", "embedding": "vector"}
    return {
        **{names.get(name, name): value for name, value in values.items()},
        "chat_title": f"Chat {number % 7}",
        "metadata": json.dumps({}),
    }


def create_schema(*, deployed: bool = True, size: int = SIZE) -> pa.Schema:
    text = [
        (name, pa.string())
        for name in (("message_id" if deployed else "id"), "chat_id", "user_id", "content", "role")
    ]
    metadata = pa.string() if deployed else pa.struct([("model", pa.string()), ("language", pa.string())])
    extra_fields = [("chat_title", pa.string())] if deployed else []
    return pa.schema(
        [
            *text,
            *extra_fields,
            ("timestamp", pa.float64()),
            ("metadata", metadata),
            ("vector" if deployed else "embedding", pa.list_(pa.float32(), size)),
        ]
    )


def create_table(
    location: Path | str,
    numbers: Iterable[int] = range(20),
    *,
    deployed: bool = True,
    size: int = SIZE,
    options: dict[str, str] | None = None,
) -> lancedb.table.Table:
    """Create the table of the app in a location; return it as an object of the library."""
    connection = lancedb.connect(str(location), storage_options=options)
    table_schema = create_schema(deployed=deployed, size=size)
    rows = [create_row(number, deployed=deployed, size=size) for number in numbers]
    return connection.create_table(TABLE, pa.Table.from_pylist(rows, table_schema))
