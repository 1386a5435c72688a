"""Results of semantic search and of the commands for vectors match their schemas."""

from __future__ import annotations

import json

import pytest

from dbctl.cli.main import main
from tests.cli.test_reference import validate
from tests.engines import lance
from tests.shapes import chat_lancedb


def test_semantic_search_matches_its_schema(tmp_path, capsys) -> None:
    chat_lancedb.deployed(tmp_path / "chat.db")
    lance.create_table(tmp_path / "lancedb")
    urls = ["--url", f"chat={tmp_path}/chat.db", "--url", f"vectors=lancedb:{tmp_path}/lancedb"]
    words = ["search", "semantic", "--similar-to", "msg-00003", "--limit", "3", "-o", "json"]
    assert main(["--profile", "chat-lancedb", *urls, *words]) == 0
    response = json.loads(capsys.readouterr().out)
    validate(response)
    assert [row["stored"] for row in response["data"]["items"]] == [False] * 3


@pytest.mark.parametrize("words", [["make"], ["make", "--dry-run"], ["store", "msg-1", "near.json"]])
def test_vector_commands_match_their_schema(words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    chat_lancedb.deployed(tmp_path / "data/chat.db")
    chat_lancedb.create_vectors(tmp_path / "data/lancedb")
    assert main(["init", "chat-lancedb"]) == 0
    (tmp_path / "near.json").write_text(json.dumps([1.0] * lance.SIZE))
    with (tmp_path / "dbctl.toml").open("a") as file:
        file.write('[apps.chat-lancedb.embedder]\nkind = "command"\ncommand = ["cat", "near.json"]\n')
    capsys.readouterr()
    assert main(["search", "vectors", *words, "--yes", "-o", "json"]) == 0
    response = json.loads(capsys.readouterr().out)
    validate(response)
