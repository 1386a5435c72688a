"""The tables of the page about PromptVault: every command runs on the engines of its row."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbctl.cli.main import main
from dbctl.errors.base import Exit
from docs.documents import Row, read_rows
from tests.examples import mark_command
from tests.shapes import promptvault

pytestmark = pytest.mark.slow

ROWS = read_rows("PromptVault")
ENGINES = {"SQLite": "sqlite", "PostgreSQL": "postgresql", "MySQL": "mysql"}
#: Exit codes other than 0: ``doctor`` reports errors of the sample; ``stats slow`` a missing extension.
EXIT_STATUSES = {"doctor": {Exit.OK, Exit.CHECK_FAILED}, "stats slow": {Exit.OK, Exit.USAGE}}
NEW_TAGS = "id,name\nnew-tag,new\n"


def engines(row: Row) -> set[str]:
    """Return the engine at the end of a row, or all engines."""
    return {ENGINES[name] for name in re.findall(r"\((\w+)\)$", row.function) if name in ENGINES} or {
        *ENGINES.values()
    }


CASES = list(
    dict.fromkeys(
        (engine, command) for row in ROWS for engine in sorted(engines(row)) for command in row.commands
    )
)


VALUES = {
    "ADDRESS": "ben@example.org",
    "TEAM": promptvault.TEAM,
    "USER": promptvault.CLEO,
    "MEMBER": promptvault.BEN,
    "UNUSED": "unused",
}


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(promptvault.deployed(tmp_path / "promptvault.db"))
    else:
        with getattr(promptvault, f"on_{request.param}")() as address:
            yield address


def test_every_query_of_document_has_row() -> None:
    """Check the comments of the sections "Common Queries" and "Advanced Queries"."""
    queries = {
        "Get all users", "Get user by email", "Get users by team", "Get admin users", "Get all prompts",
        "Get prompts by user", "Get team prompts", "Get public prompts", "Get all tags", "Get tags with usage count",
        "Get most used tags", "Full-text search", "Tag-based search", "User activity", "Popular prompts",
    }  # fmt: skip
    assert queries <= {row.function for row in ROWS if engines(row) == {*ENGINES.values()}}


@pytest.mark.parametrize(
    ("url", "command"),
    [
        pytest.param(engine, command, id=f"{engine} {command}", marks=mark_command(command))
        for engine, command in CASES
    ],
    indirect=["url"],
)
def test_command_of_row_works(
    url: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("new-tags.csv").write_text(NEW_TAGS, encoding="utf-8")
    Path("own").mkdir()
    app = ["--profile", "promptvault", "--url", f"main={url}"]
    assert main([*app, "search", "index", "repair"]) == 0  # the original index of the app prevents a VACUUM
    if re.match(r"backup (verify|prune)|restore apply", command):
        assert main([*app, "backup", "create", "--repository", "backups"]) == 0
    if url.startswith("postgresql") and command.startswith("migrate"):
        assert main([*app, "migrate", "baseline"]) == 0
    if re.match(r"migrate (lint|up) --migrations own", command):
        assert main([*app, "migrate", "new", "add-new-field", "--migrations", "own"]) == 0
        max(Path("own").rglob("*.sql")).write_text("create table notes (id integer primary key);\n")
    if "UNUSED" in command:
        assert main([*app, "data", "add", "Team", "id=unused", "name=Unused"]) == 0
    for name, value in VALUES.items():
        command = re.sub(rf"\b{name}\b", value, command)
    capsys.readouterr()
    status = main([*app, *shlex.split(command), "-o", "json"])
    assert status in EXIT_STATUSES.get(command, {Exit.OK}), capsys.readouterr().out
