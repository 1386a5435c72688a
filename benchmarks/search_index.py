"""``search games`` through its index over 200,000 games against the launcher's own engine, asked the same by a node program."""

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
from benchmarks.sample import LAUNCHER_WORDS, copied, launcher
from tests import external_tools

TITLE = "Search of 200,000 games through an index, against the launcher's own engine (npm @fparchive/flashpoint-archive)"
#: For words with how many hits: what a whole process, and the query alone, may take of the peer's time.
GOALS = {5: (0.5, 0.02), 124: (0.5, 0.02), 47_000: (0.9, 0.5)}
GAMES, BUILDS, FASTEST = 200_000, 3, 20_000
#: The first page, and how many there are in all where that is not the last one. With a third word it is asked twice, so that
#: what is loaded once is not timed; the seconds that the last one takes go to standard error.
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
  for (let left = process.argv[4] ? 2 : 1; left; left--) {
    begin = performance.now();
    games = await archive.searchGames(search);
    total = games.length < search.limit ? games.length : await archive.searchGamesTotal(search);
  }
  process.stderr.write(String((performance.now() - begin) / 1000));
  console.log(JSON.stringify({ total, titles: games.map((game) => game.title) }));
})();
"""
#: The same of dbctl, once its database is open.
OWN = """
import sys, time
from dbctl.config import Selection
from dbctl.model import Window
from dbctl.services import apps, search
from dbctl.services.search.search import Asked
with apps.opened(Selection(config=sys.argv[1]), timeout=5) as app:
    for _ in range(2):
        begin = time.perf_counter()
        search.find(app, "games", Asked(words=[sys.argv[2]]), Window(limit=50), brief=True)
    sys.stderr.write(str(time.perf_counter() - begin))
"""


def measure() -> Area:
    """Build the index a few times; then time a rare word, one on some pages, and one in a quarter of all titles."""
    with copied(launcher(games=GAMES)) as place:
        database = place / "Data/flashpoint.sqlite"
        results = _built(place, database)
        peer, node = external_tools.flashpoint(), shutil.which("node")
        if peer is None or node is None:
            return Area(TITLE, results, ["@fparchive/flashpoint-archive (npm)"])
        theirs = place / "peer.sqlite"  # it writes its database when it opens it
        shutil.copy(database, theirs)
        script = place / "peer.cjs"
        script.write_text(PEER)
        for word, hits in LAUNCHER_WORDS.items():
            asked = [node, str(script), str(theirs), word]
            mine = [DBCTL, "search", "games", word]
            _agree(asked, [*mine, "-o", "json", "--quiet"], hits, peer, place)
            whole = in_turn({"dbctl": process(mine, cwd=place), "node": process(asked, cwd=peer)})
            alone = in_turn(
                {
                    "dbctl": _told([sys.executable, "-c", OWN, str(place / "dbctl.toml"), word], place),
                    "node": _told([*asked, "twice"], peer),
                }
            )
            goal, goal_alone = GOALS[hits]
            results += [
                Result(f"{hits:,} hits", "node, whole processes", ratios(whole, "dbctl", "node"), goal),
                Result("the query alone", "its query alone", ratios(alone, "dbctl", "node"), goal_alone),
            ]
    return Area(TITLE, results)


def _built(place: Path, database: Path) -> list[Result]:
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


def _agree(asked: Sequence[str], mine: Sequence[str], hits: int, peer: Path, place: Path) -> None:
    """Let both answer once: as many games, and the same number on the first page."""
    theirs = json.loads(
        subprocess.run(asked, cwd=peer, env=ENVIRONMENT, capture_output=True, check=True).stdout
    )
    answer = subprocess.run(mine, cwd=place, env=ENVIRONMENT, capture_output=True, check=True).stdout
    found = json.loads(answer)
    if found["warnings"] or not theirs["total"] == found["data"]["total"] == hits:
        raise RuntimeError(
            f"{hits} hits: node {theirs['total']}, dbctl {found['data']['total']} {found['warnings']}"
        )
    if len(theirs["titles"]) != len(found["data"]["items"]):
        raise RuntimeError("the first pages differ")


def _told(words: Sequence[str], cwd: Path) -> Run:
    """Return a run that takes the seconds which a process tells on standard error."""

    def run() -> float:
        done = subprocess.run(words, cwd=cwd, env=ENVIRONMENT, capture_output=True, check=True)
        return float(done.stderr)

    return run
