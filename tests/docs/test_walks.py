"""The tables of ``docs/design/walks.md``: functions that commands call, in the order of their first call, and how many there are."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.walk import ROOT
from tests.in_process import run_command
from tests.services.flashpoint_app import copy_configured_deployment

PAGE = (ROOT / "docs/design/walks.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## `dbctl (.+?)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
#: Functions, files, statements on the app's file, statements on all files; without and with a journal.
FIGURES = re.findall(
    r"^\| `([a-z ]+)` \| (no|yes) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE
)

#: The maximum number of functions that the other commands call, and of their files: a reader who follows a run reads all of them.
LIMITS = {
    "backup create": (423, 79),
    "restore apply": (701, 108),
    "migrate up": (354, 67),
    "search games": (304, 57),
}


def first_words(command: str) -> str:
    return " ".join(command.split()[:2])


def trace(command: str, folder: Path, state: str = "off") -> dict[str, Any]:
    """Run a command in a new process, and return its calls and its numbers of statements."""
    words = [sys.executable, "-m", "tests.docs.walk", folder, state, *shlex.split(command)]
    walk: dict[str, Any] = json.loads(subprocess.run(words, cwd=ROOT, check=True, capture_output=True).stdout)
    assert walk["status"] == 0, walk["message"]
    return walk


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """Create a sample with one backup, and a folder of migrations."""
    environment = {"HOME": str(tmp_path)}
    copy_configured_deployment(tmp_path)
    assert run_command(["backup", "create"], environment=environment, cwd=tmp_path).returncode == 0
    return tmp_path


@pytest.mark.parametrize(
    ("command", "table"),
    [
        pytest.param(
            command,
            table,
            id=command,
            marks=[*map(pytest.mark.needs_extension, re.findall("dbctl/extensions/([a-z_]+)/", table))],
        )
        for command, table in SECTIONS
    ],
)
def test_walk_lists_calls_in_their_order(deployment: Path, command: str, table: str) -> None:
    if "--url" in command:  # without the configuration of the sample
        deployment = deployment / "migrating"
        (deployment / "migrations").mkdir(parents=True)
        (deployment / "migrations/001_first.sql").write_text("create table first (id integer primary key);\n")
    steps = re.findall(r"^\| `(dbctl/[\w/]+\.py)` \| `([\w.]+)` \|", table, re.MULTILINE)
    assert len(steps) > 5
    positions = {tuple(call): index for index, call in enumerate(trace(command, deployment)["calls"])}
    if limits := LIMITS.get(first_words(command)):
        files = {file for file, _ in positions}
        assert len(positions) <= limits[0]
        assert len(files) <= limits[1]
    assert [step for step in steps if step not in positions] == []
    assert steps == sorted(steps, key=lambda step: positions[step])


@pytest.mark.parametrize(
    ("command", "journal", "figures"), [(name, journal, tuple(rest)) for name, journal, *rest in FIGURES]
)
def test_figures_are_those_of_the_command(
    deployment: Path, command: str, journal: str, figures: tuple[str, ...]
) -> None:
    line = next(line for line, _ in SECTIONS if first_words(line) == command)
    state = "off"
    if journal == "yes":
        state = str(deployment / "state")
        words = ["settings", "set", "app.siteName", "Arcade"]  # the first run creates the journal
        environment = {"HOME": str(deployment), "DBCTL_STATE": state}
        assert run_command(words, environment=environment, cwd=deployment).returncode == 0
    walk = trace(line, deployment, state)
    statements = walk["statements"]
    files = {file for file, _ in walk["calls"]}
    measured = (len(walk["calls"]), len(files), statements["app"], sum(statements.values()))
    assert tuple(map(int, figures)) == measured


def test_page_describes_six_commands() -> None:
    assert [first_words(command) for command, _ in SECTIONS] == ["users list", "users create", *LIMITS]
    assert [figure[:2] for figure in FIGURES] == [
        (command, journal) for command in ("users list", "users create") for journal in ("no", "yes")
    ]
