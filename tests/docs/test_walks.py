"""The tables of ``docs/design/walks.md`` list functions that the commands call, in the order of their first call."""

from __future__ import annotations

import re
import shlex
import sys
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType

import pytest

from tests.in_process import run_command

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/design/walks.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## `dbctl (.+?)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)

#: The maximum number of functions that a command calls, and of their files: a reader who follows a run reads all of them. Lower them
#: when a run becomes shorter. They hold in a process that has cached nothing yet, such as one with a single of these tests.
LIMITS = {
    "users create": (525, 78),
    "backup create": (453, 77),
    "restore apply": (800, 117),
    "migrate up": (447, 82),
    "search games": (425, 67),
}


def first_words(command: str) -> str:
    return " ".join(command.split()[:2])


def trace(words: list[str], directory: Path, stdin: bytes) -> dict[tuple[str, str], int]:
    """Run a command, and return the position of the first call of each function."""
    positions: dict[tuple[str, str], int] = {}

    def record(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        is_function = (
            code.co_flags & CO_OPTIMIZED
        )  # the bodies of modules and classes run when they are imported
        if event == "call" and is_function and code.co_filename.startswith(f"{ROOT}/dbctl/"):
            key = (str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname)
            positions.setdefault(key, len(positions))

    sys.setprofile(record)
    try:
        result = run_command(words, environment={"HOME": str(directory)}, cwd=directory, stdin=stdin)
    finally:
        sys.setprofile(None)
    assert result.returncode == 0, result.stderr
    return positions


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """Create a sample with one backup, and a folder of migrations."""
    environment = {"HOME": str(tmp_path)}
    words = ["demo", "flashpoint-web", ".", "--games", "20", "--users", "5", "--plays", "20"]
    assert run_command(words, environment=environment, cwd=tmp_path).returncode == 0
    assert run_command(["backup", "create"], environment=environment, cwd=tmp_path).returncode == 0
    return tmp_path


@pytest.mark.parametrize(("command", "table"), SECTIONS, ids=[command for command, _ in SECTIONS])
def test_walk_lists_calls_in_their_order(deployment: Path, command: str, table: str) -> None:
    if "--url" in command:  # without the configuration of the sample
        deployment = deployment / "migrating"
        (deployment / "migrations").mkdir(parents=True)
        (deployment / "migrations/001_first.sql").write_text("create table first (id integer primary key);\n")
    steps = re.findall(r"^\| `(dbctl/[\w/]+\.py)` \| `([\w.]+)` \|", table, re.MULTILINE)
    assert len(steps) > 5
    positions = trace(shlex.split(command), deployment, b"correct horse battery\n")
    files, (most_functions, most_files) = {file for file, _ in positions}, LIMITS[first_words(command)]
    assert len(positions) <= most_functions
    assert len(files) <= most_files
    assert [step for step in steps if step not in positions] == []
    assert steps == sorted(steps, key=lambda step: positions[step])


def test_page_describes_five_commands() -> None:
    assert [first_words(command) for command, _ in SECTIONS] == list(LIMITS)
