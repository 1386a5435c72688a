"""Run one command, and print what it calls: ``python -m tests.docs.walk FOLDER STATE WORD...``; each in a process of its own, which has cached nothing."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
CODE = f"{ROOT}/dbctl/"
#: Expressions of their functions; later versions of Python compile most of them into these.
COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")


def is_importing(frame: FrameType | None) -> bool:
    """Whether a frame is called by the body of a module, which runs only if nothing has imported it, or by its annotations.

    Python evaluates these later since 3.14.
    """
    while frame is not None and not (
        frame.f_code.co_name in ("<module>", "__annotate__") and frame.f_code.co_filename.startswith(CODE)
    ):
        frame = frame.f_back
    return frame is not None


def trace(call: Callable[[], object]) -> list[tuple[str, str]]:
    """Return the functions of dbctl in the order of their first call, as file and name."""
    calls: dict[tuple[str, str], bool] = {}

    def record(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        # the bodies of modules and classes are not optimized
        if event == "call" and code.co_flags & CO_OPTIMIZED and code.co_filename.startswith(CODE):
            key = (str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname)
            if key not in calls and code.co_name not in COMPREHENSIONS and not is_importing(frame):
                calls[key] = True

    sys.setprofile(record)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(calls)


def count_statements(counts: dict[str, int]) -> None:
    """Count the statements that SQLite runs from now on, by the kind of the file."""
    connect = sqlite3.connect

    def connect_and_count(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(database, *arguments, **options)
        kind = "journal" if "events.sqlite" in str(database) else "app"

        def count(statement: str) -> None:
            # "--" marks the statements that SQLite itself runs for another one
            counts[kind] += not statement.startswith("--")

        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = sqlite3.dbapi2.connect = connect_and_count


def main() -> None:
    """Write the calls and the numbers of statements as JSON to the original standard output."""
    folder, state, *words = sys.argv[1:]
    counts = {"app": 0, "journal": 0}
    count_statements(counts)
    from tests.in_process import run_command

    results = []

    def run() -> None:
        environment = {"HOME": folder, "DBCTL_STATE": state}
        results.append(
            run_command(words, environment=environment, cwd=Path(folder), stdin=b"correct horse battery\n")
        )

    calls = trace(run)
    status, message = results[0].returncode, results[0].stderr.decode()
    json.dump({"status": status, "message": message, "calls": calls, "statements": counts}, sys.stdout)


if __name__ == "__main__":
    main()
