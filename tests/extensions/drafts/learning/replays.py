"""Run a command of dbctl on the state before a demonstration, and compare the rows with those after it."""

from __future__ import annotations

import gzip
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.databases import empty_database
from tests.extensions.drafts.learning.demonstrations import Pair


@contextmanager
def load_states(pair: Pair, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the addresses of copies of the states before and after a demonstration."""
    with ExitStack() as stack:
        before, after = (
            stack.enter_context(_load(pair.engine, path, folder / f"{name}.db"))
            for name, path in (("before", pair.before[0]), ("after", pair.after[0]))
        )
        yield before, after


@contextmanager
def _load(engine: str, dump: Path, file: Path) -> Iterator[str]:
    text = gzip.decompress(dump.read_bytes()).decode()
    file.unlink(missing_ok=True)
    if engine == "sqlite":
        with closing(sqlite3.connect(file)) as connection:
            connection.executescript(text)
        yield str(file)
        return
    with empty_database(engine, file) as database:
        subprocess.run(["psql", "-q", database.url], input=text.encode(), check=True, capture_output=True)
        yield database.url


def list_differences(answer, before: str, after: str) -> dict[str, tuple[int, int, list[str]]]:
    """Return, by table that differs, the rows that only one of two databases has, and the changed columns of the others."""
    tables = answer("data", "diff", before, after, "--limit", "100", status=None)["data"]["tables"]
    return {
        table["table"]: (
            table["only_a"],
            table["only_b"],
            sorted({column for row in table["rows"] if row["change"] == "changed" for column in row["a"]}),
        )
        for table in tables
        if not table["equal"]
    }
