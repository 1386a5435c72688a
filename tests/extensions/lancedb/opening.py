"""Opens LanceDB tables of tests with the engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbctl.extensions.lancedb.reader import LanceReader
from dbctl.extensions.lancedb.writer import LanceWriter
from dbctl.url import parse_url
from tests.engines.lance import TABLE

KEYS = {TABLE: ["id", "message_id"]}


def open_reader(location: Path | str, keys: dict[str, Sequence[str]] = KEYS) -> LanceReader:
    return LanceReader(
        parse_url(f"lancedb:{location}" if isinstance(location, Path) else location),
        "chat/vectors",
        timeout=1,
        keys=keys,
    )


def open_writer(location: Path | str, keys: dict[str, Sequence[str]] = KEYS) -> LanceWriter:
    return LanceWriter(
        parse_url(f"lancedb:{location}" if isinstance(location, Path) else location),
        "chat/vectors",
        timeout=1,
        keys=keys,
    )
