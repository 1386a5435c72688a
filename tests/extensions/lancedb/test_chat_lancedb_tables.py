"""The table of the page about the chat with LanceDB: every command runs on databases of the documented schema."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from dbctl.cli.main import main
from docs.documents import read_rows
from tests.engines import lance
from tests.shapes import chat_lancedb

ROWS = read_rows("Chat with LanceDB")
COMMANDS = list(dict.fromkeys(command for row in ROWS for command in row.commands))
VALUES = {"CHAT": chat_lancedb.GARDEN, "MESSAGE": chat_lancedb.PLANTS, "ATTACHMENT": "att-1"}
EMBEDDER = f"""
[apps.chat-lancedb.embedder]
kind = "command"
command = ["{sys.executable}", "-c", "print([0.5] * 16)"]
"""


def test_every_operation_of_document_has_row() -> None:
    functions = {
        "userOps.create", "userOps.updateLastActive", "userOps.get", "userOps.updatePreferences", "chatOps.create",
        "chatOps.getByUser", "chatOps.getById", "chatOps.update", "chatOps.delete", "chatOps.setActive",
        "chatOps.getActive", "messageOps.create", "messageOps.getByChatId", "messageOps.getById",
        "messageOps.getByUserId", "messageOps.delete", "attachmentOps.create", "attachmentOps.getByMessageId",
        "attachmentOps.getById", "attachmentOps.delete", "searchChats", "searchChatHistory", "deleteChatEmbeddings",
        "deleteUserEmbeddings", "saveEmbedding", "db.optimize",
    }  # fmt: skip
    assert functions <= {name for row in ROWS for name in re.findall(r"([\w.]+)\(", row.function)}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_row_works(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    databases = f'[apps.chat-lancedb.databases]\nchat = "{chat_lancedb.document(tmp_path / "chat.db")}"\n'
    if re.search(r"--db vectors|vectors|semantic", command):
        databases += (
            f'vectors = "lancedb:{chat_lancedb.create_vectors(tmp_path / "lancedb", deployed=False)}"\n'
        )
    Path("dbctl.toml").write_text(
        f'[apps.chat-lancedb]\nprofile = "chat-lancedb"\n{databases}{EMBEDDER}', encoding="utf-8"
    )
    Path("own").mkdir()
    Path("vector.json").write_text(json.dumps([1.0] * lance.SIZE), encoding="utf-8")
    if command.startswith("restore"):
        assert main(["backup", "create", "--repository", "backups"]) == 0
    if command.startswith("migrate up --migrations own"):
        assert main(["migrate", "baseline"]) == 0
        assert main(["migrate", "new", "add-favorite", "--migrations", "own"]) == 0
        max(Path("own").rglob("*.sql")).write_text("create table notes (id integer primary key);\n")
    user = "USER-NEW" if command.startswith("users create") else chat_lancedb.ANON
    for name, value in {**VALUES, "ID": user}.items():
        command = re.sub(rf"\b{name}\b", value, command)
    capsys.readouterr()
    status = main([*shlex.split(command), "-o", "json"])
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("deployed", [False, True])
def test_semantic_result_has_metadata(
    deployed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = chat_lancedb.create_vectors(tmp_path / "lancedb", deployed=deployed)
    words = ["--profile", "chat-lancedb", "--url", f"vectors=lancedb:{folder}", "search", "semantic"]
    assert main([*words, "--similar-to", chat_lancedb.PLANTS, "-o", "json"]) == 0
    (first, *_) = json.loads(capsys.readouterr().out)["data"]["items"]
    document = {"model": "gemini-2.5-flash", "language": "en"}
    assert json.loads(first["metadata"]) == ({} if deployed else document)
