"""An engine of another distribution: its rows follow the rules of the app, and a part that it lacks is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.extensions.third_party import run_dbctl

COLUMNS = {
    "id": {"type": "integer", "key": True},
    "handle": {"required": True},
    "role": {},
    "active": {"type": "integer"},
}
USERS = [
    {"id": 1, "handle": "ada", "role": "chief", "active": 1},
    {"id": 2, "handle": "bob", "role": "cook", "active": 1},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.json").write_text(
        json.dumps({"users": {"columns": COLUMNS, "rows": USERS}}), encoding="utf-8"
    )
    (tmp_path / "dbctl.toml").write_text(
        '[apps.toy]\nprofile = "toy"\n[apps.toy.databases]\nmain = "toy:app.json"\n', encoding="utf-8"
    )  # fmt: skip
    return tmp_path


@pytest.fixture
def run(folder: Path, installed: Path) -> Callable[..., tuple[int, dict[str, object]]]:
    """Return a function that returns the exit code and the JSON result of a command."""

    def run(*words: str) -> tuple[int, dict[str, object]]:
        process = run_dbctl(folder, installed, *words, "--output", "json")
        return process.returncode, json.loads(process.stdout or process.stderr)

    return run


def read_users(folder: Path) -> list[dict[str, object]]:
    users: list[dict[str, object]] = json.loads((folder / "app.json").read_text(encoding="utf-8"))["users"][
        "rows"
    ]
    return users


def test_new_engine_lists_and_changes_users_under_the_rules_of_the_app(run, folder: Path) -> None:
    code, result = run("users", "list")
    assert (code, [user["login"] for user in result["data"]["items"]]) == (0, ["ada", "bob"])  # type: ignore[index]
    code, result = run("users", "set-role", "ada", "cook", "--yes")
    assert (code, result["error"]["code"]) == (6, "last-admin")  # type: ignore[index]
    assert read_users(folder) == USERS
    assert run("users", "set-role", "bob", "chief", "--yes")[0] == 0
    assert read_users(folder) == [USERS[0], {**USERS[1], "role": "chief"}]


def test_database_needs_no_configuration(run, folder: Path) -> None:
    (folder / "dbctl.toml").unlink()
    code, result = run("--profile", "toy", "--url", "toy:app.json", "users", "list")
    assert (code, [user["login"] for user in result["data"]["items"]]) == (0, ["ada", "bob"])  # type: ignore[index]


def test_part_of_new_engine_is_used(run, folder: Path) -> None:
    code, result = run("stats", "tables")
    assert (code, result["data"]["items"][0]["rows"]) == (0, 2)  # type: ignore[index]


@pytest.mark.parametrize(
    "words", [("data", "export", "users", "rows.csv"), ("search", "all", "ada"), ("stats", "indexes")]
)
def test_missing_part_of_new_engine_is_refused(run, folder: Path, words: tuple[str, ...]) -> None:
    code, result = run(*words)
    assert (code, result["error"]["code"]) == (2, "not-supported")  # type: ignore[index]


def test_missing_check_of_new_engine_is_reported(run, folder: Path) -> None:
    code, result = run("integrity", "check")
    assert (code, [finding["code"] for finding in result["data"]["findings"]]) == (0, ["not-checked"])  # type: ignore[index]


@pytest.mark.parametrize("group", ["status", "doctor"])
def test_overview_of_new_engine_is_no_internal_error(run, folder: Path, group: str) -> None:
    assert run(group)[0] in {0, 4}


def test_profile_of_the_distribution_is_listed(run, folder: Path) -> None:
    code, result = run("profiles", "list")
    (listed,) = [item for item in result["data"]["items"] if item["name"] == "toy"]  # type: ignore[index]
    assert (code, listed["origin"], listed["title"]) == (0, "extension", "Toy")
    code, result = run("apps", "show", "toy")
    assert (code, result["data"]["file"]) == (0, listed["file"])  # type: ignore[index]
