"""A new engine is one package and one line in the table of engines; a part that it lacks is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy"
USERS = [
    {"id": 1, "handle": "ada", "role": "chief", "active": 1},
    {"id": 2, "handle": "bob", "role": "cook", "active": 1},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.json").write_text(json.dumps({"users": USERS}), encoding="utf-8")
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.toy]\nprofile = "{TOY / "toy.toml"}"\n[apps.toy.databases]\nmain = "toy:app.json"\n', encoding="utf-8"
    )  # fmt: skip
    return tmp_path


def run(folder: Path, *words: str) -> tuple[int, dict[str, object]]:
    """Return the exit code and the JSON result of a command."""
    command = [sys.executable, str(TOY / "run.py"), *words, "--output", "json"]
    environment = {**os.environ, "PYTHONPATH": str(TOY.parents[2])}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return result.returncode, json.loads(result.stdout or result.stderr)


def read_users(folder: Path) -> list[dict[str, object]]:
    users: list[dict[str, object]] = json.loads((folder / "app.json").read_text(encoding="utf-8"))["users"]
    return users


def test_new_engine_lists_and_changes_users_under_the_rules_of_the_app(folder: Path) -> None:
    code, result = run(folder, "users", "list")
    assert (code, [user["login"] for user in result["data"]["items"]]) == (0, ["ada", "bob"])  # type: ignore[index]
    code, result = run(folder, "users", "set-role", "ada", "cook", "--yes")
    assert (code, result["error"]["code"]) == (6, "last-admin")  # type: ignore[index]
    assert read_users(folder) == USERS
    assert run(folder, "users", "set-role", "bob", "chief", "--yes")[0] == 0
    assert read_users(folder) == [USERS[0], {**USERS[1], "role": "chief"}]


def test_part_of_new_engine_is_used(folder: Path) -> None:
    code, result = run(folder, "stats", "tables")
    assert (code, result["data"]["items"][0]["rows"]) == (0, 2)  # type: ignore[index]


@pytest.mark.parametrize(
    "words", [("data", "export", "users", "-"), ("search", "all", "ada"), ("stats", "indexes")]
)
def test_missing_part_of_new_engine_is_refused(folder: Path, words: tuple[str, ...]) -> None:
    code, result = run(folder, *words)
    assert (code, result["error"]["code"]) == (2, "not-supported")  # type: ignore[index]


def test_missing_check_of_new_engine_is_reported(folder: Path) -> None:
    code, result = run(folder, "integrity", "check")
    assert (code, [finding["code"] for finding in result["data"]["findings"]]) == (0, ["not-checked"])  # type: ignore[index]


@pytest.mark.parametrize("group", ["status", "doctor"])
def test_overview_of_new_engine_is_no_internal_error(folder: Path, group: str) -> None:
    assert run(folder, group)[0] in {0, 4}
