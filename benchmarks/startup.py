"""Start-up time of commands: whole processes against the bare Python interpreter."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.measure import BIN, DBCTL, TAB_GOAL, Area, Result, differences, in_turn, process, ratios
from benchmarks.sample import deployment
from tests.extensions.third_party import install_toy

BARE = "python -c pass"
SQLITE = "python -c 'import sqlite3'"
UTILS = "sqlite-utils query"
ROUNDS = 21
#: An extension of another distribution on the path of the interpreter, and an empty folder there.
WITH_TOY, WITHOUT = "users list with an extension", "users list with an empty folder"
#: Requests of the completion files.
TABS = {
    "Tab after users show m": ["argument:logins", "", "users", "show", "m"],
    "Tab after settings get app.": ["argument:settings", "", "settings", "get", "app."],
    "Tab after --app": ["option:apps", "", "--app", ""],
}
#: Profiles in the configuration directory of the user.
FEW_PROFILES, MANY_PROFILES = 5, 25
PROFILE = """\
schema = "dbctl.profile/1"
name = "app{number}"
title = "App {number}"
[databases.main]
engines = ["sqlite"]
"""


def measure() -> Area:
    """Time ``--version``, help texts, and a list of about 100 users into a pipe."""
    place = deployment(games=2_000, users=100)
    database = str(place / "backend/user.db")
    runs = {
        BARE: process([sys.executable, "-c", "pass"], cwd=place),
        SQLITE: process([sys.executable, "-c", "import sqlite3"], cwd=place),
        "--version": process([DBCTL, "--version"], cwd=place),
        "--help": process([DBCTL, "--help"], cwd=place),
        "users --help": process([DBCTL, "users", "--help"], cwd=place),
        "users list": process([DBCTL, "users", "list"], cwd=place),
    }
    for count in (FEW_PROFILES, MANY_PROFILES):
        words = ["env", f"XDG_CONFIG_HOME={_create_profiles(place, count)}", DBCTL, "users", "list"]
        runs[f"users list with {count} profiles"] = process(words, cwd=place)
    for title, folder in (
        (WITH_TOY, install_toy(_create_folder(place, "toy"))),
        (WITHOUT, _create_folder(place, "none")),
    ):
        runs[title] = process(["env", f"PYTHONPATH={folder}", DBCTL, "users", "list"], cwd=place)
    for title, words in TABS.items():
        runs[title] = process([DBCTL, "__complete", "bash", *words], cwd=place)
    utils = BIN / "sqlite-utils"
    if utils.exists():
        runs[UTILS] = process([str(utils), "query", database, "select * from users limit 100"], cwd=place)
    times = in_turn(runs, rounds=ROUNDS)
    goals = [
        ("--version", BARE, 1.6),
        ("--help", BARE, 5.5),
        ("users --help", BARE, 8.0),
        ("users list", BARE, 7.0),
        ("users list", SQLITE, 6.0),
        ("users list", UTILS, 1.0),
        (WITH_TOY, WITHOUT, 1.1),
        (f"users list with {MANY_PROFILES} profiles", f"users list with {FEW_PROFILES} profiles", 1.1),
    ]
    return Area(
        "Start-up, whole processes",
        [Result(title, peer, ratios(times, title, peer), goal) for title, peer, goal in goals if peer in runs]
        + [
            Result(title, f"+ {BARE}", differences(times, title, BARE), TAB_GOAL, unit=" ms")
            for title in TABS
        ],
        () if UTILS in runs else ["sqlite-utils"],
    )


def _create_folder(place: Path, name: str) -> Path:
    """Return a new folder next to the deployment."""
    folder = place.parent / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _create_profiles(place: Path, count: int) -> Path:
    """Return a configuration directory with ``count`` profiles."""
    configuration = place.parent / f"profiles{count}"
    folder = configuration / "dbctl" / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"app{number}.toml").write_text(PROFILE.format(number=number))
    return configuration
