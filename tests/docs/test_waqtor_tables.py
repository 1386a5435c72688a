"""The tables of the page about WaQtor: every command in them does what its row says, in both shapes of the app."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.cli.main import main
from tests import servers
from tests.shapes import waqtor as shapes

PAGE = Path(__file__).parents[2] / "docs/how-to/run-waqtor.md"
ROWS = re.findall(r"^\| (.+?) \| `dbctl (.+?)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
FUNCTIONS = {
    "list-users", "create-admin", "create-user", "update-role", "show-stats", "reset-password", "delete-user",
    "activate", "deactivate", "show-user",
}  # fmt: skip


def test_every_function_of_the_app_s_script_has_its_row():
    assert {what.strip("`").split()[0] for what, _ in ROWS if what.startswith("`")} == FUNCTIONS


@pytest.fixture(params=["deployed", "document"])
def url(request):
    with servers.postgresql_schema() as url, closing(servers.connection(url)) as connection:
        getattr(shapes, request.param)(connection)
        yield servers.text(url)


@pytest.mark.parametrize(("what", "words"), ROWS, ids=[f"{what}: {words}" for what, words in ROWS])
def test_the_command_of_a_row_does_its_work(url, what, words, monkeypatch, capsys):
    said = words.replace("ADDRESS", "ana@waqtor.example").replace("NEW", "new@waqtor.example")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"pass123\n")))
    ended = main(["--profile", "waqtor", "--url", f"main={url}", *shlex.split(said), "-o", "json"])
    assert ended == 0, (what, capsys.readouterr().out)
