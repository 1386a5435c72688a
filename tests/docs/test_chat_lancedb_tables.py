"""The table of the page about the chat with LanceDB: every command in it does its work."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from dbctl.cli.main import main
from tests.engines import lance
from tests.shapes import chat_lancedb as shapes

PAGE = (Path(__file__).parents[2] / "docs/how-to/run-chat-lancedb.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## In place of the document's code and SQL")[2].partition("## Delete in both")[0]
ROWS = re.findall(r"^\| (.+?) \| `dbctl (.+?)` \|$", TABLE, re.MULTILINE)
MEANT = {"CHAT": shapes.GARDEN, "MESSAGE": shapes.PLANTS, "ATTACHMENT": "att-1"}


def test_every_operation_of_the_document_has_a_row() -> None:
    asked = {
        "userOps.create", "userOps.get", "userOps.updatePreferences", "chatOps.getByUser", "chatOps.getById",
        "chatOps.update", "chatOps.delete", "chatOps.setActive", "chatOps.getActive", "messageOps.getByChatId",
        "messageOps.getById", "messageOps.getByUserId", "messageOps.delete", "attachmentOps.getByMessageId",
        "attachmentOps.getById", "attachmentOps.delete", "saveEmbedding", "deleteChatEmbeddings", "deleteUserEmbeddings",
    }  # fmt: skip
    assert asked <= {name for what, _ in ROWS for name in re.findall(r"([\w.]+)\(", what)}


@pytest.mark.parametrize(("what", "words"), ROWS, ids=[words for _, words in ROWS])
def test_the_command_of_a_row_does_its_work(
    what: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    app = ["--profile", "chat-lancedb", "--url", f"chat={shapes.document(tmp_path / 'chat.db')}"]
    Path("vector.json").write_text(json.dumps([1.0] * lance.SIZE), encoding="utf-8")
    if "--db vectors" in words or words.startswith("search vectors"):
        app += ["--url", f"vectors=lancedb:{shapes.vectors(tmp_path / 'lancedb', deployed=False)}"]
    user = "USER-NEW" if words.startswith("users create") else shapes.ANON
    for name, meant in {**MEANT, "ID": user}.items():
        words = re.sub(rf"\b{name}\b", meant, words)
    capsys.readouterr()
    status = main([*app, *shlex.split(words), "-o", "json"])
    assert status == 0, (what, capsys.readouterr().out)
