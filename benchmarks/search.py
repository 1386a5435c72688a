"""``search games`` over 200,000 games against the ``sqlite3`` shell with the SQL of ``--explain``."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, in_turn, process
from benchmarks.sample import deployment

#: The words after ``search games``.
QUERIES: Mapping[str, Sequence[str]] = {
    "everything": (),
    "a rare phrase": ("velvet wizard",),
    "a common word": ("the",),
    "a tag": ("--filter", "tag=Puzzle"),
    "platform and year": (
        "--filter",
        "platform=Flash",
        "--filter",
        "year-from=2005",
        "--filter",
        "year-to=2005",
    ),
}
START = "users list"
GOAL = 1.3


def measure() -> Area:
    """Time the first page of each search, less the start-up of dbctl, which ``users list`` measures."""
    shell = shutil.which("sqlite3")
    if not shell:
        return Area(_TITLE, [], ["sqlite3 (the shell)"])
    place = deployment(games=200_000, users=100)
    database = str(place / "Data/flashpoint.sqlite")
    results = []
    for name, words in QUERIES.items():
        command = [DBCTL, "search", "games", *words]
        script, peer = _build_script(command, place)
        times = in_turn(
            {
                START: process([DBCTL, "users", "list"], cwd=place),
                name: process(command, cwd=place),
                peer: process([shell, "-readonly", database], cwd=place, feed=script),
            }
        )
        rounds = zip(times[name], times[START], times[peer], strict=True)
        ratios = [(dbctl - start) / shell_seconds for dbctl, start, shell_seconds in rounds]
        results.append(Result(name, peer, ratios, GOAL))
    return Area(_TITLE, results)


_TITLE = "Search over 200,000 games: (dbctl - its start-up) / sqlite3"


def _build_script(command: Sequence[str], place: Path) -> tuple[str, str]:
    """Return the input of the shell that gives the same result as a search, and its description.

    A page that is not the last one also returns the total, which takes a second statement.
    """
    explanation = _run_search([*command, "--explain"], place)
    bound = [
        f"insert into sqlite_parameters values (':p{number}', {_literal(value)});"
        for number, value in enumerate(explanation["parameters"])
    ]
    statements, peer = [explanation["sql"]], "the same SQL"
    if _run_search(command, place)["has_more"]:
        # No index serves the descending order, so its statement has the conditions once.
        plain = _run_search([*command, "--sort", "-title", "--explain"], place)["sql"]
        conditions = plain.partition(" from ")[2].rpartition(" order by ")[0]
        statements.append(f"select count(*) from {conditions}")
        peer = "the same SQL, and count(*)"
    return "\n".join([".parameter init", *bound, *(f"{statement};" for statement in statements), ""]), peer


def _run_search(command: Sequence[str], place: Path) -> dict[str, Any]:
    words = [*command, "-o", "json"]
    result = subprocess.run(words, cwd=place, env=ENVIRONMENT, capture_output=True, check=True)
    data: dict[str, Any] = json.loads(result.stdout)["data"]
    return data


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
