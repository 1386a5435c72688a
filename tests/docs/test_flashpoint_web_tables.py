"""The tables of the page about Flashpoint Web: every command runs on the sample."""

from __future__ import annotations

import io
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.cli.main import main
from docs.documents import read_rows
from tests.examples import mark_command
from tests.services.flashpoint_app import copy_configured_deployment

ROWS = read_rows("Flashpoint Web")
COMMANDS = dict.fromkeys(command for row in ROWS for command in row.commands)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "sample"
    copy_configured_deployment(folder)
    assert main(["roles", "create", "unused", "--config", str(folder / "dbctl.toml")]) == 0
    return folder


def test_every_table_of_document_has_row() -> None:
    functions = " ".join(row.function for row in ROWS)
    tables = {
        "game", "game_data", "platform", "tag", "game_tags_tag", "playlist", "playlist_game", "users", "roles",
        "permissions", "role_permissions", "refresh_tokens", "activity_logs", "system_settings", "login_attempts",
        "user_game_plays", "user_game_stats", "user_stats", "user_settings",
    }  # fmt: skip
    assert {table for table in tables if f"`{table}" not in functions} == set()


@pytest.mark.parametrize(
    "command", [pytest.param(command, marks=mark_command(command)) for command in COMMANDS]
)
def test_command_of_row_works(
    command: str,
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(sample, tmp_path / "app")
    monkeypatch.chdir(folder)
    Path("own").mkdir()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a-new-Password-9\n")))
    with closing(sqlite3.connect("Data/flashpoint.sqlite")) as connection:
        (game,) = connection.execute("select min(id) from game where library = 'arcade'").fetchone()
        (playlist,) = connection.execute("select min(id) from playlist").fetchone()
    for name, value in {"LOGIN": "demo", "GAME": game, "PLAYLIST": playlist}.items():
        command = command.replace(name, value)
    capsys.readouterr()
    status = main([*shlex.split(command), "-o", "json"])
    assert status == 0, capsys.readouterr().out
