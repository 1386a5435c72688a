"""The table of the page about YAAI: every command in it does its work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dbctl.cli.main import main
from tests.shapes import yaai as shapes

PAGE = (Path(__file__).parents[2] / "docs/how-to/run-yaai.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## In place of the document's code and SQL")[2].partition("## Backups")[0]
ROWS = re.findall(r"^\| (.+?) \| `dbctl (.+?)` \|$", TABLE, re.MULTILINE)


def test_every_function_of_the_document_has_a_row() -> None:
    asked = {
        "paginate", "batchInsert", "runMigrations", "getMigrationStatus", "getPendingMigrations", "searchMessages",
        "searchMessagesInChat", "backupDatabase", "backupAll", "restoreDatabase", "checkIntegrity", "checkAllIntegrity",
        "getDatabaseStats",
    }  # fmt: skip
    assert asked <= {name for what, _ in ROWS for name in re.findall(r"(\w+)\(", what)}


@pytest.mark.parametrize(("what", "words"), ROWS, ids=[words for _, words in ROWS])
def test_the_command_of_a_row_does_its_work(
    what: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    urls = [word for name, path in shapes.document(tmp_path).items() for word in ("--url", f"{name}={path}")]
    app = ["--profile", "yaai", *urls]
    Path("chats.csv").write_text("id,title\nnew,Another chat\n", encoding="utf-8")
    if words.startswith("restore"):
        assert main([*app, "backup", "create", "--repository", "backups"]) == 0
    capsys.readouterr()
    status = main([*app, *shlex.split(words.replace("CHAT", shapes.GARDEN)), "-o", "json"])
    assert status == 0, (what, capsys.readouterr().out)
