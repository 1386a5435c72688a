"""The tables of the page about PromptVault: every command in them does its work, on the engines that it is said for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbctl.cli.main import main
from tests.shapes import promptvault as shapes

PAGE = (Path(__file__).parents[2] / "docs/how-to/run-promptvault.md").read_text(encoding="utf-8")
TABLES = PAGE.partition("## In place of the document's SQL")[2].partition("## What should not be")[0]
EVERYWHERE, LITE, SERVED = re.split(r"In SQLite alone|In PostgreSQL alone", TABLES)


def rows(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^\| (.+?) \| `dbctl (.+?)` \|$", text, re.MULTILINE)


CASES = [
    (engine, what, words)
    for engine, told in {
        "sqlite": EVERYWHERE + LITE,
        "postgresql": EVERYWHERE + SERVED,
        "mysql": EVERYWHERE,
    }.items()
    for what, words in rows(told)
]


STANDS_FOR = {
    "ADDRESS": "ben@example.org",
    "TEAM": shapes.TEAM,
    "USER": shapes.CLEO,
    "MEMBER": shapes.BEN,
    "UNUSED": "unused",
}


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(shapes.deployed(tmp_path / "promptvault.db"))
    else:
        with getattr(shapes, f"on_{request.param}")() as made:
            yield made


def test_every_query_of_the_document_has_a_row() -> None:
    """Those of its section "Common Queries" and "Advanced Queries", by their own comments."""
    asked = {
        "Get all users", "Get user by email", "Get users by team", "Get admin users", "Get all prompts",
        "Get prompts by user", "Get team prompts", "Get public prompts", "Get all tags", "Get tags with usage count",
        "Get most used tags", "Full-text search", "Tag-based search", "User activity", "Popular prompts",
    }  # fmt: skip
    assert asked <= {what for what, _ in rows(EVERYWHERE)}


@pytest.mark.parametrize(
    ("url", "what", "words"), CASES, indirect=["url"], ids=[f"{engine} {words}" for engine, _, words in CASES]
)
def test_the_command_of_a_row_does_its_work(
    url: str, what: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = ["--profile", "promptvault", "--url", f"main={url}"]
    if "UNUSED" in words:
        assert main([*app, "data", "add", "Team", "id=unused", "name=Unused"]) == 0
    for name, value in STANDS_FOR.items():
        words = re.sub(rf"\b{name}\b", value, words)
    said = shlex.split(words)
    assert (
        main([*app, "search", "index", "repair"]) == 0
    )  # with the index that the app makes, no file may be shrunk
    capsys.readouterr()
    status = main([*app, *said, "-o", "json"])
    assert status == 0, (what, capsys.readouterr().out)
