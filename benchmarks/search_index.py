"""``search games`` through its index over 200,000 games against the launcher's engine in a node program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import DBCTL, ENVIRONMENT, Area, Result, Run, in_turn, process, ratios
from benchmarks.sample import LAUNCHER_WORDS, copy_sample, launcher
from dbctl.config.sections import Selection
from dbctl.model import PageRequest
from dbctl.services.app.session import open_app
from dbctl.services.search.request import SearchRequest
from dbctl.services.search.search import find
from tests import external_tools

ROOT = Path(__file__).parents[1]
TITLE = "Search of 200,000 games through an index, against the launcher's engine (npm @fparchive/flashpoint-archive)"
#: By number of hits: the goals for the whole process and for the query alone, relative to the peer.
GOALS = {5: (0.5, 0.02), 124: (0.5, 0.02), 47_000: (0.9, 0.5)}
GAMES, BUILDS, FASTEST = 200_000, 3, 20_000
#: Returns the first page, and the total unless it is the last page. With a third argument the query runs twice, so that the
#: first one loads everything. The duration of the last query goes to standard error, in seconds.
PEER = """
const { createRequire } = require('node:module');
const { FlashpointArchive, parseUserSearchInput } = createRequire(process.cwd() + '/')('@fparchive/flashpoint-archive');
(async () => {
  const archive = new FlashpointArchive();
  archive.loadDatabase(process.argv[2]);
  const search = parseUserSearchInput(process.argv[3]).search;
  search.limit = 50;
  search.slim = true;
  let games, total, begin;
  for (let rounds = process.argv[4] ? 2 : 1; rounds; rounds--) {
    begin = performance.now();
    games = await archive.searchGames(search);
    total = games.length < search.limit ? games.length : await archive.searchGamesTotal(search);
  }
  process.stderr.write(String((performance.now() - begin) / 1000));
  console.log(JSON.stringify({ total, titles: games.map((game) => game.title) }));
})();
"""


def measure() -> Area:
    """Build the index several times; then search for a rare, a less rare and a common word."""
    with copy_sample(launcher(games=GAMES)) as place:
        database = place / "Data/flashpoint.sqlite"
        results = _measure_build(place, database)
        peer, node = external_tools.flashpoint(), shutil.which("node")
        if peer is None or node is None:
            return Area(TITLE, results, ["@fparchive/flashpoint-archive (npm)"])
        peer_database = place / "peer.sqlite"  # the engine writes its database when it opens it
        shutil.copy(database, peer_database)
        script = place / "peer.cjs"
        script.write_text(PEER)
        for word, hits in LAUNCHER_WORDS.items():
            peer_command = [node, str(script), str(peer_database), word]
            command = [DBCTL, "search", "games", word]
            _compare_results(peer_command, [*command, "-o", "json", "--quiet"], hits, peer, place)
            whole = in_turn({"dbctl": process(command, cwd=place), "node": process(peer_command, cwd=peer)})
            alone = in_turn(
                {
                    "dbctl": _read_seconds(
                        [sys.executable, "-m", "benchmarks.search_index", str(place / "dbctl.toml"), word],
                        ROOT,
                    ),
                    "node": _read_seconds([*peer_command, "twice"], peer),
                }
            )
            goal, goal_alone = GOALS[hits]
            results += [
                Result(f"{hits:,} hits", "node, whole processes", ratios(whole, "dbctl", "node"), goal),
                Result("the query alone", "its query alone", ratios(alone, "dbctl", "node"), goal_alone),
            ]
    return Area(TITLE, results)


def _measure_build(place: Path, database: Path) -> list[Result]:
    rates = []
    for _ in range(BUILDS):
        begin = time.perf_counter()
        subprocess.run(
            [DBCTL, "search", "index", "build"], cwd=place, env=ENVIRONMENT, capture_output=True, check=True
        )
        rates.append(GAMES / (time.perf_counter() - begin))
        index = database.with_name(f"{database.name}.dbctl-search-games")
        share = index.stat().st_size / database.stat().st_size
        index.unlink()
    subprocess.run(
        [DBCTL, "search", "index", "build"], cwd=place, env=ENVIRONMENT, capture_output=True, check=True
    )
    os.sync()
    return [
        Result("search index build", "", rates, FASTEST, least=True, unit=" games/s"),
        Result("its size", "the database", [share], 0.2),
    ]


def _compare_results(
    peer_command: Sequence[str], command: Sequence[str], hits: int, peer: Path, place: Path
) -> None:
    """Raise an error unless both return the same total, and the same number of games on the first page."""
    peer_result = json.loads(
        subprocess.run(peer_command, cwd=peer, env=ENVIRONMENT, capture_output=True, check=True).stdout
    )
    answer = subprocess.run(command, cwd=place, env=ENVIRONMENT, capture_output=True, check=True).stdout
    result = json.loads(answer)
    if result["warnings"] or not peer_result["total"] == result["data"]["total"] == hits:
        raise RuntimeError(
            f"{hits} hits: node {peer_result['total']}, dbctl {result['data']['total']} {result['warnings']}"
        )
    if len(peer_result["titles"]) != len(result["data"]["items"]):
        raise RuntimeError("the first pages differ")


def _read_seconds(words: Sequence[str], cwd: Path) -> Run:
    """Return a run whose duration a process writes to standard error, in seconds."""

    def run_process() -> float:
        process_result = subprocess.run(words, cwd=cwd, env=ENVIRONMENT, capture_output=True, check=True)
        return float(process_result.stderr)

    return run_process


def _time_query(config: str, word: str) -> float:
    """Return the duration of the second of two equal searches in one process, in seconds."""
    duration = 0.0
    with open_app(Selection(config=config), timeout=5) as app:
        for _ in range(2):
            begin = time.perf_counter()
            find(app, "games", SearchRequest(words=[word]), PageRequest(limit=50), summary=True)
            duration = time.perf_counter() - begin
    return duration


if __name__ == "__main__":
    sys.stderr.write(str(_time_query(*sys.argv[1:])))
